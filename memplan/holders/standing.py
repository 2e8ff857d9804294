"""What a plan holds throughout a step (weights, optimiser states, gradient buffers, caches), and its kinds of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.align.classes.op_families import families_of, family_table
from memplan.schema import Plan, PlannedTensor, Tier

COMMUNICATION_KIND = "communication"
"""What a collective writes, beside the kinds of `memplan.graph.TensorKind`."""


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A storage that the plan places in HBM: bytes with rounding, and the half-open steps over which it is there."""

    tensor: PlannedTensor
    nbytes: int
    start: int
    end: int
    kind: str
    stands: bool


def held_tensors(plan: Plan) -> list[HeldTensor]:
    """Everything placed in HBM; what is there before the first op and after the last one `stands`."""
    tensors = {tensor.index: tensor for tensor in plan.tensors}
    steps = len(plan.ops)
    found = []
    for placement in plan.placements:
        if placement.tier is not Tier.HBM or placement.size <= 0 or placement.start >= placement.end:
            continue
        tensor = tensors[placement.tensor]
        before = tensor.persistent or tensor.producer is None or tensor.producer > placement.start
        stands = before and placement.start == 0 and placement.end >= steps
        kind = kind_of(plan, tensor)
        found.append(HeldTensor(tensor, placement.size, placement.start, placement.end, kind, stands))
    return found


def kind_of(plan: Plan, tensor: PlannedTensor) -> str:
    """The kind of a storage's bytes; what a collective writes is communication's."""
    if tensor.producer is None or tensor.kind != "activation":
        return tensor.kind
    collective = families_of(plan.ops[tensor.producer].type)[0] in family_table().collectives
    return COMMUNICATION_KIND if collective else tensor.kind
