"""
Groups of planned ops that a run takes in any order, and in turns: what the order of a plan doesn't tell.

The gradients of a product and the sum of one with those before have no order among them. Where a weight may be cut into
pieces, what follows its product up to where the pieces meet (the rotary embedding of queries and of keys, an activation
between gate and up, the path through one expert after another) may be done piece by piece, forth and back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.align.op_families import family_table
from memplan.align.tokens import TokenClass
from memplan.core.arrays import Int64s
from memplan.schema import Plan, PlannedOp


def loose_groups(plan: Plan, ops: Sequence[int], classes: Sequence[TokenClass], *, updates: bool = False) -> Int64s:
    """
    For each of `ops`, of those `classes`, the number of its group; members of one follow one another.

    `updates` is whether those of a layer are one, as where a run updates its weights in pieces.
    """
    branches = _branches(plan, ops, classes)
    told: dict[tuple[int | None, str], tuple[int | None, str]] = {}
    found = np.zeros(len(ops), dtype=np.int64)
    number, before, scope_before = 0, None, None
    for place, index in enumerate(ops):
        op = plan.ops[index]
        scope = op.phase, op.micro_batch, op.layer
        here = None
        if op.part is not None:
            key = op.layer, op.part
            here = told.get(key)
            if here is None:
                here = told[key] = _branch(op, branches), _stem(op)
        number += not (
            here is not None
            and before is not None
            and scope == scope_before
            and _together(op, before, here, updates=updates)
        )
        found[place] = number
        before, scope_before = here, scope
    return found - 1


def _together(op: PlannedOp, before: tuple[int | None, str], here: tuple[int | None, str], *, updates: bool) -> bool:
    """Whether an op, whose branch and stem are `here`, is of the group of the one before it, of the same layer."""
    if op.phase == "optimizer":
        return updates and op.layer is not None
    if before[0] is not None or here[0] is not None:
        return before[0] == here[0]
    return op.phase != "forward" and before[1] == here[1]


def _branch(op: PlannedOp, branches: dict[tuple[int | None, str], int]) -> int | None:
    part = op.part or ""
    own = branches.get((op.layer, part))
    return branches.get((op.layer, part.rpartition(".")[0])) if own is None else own


def _stem(op: PlannedOp) -> str:
    part = op.part or ""
    return part.rpartition(".")[0] or part


def _branches(plan: Plan, ops: Sequence[int], classes: Sequence[TokenClass]) -> dict[tuple[int | None, str], int]:
    """Layer and part of the ops from a product that may be cut to where its pieces meet, numbered by product."""
    known = family_table()
    routing, merging, grouped = (known.number(name) for name in ("expert_routing", "expert_merging", "grouped_product"))
    found: dict[tuple[int | None, str], int] = {}
    for place, (index, kind) in enumerate(zip(ops, classes, strict=True)):
        op = plan.ops[index]
        if not kind.pieces or op.part is None or (op.layer, op.part) in found or ("." in op.part and kind.groups == 1):
            continue
        over_experts = kind.families[0] == grouped
        begin = place
        if over_experts and place and classes[place - 1].families[0] == routing:
            begin -= 1
        for other in range(begin, len(ops)):
            member, family = plan.ops[ops[other]], classes[other].families[0]
            if (member.phase, member.micro_batch, member.layer) != (op.phase, op.micro_batch, op.layer):
                break
            if other > place and not over_experts and family in known.heavy:
                break
            if over_experts and family in known.heavy and family != grouped:
                break
            if member.part is not None:
                found.setdefault((member.layer, member.part), place)
            if over_experts and family == merging:
                break
    return found
