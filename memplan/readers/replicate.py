"""
A graph captured with a few equal layers, extended to many.

Layers are told by the numbers in their weights' names. In the schedule they appear as stretches of ops that repeat,
once a layer, forwards or backwards. More of them are put between two inner ones, and everything a new layer refers to
is the same thing one layer on. Where the layers don't repeat exactly, that is an error, not an estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.layer_regions import (
    TAKES,
    UNSTABLE,
    Key,
    Label,
    Region,
    layer_regions,
    layered_weights,
    taken_steps,
)

_LEAST_LAYERS = 4
"""The first and the last layer may differ from the rest; two inner ones must agree."""

_REMEDY = "capture it with more layers, or in full"
_CONTROL = frozenset({"LoopBegin", "LoopEnd", "KeepAlive", "Switch"})


def replicate_layers(graph: Graph, layers: int) -> Graph:
    """
    `graph` with its repeated layers extended to `layers` in all.

    Raises `InputError` when the graph has no numbered layers, fewer than four, more than `layers`, or layers that
    don't repeat in the schedule.
    """
    weights = layered_weights(graph)
    count = 1 + max((layer for _, layer in weights.values()), default=-1)
    if count < _LEAST_LAYERS:
        raise InputError(
            "{} numbered layers are too few to tell what repeats",
            count,
            remedy=Sentence("capture {} or more", (_LEAST_LAYERS,)),
        )
    if layers < count:
        raise InputError(
            "the graph has {} layers, more than {}", count, layers, remedy=Sentence("ask for at least {}", (count,))
        )
    if any(op.type in _CONTROL for op in graph.ops):
        raise InputError("layers around conditions and loops can't be replicated", remedy="capture the model in full")
    if layers == count:
        return graph
    return _Extension(graph, weights, count, layers - count).result()


class _Extension:
    """One extension under way: where each op and tensor belongs, and what it becomes."""

    def __init__(self, graph: Graph, weights: dict[int, Label], count: int, extra: int) -> None:
        self.graph = graph
        self.weights = weights
        self.extra = extra
        self.regions = layer_regions(graph, weights, count)
        if not self.regions:
            raise InputError("no stretch of the schedule repeats once a layer", remedy=_REMEDY)
        low = max(region.layers[0] for region in self.regions)
        high = min(region.layers[-1] for region in self.regions)
        if high - low < 1:
            raise InputError("the repeated stretches have no two layers in common", remedy=_REMEDY)
        self.split = (low + high - 1) // 2
        self.place = {
            step: (region, block, offset)
            for region in self.regions
            for step, (block, offset) in region.places().items()
        }
        self.new_step: dict[Key, int] = {}
        self.identity = dict(weights)
        for step, (region, block, offset) in self.place.items():
            for position, tensor in enumerate(graph.ops[step].outputs):
                self.identity[tensor] = ((region.start, offset, position), region.layer(block))
        for region in self.regions:
            self._identify_constants(region)
        self.by_identity = {entry: tensor for tensor, entry in self.identity.items()}
        self._check_outside()
        self.tensors: list[Tensor] = list(graph.tensors)
        self.made: dict[tuple[Key, int], int] = {}

    def _identify_constants(self, region: Region) -> None:
        """Constants that every layer has its own of belong to their layer, like weights."""
        for offset in range(region.period):
            steps = [region.start + block * region.period + offset for block in range(region.repeats)]
            for position in range(len(self.graph.ops[steps[0]].inputs)):
                used = [self.graph.ops[step].inputs[position] for step in steps]
                if len(set(used)) < len(used) or any(tensor in self.identity for tensor in used):
                    continue
                if all(self.graph.tensors[tensor].kind is TensorKind.CONSTANT for tensor in used):
                    key: Key = ("constant", region.start, offset, position)
                    for block, tensor in enumerate(used):
                        self.identity[tensor] = (key, region.layer(block))

    def _check_outside(self) -> None:
        """Ops outside of the repeated stretches may touch the first and last layers, or all at once, not one by one."""
        seen: dict[tuple[str, Key], set[int]] = {}
        for op in self.graph.ops:
            if op.index in self.place:
                continue
            own: dict[Key, set[int]] = {}
            for tensor in (*op.inputs, *op.outputs):
                entry = self.identity.get(tensor) or self.identity.get(self.graph.tensors[tensor].storage)
                if entry is not None and op.launches:
                    own.setdefault(entry[0], set()).add(entry[1])
            for key, layers in own.items():
                if not {self.split, self.split + 1} <= layers:  # else it gathers: a norm over all gradients
                    seen.setdefault((op.type, key), set()).update(layers)
        for (kind, _), layers in seen.items():
            if len(layers) > 2:
                raise InputError("{} runs for every layer but not in their rhythm", kind, remedy=_REMEDY)

    def result(self) -> Graph:
        """The extended graph."""
        plan = list(self._schedule())
        for place, (step, new) in enumerate(plan):
            if new is not None:
                self._make_outputs(step, new)
            self.new_step[self._step_key(step, new)] = place
        ops = [self._op(step, new, place) for place, (step, new) in enumerate(plan)]
        self._settle_storages(plan)
        outputs = tuple(
            dict.fromkeys(self._gathered(self.graph.outputs, self.identity.get, self._absolute, self._required))
        )
        notes = [f"captured with fewer layers and extended by {self.extra}"]
        stacks = sorted({label.partition("#")[0].rpartition(".")[2] or label for label in self._stacks()})
        if len(stacks) > 1:
            notes.append(f"{len(stacks)} stacks of layers ({', '.join(stacks[:4])}) were each extended by {self.extra}")
        return replace(
            self.graph,
            ops=tuple(ops),
            tensors=tuple(self.tensors),
            outputs=tuple(dict.fromkeys(outputs)),
            notes=(*self.graph.notes, *notes),
        )

    def _stacks(self) -> set[str]:
        """What stands before the layer's number in names of weights; optimiser states are of their weight's stack."""
        heads = {str(key[1]).partition("#")[0].rstrip(".") for key, _ in self.weights.values()}
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
                new = self._moved(layer)
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
            key: Key = (region.start, offset, position)
            self.made[key, new] = self._copy(tensor, old, new)

    def _copy(self, tensor: int, old: int, new: int) -> int:
        """The tensor that stands for `tensor` of layer `old` in layer `new`; old layers keep theirs."""
        kept = self._moved(old)
        source = self.graph.tensors[tensor]
        if new == kept:
            self.tensors[tensor] = replace(source, name=_renumbered(source.name, old, new))
            return tensor
        index = len(self.tensors)
        self.tensors.append(replace(source, index=index, storage=index, name=_renumbered(source.name, old, new)))
        return index

    def _in_layer(self, key: Key, layer: int) -> int | None:
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
        return self._required(key, self._moved(layer))

    def _moved(self, layer: int) -> int:
        """The number that a layer of the captured graph has in the extended one."""
        return layer if layer <= self.split else layer + self.extra

    def _required(self, key: Key, layer: int) -> int:
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

    def _op(self, step: int, new: int | None, place: int) -> Op:
        op = self.graph.ops[step]
        attrs = {key: value for key, value in op.attrs.items() if key not in UNSTABLE}
        if new is None:
            inputs = tuple(self._gathered(op.inputs, self.identity.get, self._absolute, self._required))
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
        after = self._steps(step, new, _steps_after, lambda _: False)
        if after:
            attrs["after"] = tuple(sorted({item for item in after if item < place}))
        if TAKES in op.attrs:
            attrs[TAKES] = tuple(self._steps(step, new, taken_steps, _is_scheduled))
        for tensor in outputs:
            if self.tensors[tensor].producer is not None:
                self.tensors[tensor] = replace(self.tensors[tensor], producer=place)
        writes = tuple(inputs[op.inputs.index(tensor)] for tensor in op.writes)
        return replace(op, index=place, name=name, inputs=inputs, outputs=outputs, attrs=attrs, writes=writes)

    def _steps(
        self, step: int, new: int | None, named: Callable[[Op], Sequence[int]], ordered: Callable[[Op], bool]
    ) -> list[int]:
        """
        What the steps that op `step` names are for its copy in layer `new`, or for the op outside of the layers.

        `ordered` says of which ops it matters in which order they are named.
        """
        items = named(self.graph.ops[step])
        if new is None:
            first = [item for item in items if ordered(self.graph.ops[item])]
            found = self._gathered(first, self._step_label, self._step_now, self._step_in_layer)
            rest = [item for item in items if not ordered(self.graph.ops[item])]
            return [*found, *map(self._step_now, rest), *self._in_new_layers(rest)]
        region, block, _ = self.place[step]
        old, peer = region.layer(block), self._peer(step)
        others = named(peer) if peer is not None else ()
        found = []
        for position, item in enumerate(items):
            label = self._step_label(item)
            other = others[position] if len(others) == len(items) else None
            if label is None or other == item:
                found.append(self._step_now(item))
            else:
                found.append(self._step_in_layer(label[0], label[1] + new - old))
        return found

    def _step_label(self, step: int) -> Label | None:
        if step not in self.place:
            return None
        region, block, offset = self.place[step]
        return (region.start, offset), region.layer(block)

    def _step_key(self, step: int, new: int | None) -> Key:
        """What names a step of the extended schedule."""
        label = self._step_label(step)
        return (step,) if label is None or new is None else (*label[0], new)

    def _step_now(self, step: int) -> int:
        """The step of the extended schedule that `step` is, of the layer counted from the end it is nearer to."""
        label = self._step_label(step)
        return self.new_step[(step,)] if label is None else self._step_in_layer(label[0], self._moved(label[1]))

    def _step_in_layer(self, key: Key, layer: int) -> int:
        found = self.new_step.get((*key, layer))
        if found is None:
            raise InputError("a layer waits for what another layer doesn't have", remedy=_REMEDY)
        return found

    def _in_new_layers(self, items: Sequence[int]) -> list[int]:
        """Of steps that are named of more layers than the first and the last, those of the new layers."""
        layers: dict[Key, set[int]] = {}
        for key, layer in filter(None, map(self._step_label, items)):
            layers.setdefault(key, set()).add(layer)
        inner = [key for key, seen in layers.items() if {self.split, self.split + 1} <= seen]
        added = range(self.split + 1, self.split + self.extra + 1)
        return [self._step_in_layer(key, new) for key in inner for new in added]

    def _gathered(
        self,
        items: Sequence[int],
        label: Callable[[int], Label | None],
        now: Callable[[int], int],
        of_layer: Callable[[Key, int], int],
    ) -> list[int]:
        """
        What something outside of the layers names, with what the new layers add to it.

        Where it names the same of every layer, layer by layer, it names them of the new layers too. What is named of
        the first and last layers alone stays with these.
        """
        runs = [(layer, list(run)) for layer, run in groupby(items, lambda item: (label(item) or ((), None))[1])]
        found: list[int] = []
        gathered = False
        for place, (layer, run) in enumerate(runs):
            found += map(now, run)
            later, following = runs[place + 1] if place + 1 < len(runs) else (None, [])
            if layer is None or later is None or {layer, later} != {self.split, self.split + 1}:
                continue
            keys = [own[0] for item in run if (own := label(item)) is not None]
            if keys != [own[0] for item in following if (own := label(item)) is not None]:
                raise InputError("what the layers hand on differs between neighbours", remedy=_REMEDY)
            added = range(self.split + 1, self.split + self.extra + 1)
            for new in added if layer == self.split else reversed(added):
                found += [of_layer(key, new) for key in keys]
            gathered = True
        if not gathered and len({layer for layer, _ in runs if layer is not None}) > 2:
            raise InputError("what the layers hand on is gathered in another order than theirs", remedy=_REMEDY)
        return found

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


def _is_scheduled(op: Op) -> bool:
    """Whether the order knows the op: what launches nothing and waits for nothing stands before its first user."""
    return op.launches or bool(taken_steps(op))


def _steps_after(op: Op) -> Sequence[int]:
    after = op.attrs.get("after", ())
    return [step for step in after if isinstance(step, int)] if isinstance(after, tuple) else ()


def _renumbered(name: str, old: int, new: int) -> str:
    """`name` with its first component numbered `old` numbered `new`."""
    return re.sub(rf"(?<![^./]){old}(?=[-.])", str(new), name, count=1)
