"""What a plan moves between HBM and the tiers behind it and computes anew, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memplan.core.units import format_bytes, format_change
from memplan.schema import Plan, PlannedOp, PlannedTensor, Tier
from memplan.schema.summary import tiers_in_words


@dataclass(frozen=True, slots=True)
class MoveAction:
    """One thing that the plan does with tensors of one kind: how many of them, bytes over the links, which layers."""

    action: str
    kind: str
    tensors: int
    nbytes: int
    layers: str

    def __str__(self) -> str:
        where = f" of layers {self.layers}" if self.layers else ""
        return f"{self.action}: {self.tensors} x {self.kind}{where}, {format_bytes(self.nbytes)}"


_ACTIONS = {
    (False, True): "stream in from {}",
    (True, False): "move out to {}",
    (True, True): "move out to {} and back",
}


def move_actions(plan: Plan) -> tuple[MoveAction, ...]:
    """What moves, by what is done with it and kind of tensor, most bytes first."""
    ways: dict[int, set[bool]] = {}
    nbytes: dict[int, int] = {}
    for transfer in plan.transfers:
        ways.setdefault(transfer.tensor, set()).add(transfer.source is Tier.HBM)
        nbytes[transfer.tensor] = nbytes.get(transfer.tensor, 0) + transfer.size
    where = {move.tensor: tiers_in_words((move.source, move.target)) for move in plan.transfers}
    groups: dict[tuple[str, str], list[PlannedTensor]] = {}
    for tensor in plan.tensors:
        if tensor.index in ways:
            way = ways[tensor.index]
            action = _ACTIONS[True in way, False in way].format(where[tensor.index])
            groups.setdefault((action, tensor.kind), []).append(tensor)
    found = [
        MoveAction(
            action,
            kind.replace("_", " "),
            len(members),
            sum(nbytes[tensor.index] for tensor in members),
            _ranges({layer for tensor in members if (layer := _layer(plan, tensor)) is not None}),
        )
        for (action, kind), members in groups.items()
    ]
    return tuple(sorted(found, key=lambda item: (-item.nbytes, item.action, item.kind)))


@dataclass(frozen=True, slots=True)
class RecomputeAction:
    """One kind of op that runs a second time: how often, the bytes that need not be kept for it, and what it takes."""

    part: str
    ops: int
    nbytes: int
    duration_ns: int
    slowdown: float
    layers: str

    def __str__(self) -> str:
        where = f" of layers {self.layers}" if self.layers else ""
        return f"recompute {self.part}{where}: {format_bytes(self.nbytes)}, {format_change(self.slowdown)}"


def recompute_actions(plan: Plan) -> tuple[RecomputeAction, ...]:
    """What runs a second time, by the part of a layer that it is, most bytes first."""
    spared = _spared(plan)
    groups: dict[str, list[PlannedOp]] = {}
    for op in plan.ops:
        if op.repeats is not None:
            groups.setdefault(op.part or op.type, []).append(op)
    once = max(sum(op.duration_ns for op in plan.ops if op.repeats is None), 1)
    found = [
        RecomputeAction(
            part,
            len(ops),
            sum(spared.get(op.index, 0) for op in ops),
            sum(op.duration_ns for op in ops),
            sum(op.duration_ns for op in ops) / once,
            _ranges({op.layer for op in ops if op.layer is not None}),
        )
        for part, ops in groups.items()
    ]
    return tuple(sorted(found, key=lambda item: (-item.nbytes, item.part)))


def _spared(plan: Plan) -> dict[int, int]:
    """By step of an op that runs again, the bytes that were not in HBM until it made them anew."""
    ends: dict[int, set[int]] = {}
    begins: dict[int, set[int]] = {}
    for place in plan.placements:
        if place.tier is Tier.HBM:
            ends.setdefault(place.tensor, set()).add(place.end)
            begins.setdefault(place.tensor, set()).add(place.start)
    size = {tensor.index: tensor.nbytes for tensor in plan.tensors}
    return {
        op.index: sum(
            size[tensor]
            for tensor in op.writes or ()
            if op.index in begins.get(tensor, ()) and any(end < op.index for end in ends[tensor])
        )
        for op in plan.ops
        if op.repeats is not None
    }


def _layer(plan: Plan, tensor: PlannedTensor) -> int | None:
    """The layer of the first op that uses the tensor and is of one."""
    return next((plan.ops[step].layer for step in tensor.uses if plan.ops[step].layer is not None), None)


def _ranges(layers: Iterable[int]) -> str:
    """Numbers as `0-3, 7`."""
    spans: list[list[int]] = []
    for layer in sorted(layers):
        if spans and layer == spans[-1][1] + 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
