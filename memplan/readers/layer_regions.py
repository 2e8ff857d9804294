"""Stretches of a schedule that repeat once a layer, found by what their ops do and whose weights they use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memplan.graph.model import Graph, Op

TAKES = "takes"
"""
Attribute of the ops of a graph whose order is still to be found: the steps that each takes, data or not, in the order
of its inputs.
"""
UNSTABLE = frozenset({"after", "listed", "unique_id", "forward_id", "forward_name", "recompute_id", TAKES})
"""Attributes that tell one op from another that does the same."""
_NUMBERED = re.compile(r"^(.*?)(?<![^.])(\d{1,9})(\..+)$")

Key = tuple[object, ...]
"""What a tensor is within its layer: the same in every layer."""
Label = tuple[Key, int]
"""What something is in its layer, and the layer."""


@dataclass(frozen=True, slots=True)
class Region:
    """`repeats` stretches of `period` ops from step `start`; stretch `b` belongs to layer `first + stride * b`."""

    start: int
    period: int
    repeats: int
    first: int
    stride: int

    def layer(self, block: int) -> int:
        """The layer that stretch `block` belongs to."""
        return self.first + self.stride * block

    @property
    def layers(self) -> range:
        """All layers of the region, lowest first."""
        ends = (self.layer(0), self.layer(self.repeats - 1))
        return range(min(ends), max(ends) + 1)

    @property
    def stop(self) -> int:
        """The step after the last stretch."""
        return self.start + self.period * self.repeats

    def places(self) -> Mapping[int, tuple[int, int]]:
        """Of every step in it, which stretch it is in and which op of that."""
        return {
            self.start + block * self.period + offset: (block, offset)
            for block in range(self.repeats)
            for offset in range(self.period)
        }


def layered_weights(graph: Graph) -> dict[int, Label]:
    """Tensors that exist before the start and carry a layer number: `("weight", name without it)`, and the number."""
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
    return {tensor: (("weight", label), layer) for tensor, (label, layer) in found.items() if label in whole}


def layer_regions(graph: Graph, weights: Mapping[int, Label], count: int) -> list[Region]:
    """
    Stretches of the schedule that repeat once a layer, in order of the schedule, none overlapping.

    `weights` are those of `count` layers. Longer stretches come first; then such as use no layer's weights but what
    the ones that were found make: a gradient's part that needs the forward pass alone.
    """
    stretches = _stretches(graph, max(2, count - 2))
    chosen: list[Region] = []
    results: dict[int, Label] = {}
    steps: dict[int, Label] = {}

    def of_weights(op: Op) -> list[Label | None]:
        return [weights.get(graph.tensors[tensor].storage) for tensor in op.inputs]

    def of_results(op: Op) -> list[Label | None]:
        taken = [steps.get(step) for step in taken_steps(op)]
        return [*of_weights(op), *(results.get(tensor) for tensor in op.inputs), *taken]

    for labels in (of_weights, of_results):
        while True:
            found = _chosen(graph, stretches, count, labels, chosen)
            chosen += found
            for region in found:
                for step, (block, offset) in region.places().items():
                    layer = region.layer(block)
                    steps[step] = ((region.start, offset), layer)
                    for position, tensor in enumerate(graph.ops[step].outputs):
                        results[tensor] = ((region.start, offset, position), layer)
            if not found or labels is of_weights:
                break
    return sorted(chosen, key=lambda region: region.start)


def taken_steps(op: Op) -> tuple[int, ...]:
    """The steps that an op of a graph without order takes; none where the order is known."""
    found = op.attrs.get(TAKES, ())
    return tuple(step for step in found if isinstance(step, int)) if isinstance(found, tuple) else ()


def _stretches(graph: Graph, least: int) -> list[tuple[int, int, int]]:
    """Where ops do the same as those `period` later: `(period, begin, end)`, for all that may hold `least` repeats."""
    numbers: dict[Key, int] = {}
    signature = np.fromiter(
        (numbers.setdefault(_signature(graph, op), len(numbers)) for op in graph.ops), np.int64, len(graph.ops)
    )
    found = []
    for period in range(1, len(signature) // least + 1):
        for begin, end in _equal_runs(signature, period):
            if (end - begin) // period + 1 >= least:
                found.append((period, begin, end))
    return found


def _equal_runs(signature: NDArray[np.int64], period: int) -> list[tuple[int, int]]:
    same = np.concatenate(([0], (signature[:-period] == signature[period:]).astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(same))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _chosen(
    graph: Graph,
    stretches: list[tuple[int, int, int]],
    count: int,
    labels: Callable[[Op], list[Label | None]],
    taken: list[Region],
) -> list[Region]:
    """Regions among `stretches` whose ops' `labels` go on layer by layer, longest first, clear of those `taken`."""
    least = max(2, count - 2)
    found: list[Region] = []
    for period, begin, end in stretches:
        for start in range(begin, end):
            repeats = (end - start) // period + 1
            if repeats < least:
                break
            if any(start < region.stop and region.start < start + period * least for region in taken):
                continue
            region = _layered(graph, start, period, min(repeats, count), labels)
            if region is not None:
                found.append(region)
                break
    found.sort(key=lambda region: (-region.period * region.repeats, region.start, region.period))
    chosen: list[Region] = []
    for region in found:
        if all(region.stop <= other.start or other.stop <= region.start for other in (*taken, *chosen)):
            chosen.append(region)
    return chosen


def _signature(graph: Graph, op: Op) -> Key:
    """What makes two ops the same but for the layer they belong to."""
    shapes = tuple((graph.tensors[t].shape, graph.tensors[t].dtype) for t in (*op.inputs, *op.outputs))
    attrs = tuple(sorted((key, repr(value)) for key, value in op.attrs.items() if key not in UNSTABLE))
    return op.type, op.launches, len(op.inputs), shapes, op.stream, op.workspace_bytes, attrs


def _layered(
    graph: Graph, start: int, period: int, repeats: int, labels: Callable[[Op], list[Label | None]]
) -> Region | None:
    """The stretches as a region, if from each to the next everything with a label is that of the next layer."""
    first: int | None = None
    stride: int | None = None
    for offset in range(period):
        rows = [labels(graph.ops[start + block * period + offset]) for block in range(repeats)]
        for entries in zip(*rows, strict=False):
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
    return Region(start, period, repeats, first, stride)
