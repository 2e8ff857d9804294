"""
A graph captured with a few equal layers, extended to many.

Layers are told by the numbers in their weights' names. In the schedule they appear as stretches of ops that repeat,
once a layer, forwards or backwards. More of them are put between two inner ones, and everything a new layer refers to
is the same thing one layer on. Where the layers don't repeat exactly, that is an error, not an estimate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from memplan.core.errors import InputError
from memplan.graph.model import Graph, Op, Tensor, TensorKind

_LEAST_LAYERS = 4
"""The first and the last layer may differ from the rest; two inner ones must agree."""

_REMEDY = "capture it with more layers, or in full"
_UNSTABLE = frozenset({"after", "listed", "unique_id", "forward_id", "forward_name", "recompute_id"})
_NUMBERED = re.compile(r"^(.*?)(?<![^.])(\d+)(\..+)$")
_CONTROL = frozenset({"LoopBegin", "LoopEnd", "KeepAlive", "Switch"})

_Key = tuple[object, ...]
"""What a tensor is within its layer: the same in every layer."""


@dataclass(frozen=True, slots=True)
class _Region:
    """`repeats` stretches of `period` ops from step `start`; stretch `b` belongs to layer `first + stride * b`."""

    start: int
    period: int
    repeats: int
    first: int
    stride: int

    def layer(self, block: int) -> int:
        return self.first + self.stride * block

    @property
    def layers(self) -> range:
        ends = (self.layer(0), self.layer(self.repeats - 1))
        return range(min(ends), max(ends) + 1)

    @property
    def stop(self) -> int:
        return self.start + self.period * self.repeats


def replicate_layers(graph: Graph, layers: int) -> Graph:
    """
    `graph` with its repeated layers extended to `layers` in all.

    Raises `InputError` when the graph has no numbered layers, fewer than four, more than `layers`, or layers that
    don't repeat in the schedule.
    """
    weights = _layered_weights(graph)
    count = 1 + max((layer for _, layer in weights.values()), default=-1)
    if count < _LEAST_LAYERS:
        raise InputError(
            f"{count} numbered layers are too few to tell what repeats", remedy=f"capture {_LEAST_LAYERS} or more"
        )
    if layers < count:
        raise InputError(f"the graph has {count} layers, more than {layers}", remedy=f"ask for at least {count}")
    if any(op.type in _CONTROL for op in graph.ops):
        raise InputError("layers around conditions and loops can't be replicated", remedy="capture the model in full")
    if layers == count:
        return graph
    return _Extension(graph, weights, count, layers - count).result()


def _layered_weights(graph: Graph) -> dict[int, tuple[str, int]]:
    """Tensors that exist before the start and carry a layer number: their name without it, and the number."""
    found: dict[int, tuple[str, int]] = {}
    for tensor in graph.tensors:
        match = _NUMBERED.match(tensor.name) if tensor.producer is None and tensor.kind.persistent else None
        if match is not None and tensor.storage == tensor.index:
            found[tensor.index] = (f"{match[1]}#{match[3]}", int(match[2]))
    numbers: dict[str, set[int]] = {}
    for label, layer in found.values():
        numbers.setdefault(label, set()).add(layer)
    if not numbers:
        return {}
    # Other numbered things (experts, heads of a stem) differ in how many there are; the layers are the deepest.
    depth = max(len(seen) for seen in numbers.values())
    whole = {label for label, seen in numbers.items() if seen == set(range(depth))}
    return {tensor: entry for tensor, entry in found.items() if entry[0] in whole}


class _Extension:
    """One extension under way: where each op and tensor belongs, and what it becomes."""

    def __init__(self, graph: Graph, weights: dict[int, tuple[str, int]], count: int, extra: int) -> None:
        self.graph = graph
        self.weights = weights
        self.extra = extra
        self.regions = _regions(graph, weights, count)
        if not self.regions:
            raise InputError("no stretch of the schedule repeats once a layer", remedy=_REMEDY)
        low = max(region.layers[0] for region in self.regions)
        high = min(region.layers[-1] for region in self.regions)
        if high - low < 1:
            raise InputError("the repeated stretches have no two layers in common", remedy=_REMEDY)
        self.split = (low + high - 1) // 2
        self.place: dict[int, tuple[_Region, int, int]] = {}
        for region in self.regions:
            for block in range(region.repeats):
                for offset in range(region.period):
                    self.place[region.start + block * region.period + offset] = (region, block, offset)
        self.identity: dict[int, tuple[_Key, int]] = {
            tensor: (("weight", label), layer) for tensor, (label, layer) in weights.items()
        }
        for step, (region, block, offset) in self.place.items():
            for position, tensor in enumerate(graph.ops[step].outputs):
                self.identity[tensor] = ((region.start, offset, position), region.layer(block))
        for region in self.regions:
            self._identify_constants(region)
        self.by_identity = {entry: tensor for tensor, entry in self.identity.items()}
        self._check_outside()
        self.tensors: list[Tensor] = list(graph.tensors)
        self.made: dict[tuple[_Key, int], int] = {}

    def _identify_constants(self, region: _Region) -> None:
        """Constants that every layer has its own of belong to their layer, like weights."""
        for offset in range(region.period):
            steps = [region.start + block * region.period + offset for block in range(region.repeats)]
            for position in range(len(self.graph.ops[steps[0]].inputs)):
                used = [self.graph.ops[step].inputs[position] for step in steps]
                if len(set(used)) < len(used) or any(tensor in self.identity for tensor in used):
                    continue
                if all(self.graph.tensors[tensor].kind is TensorKind.CONSTANT for tensor in used):
                    key: _Key = ("constant", region.start, offset, position)
                    for block, tensor in enumerate(used):
                        self.identity[tensor] = (key, region.layer(block))

    def _check_outside(self) -> None:
        """Ops outside of the repeated stretches may touch the first and last layers, never one after another."""
        seen: dict[tuple[str, _Key], set[int]] = {}
        for op in self.graph.ops:
            if op.index in self.place:
                continue
            for tensor in (*op.inputs, *op.outputs):
                entry = self.identity.get(tensor) or self.identity.get(self.graph.tensors[tensor].storage)
                if entry is not None and op.launches:
                    seen.setdefault((op.type, entry[0]), set()).add(entry[1])
        for (kind, _), layers in seen.items():
            if len(layers) > 2:
                raise InputError(f"{kind} runs for every layer but not in their rhythm", remedy=_REMEDY)

    def result(self) -> Graph:
        """The extended graph."""
        plan = list(self._schedule())
        layer_now = {step: layer for step, layer in plan if layer is not None}
        for step, new in plan:
            if new is not None:
                self._make_outputs(step, new)
        ops: list[Op] = []
        index_of: dict[tuple[int, int | None], int] = {entry: place for place, entry in enumerate(plan)}
        for place, (step, new) in enumerate(plan):
            ops.append(self._op(step, new, place, index_of, layer_now))
        self._settle_storages(plan)
        outputs = tuple(dict.fromkeys(self._absolute(tensor) for tensor in self.graph.outputs))
        notes = [f"captured with fewer layers and extended by {self.extra}"]
        stacks = sorted({label.partition("#")[0].rpartition(".")[2] or label for label in self._stacks()})
        if len(stacks) > 1:
            notes.append(f"{len(stacks)} stacks of layers ({', '.join(stacks[:4])}) were each extended by {self.extra}")
        return replace(
            self.graph, ops=tuple(ops), tensors=tuple(self.tensors), outputs=outputs, notes=(*self.graph.notes, *notes)
        )

    def _stacks(self) -> set[str]:
        """What stands before the layer's number in names of weights; optimiser states are of their weight's stack."""
        heads = {label.partition("#")[0].rstrip(".") for label, _ in self.weights.values()}
        return {head for head in heads if not any(head != other and head.endswith(f".{other}") for other in heads)}

    def _schedule(self) -> Iterator[tuple[int, int | None]]:
        """Old steps in the new order, each with the layer it has there (`None` outside of the stretches)."""
        step = 0
        starts = {region.start: region for region in self.regions}
        while step < len(self.graph.ops):
            region = starts.get(step)
            if region is None:
                yield step, None
                step += 1
                continue
            for block in range(region.repeats):
                layer = region.layer(block)
                new = layer if layer <= self.split else layer + self.extra
                copies = [new]
                if layer == self.split:
                    added = range(self.split + 1, self.split + self.extra + 1)
                    copies = [new, *added] if region.stride > 0 else [*reversed(added), new]
                for copy in copies:
                    for offset in range(region.period):
                        yield region.start + block * region.period + offset, copy
            step = region.stop

    def _make_outputs(self, step: int, new: int) -> None:
        region, block, offset = self.place[step]
        old = region.layer(block)
        for position, tensor in enumerate(self.graph.ops[step].outputs):
            key: _Key = (region.start, offset, position)
            self.made[key, new] = self._copy(tensor, old, new)

    def _copy(self, tensor: int, old: int, new: int) -> int:
        """The tensor that stands for `tensor` of layer `old` in layer `new`; old layers keep theirs."""
        kept = old if old <= self.split else old + self.extra
        source = self.graph.tensors[tensor]
        if new == kept:
            self.tensors[tensor] = replace(source, name=_renumbered(source.name, old, new))
            return tensor
        index = len(self.tensors)
        self.tensors.append(replace(source, index=index, storage=index, name=_renumbered(source.name, old, new)))
        return index

    def _in_layer(self, key: _Key, layer: int) -> int | None:
        """The tensor `key` of `layer` in the extended graph."""
        found = self.made.get((key, layer))
        if found is None and key[0] in ("weight", "constant"):
            old = layer if layer <= self.split else max(self.split, layer - self.extra)
            source = self.by_identity.get((key, old))
            if source is not None:
                found = self.made[key, layer] = self._copy(source, old, layer)
        return found

    def _absolute(self, tensor: int) -> int:
        """What an op outside of the layers means by `tensor`: the layer counted from the end it is nearer to."""
        entry = self.identity.get(tensor)
        if entry is None:
            return tensor
        key, layer = entry
        return self._required(key, layer if layer <= self.split else layer + self.extra)

    def _required(self, key: _Key, layer: int) -> int:
        found = self._in_layer(key, layer)
        if found is None:
            raise InputError("a layer refers to what another layer doesn't have", remedy=_REMEDY)
        return found

    def _reference(self, tensor: int, peer: int | None, old: int, new: int) -> int:
        """
        What `tensor`, used in layer `old`, is for layer `new`.

        `peer` is what the neighbouring layer uses in its place: the same tensor for all layers, or the same thing of
        another layer. Raises `InputError` when it is neither.
        """
        entry = self.identity.get(tensor)
        if peer == tensor or entry is None:
            if old in (self.split, self.split + 1) and peer is not None and peer != tensor:
                raise InputError("neighbouring layers use different things", remedy=_REMEDY)
            return self._absolute(tensor)
        key, layer = entry
        other = self.identity.get(peer) if peer is not None else None
        if old in (self.split, self.split + 1):
            towards = 1 if old == self.split else -1
            if other is None or other[0] != key or other[1] - layer != towards:
                raise InputError("neighbouring layers use different things", remedy=_REMEDY)
        return self._required(key, layer + new - old)

    def _peer(self, step: int) -> Op | None:
        """The op of the neighbouring inner layer that does what op `step` does."""
        region, block, _ = self.place[step]
        old = region.layer(block)
        towards = 1 if old <= self.split else -1
        other = block + towards * region.stride
        if not 0 <= other < region.repeats:
            return None
        return self.graph.ops[step + (other - block) * region.period]

    def _op(
        self,
        step: int,
        new: int | None,
        place: int,
        index_of: dict[tuple[int, int | None], int],
        layer_now: dict[int, int],
    ) -> Op:
        op = self.graph.ops[step]
        attrs = {key: value for key, value in op.attrs.items() if key not in _UNSTABLE}
        if new is None:
            inputs = tuple(self._absolute(tensor) for tensor in op.inputs)
            outputs = tuple(self._absolute(tensor) for tensor in op.outputs)
            name = op.name
        else:
            region, block, offset = self.place[step]
            old, peer = region.layer(block), self._peer(step)
            inputs = tuple(
                self._reference(tensor, peer.inputs[position] if peer else None, old, new)
                for position, tensor in enumerate(op.inputs)
            )
            outputs = tuple(self.made[(region.start, offset, q), new] for q in range(len(op.outputs)))
            name = _renumbered(op.name, old, new)
        after = op.attrs.get("after")
        if isinstance(after, tuple):
            steps = (index_of.get((item, layer_now.get(item))) for item in after if isinstance(item, int))
            attrs["after"] = tuple(sorted(item for item in steps if item is not None and item < place))
        for tensor in outputs:
            if self.tensors[tensor].producer is not None:
                self.tensors[tensor] = replace(self.tensors[tensor], producer=place)
        writes = tuple(inputs[op.inputs.index(tensor)] for tensor in op.writes)
        return replace(op, index=place, name=name, inputs=inputs, outputs=outputs, attrs=attrs, writes=writes)

    def _settle_storages(self, plan: list[tuple[int, int | None]]) -> None:
        """Let views and in-place results occupy what they occupy in their own layer."""
        for step, new in plan:
            op = self.graph.ops[step]
            for position, tensor in enumerate(op.outputs):
                root = self.graph.tensors[tensor].storage
                if new is None:
                    made, target = self._absolute(tensor), self._absolute(root)
                else:
                    region, block, offset = self.place[step]
                    made = self.made[(region.start, offset, position), new]
                    if root == tensor:
                        target = made
                    else:
                        peer = self._peer(step)
                        other = self.graph.tensors[peer.outputs[position]].storage if peer else None
                        target = self._reference(root, other, region.layer(block), new)
                if self.tensors[made].storage != target:
                    self.tensors[made] = replace(self.tensors[made], storage=target)


def _renumbered(name: str, old: int, new: int) -> str:
    """`name` with its first component numbered `old` numbered `new`."""
    return re.sub(rf"(?<![^./]){old}(?=[-.])", str(new), name, count=1)


def _regions(graph: Graph, weights: dict[int, tuple[str, int]], count: int) -> list[_Region]:
    """Stretches of the schedule that repeat once a layer, longest first, none overlapping."""
    numbers: dict[_Key, int] = {}
    signature = np.fromiter(
        (numbers.setdefault(_signature(graph, op), len(numbers)) for op in graph.ops), np.int64, len(graph.ops)
    )
    least = max(2, count - 2)
    found: list[_Region] = []
    for period in range(1, len(signature) // least + 1):
        same = np.concatenate(([0], (signature[:-period] == signature[period:]).astype(np.int8), [0]))
        edges = np.flatnonzero(np.diff(same))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            for start in range(begin, min(begin + period, end)):
                repeats = (end - start) // period + 1
                if repeats < least:
                    break
                region = _layered(graph, weights, start, period, min(repeats, count))
                if region is not None:
                    found.append(region)
                    break
    found.sort(key=lambda region: (-region.period * region.repeats, region.start, region.period))
    chosen: list[_Region] = []
    for region in found:
        if all(region.stop <= other.start or other.stop <= region.start for other in chosen):
            chosen.append(region)
    return sorted(chosen, key=lambda region: region.start)


def _signature(graph: Graph, op: Op) -> _Key:
    """What makes two ops the same but for the layer they belong to."""
    shapes = tuple((graph.tensors[t].shape, graph.tensors[t].dtype) for t in (*op.inputs, *op.outputs))
    attrs = tuple(sorted((key, repr(value)) for key, value in op.attrs.items() if key not in _UNSTABLE))
    return op.type, op.launches, len(op.inputs), shapes, op.stream, op.workspace_bytes, attrs


def _layered(
    graph: Graph, weights: dict[int, tuple[str, int]], start: int, period: int, repeats: int
) -> _Region | None:
    """The stretches as a region, if from each to the next every layered weight is that of the next layer."""
    first: int | None = None
    stride: int | None = None
    for offset in range(period):
        ops = [graph.ops[start + block * period + offset] for block in range(repeats)]
        for position in range(len(ops[0].inputs)):
            entries = [weights.get(graph.tensors[op.inputs[position]].storage) for op in ops]
            if entries[0] is None:
                if any(entry is not None for entry in entries):
                    return None
                continue
            if any(entry is None or entry[0] != entries[0][0] for entry in entries):
                return None
            layers = [entry[1] for entry in entries if entry is not None]
            step = layers[1] - layers[0]
            if abs(step) != 1 or any(b - a != step for a, b in pairwise(layers)):
                return None
            if stride is None:
                first, stride = layers[0], step
            elif step != stride:
                return None
    if first is None or stride is None:
        return None
    return _Region(start, period, repeats, first, stride)
