"""What a plan moves between HBM and the host, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memplan.core.units import format_bytes
from memplan.schema import Plan, PlannedTensor, Tier


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
    (False, True): "stream in from the host",
    (True, False): "move out to the host",
    (True, True): "move out to the host and back",
}


def move_actions(plan: Plan) -> tuple[MoveAction, ...]:
    """What moves, by what is done with it and kind of tensor, most bytes first."""
    ways: dict[int, set[bool]] = {}
    nbytes: dict[int, int] = {}
    for transfer in plan.transfers:
        ways.setdefault(transfer.tensor, set()).add(transfer.source is Tier.HBM)
        nbytes[transfer.tensor] = nbytes.get(transfer.tensor, 0) + transfer.size
    groups: dict[tuple[str, str], list[PlannedTensor]] = {}
    for tensor in plan.tensors:
        if tensor.index in ways:
            way = ways[tensor.index]
            groups.setdefault((_ACTIONS[True in way, False in way], tensor.kind), []).append(tensor)
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
