"""
Groups of planned ops that a run takes in any order, and in turns: what the order of a plan doesn't tell.

The gradients of a product and the sum of one with those before have no order among them. Where a weight may be cut into
pieces, what follows its product up to where the pieces meet (the rotary embedding of queries and of keys, an activation
between gate and up, the path through one expert after another) may be done piece by piece, forth and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass
from memplan.core.arrays import Int64s
from memplan.schema import Plan


def loose_groups(plan: Plan, ops: Sequence[int], classes: Sequence[TokenClass], *, updates: bool = False) -> Int64s:
    """
    For each of `ops`, of those `classes`, the number of its group; members of one follow one another.

    `updates` is whether those of a layer are one, as where a run updates its weights in pieces.
    """
    branches = _branches(plan, ops, classes)
    chosen = [plan.ops[index] for index in ops]
    # Scopes and parts of a layer are few, however many ops there are: what each of them is, is told once.
    scopes: dict[tuple[str | None, int | None, int | None], int] = {}
    parts: dict[tuple[int | None, str], int] = {}
    stems: dict[str, int] = {}
    scope = np.array(
        [scopes.setdefault((op.phase, op.micro_batch, op.layer), len(scopes)) for op in chosen], dtype=np.int64
    )
    part = np.array(
        [-1 if op.part is None else parts.setdefault((op.layer, op.part), len(parts)) for op in chosen], dtype=np.int64
    )
    of_part = [(_branch(*key, branches), stems.setdefault(_stem(key[1]), len(stems))) for key in parts]
    branch, stem = np.array([*of_part, (-1, -1)], dtype=np.int64)[part].T
    forward, optimizer = (
        np.array([key[0] == phase for key in scopes], dtype=np.bool_)[scope] for phase in ("forward", "optimizer")
    )
    layered = np.array([key[2] is not None for key in scopes], dtype=np.bool_)[scope]
    # Whether each op is of the group of the one before it.
    before, here = slice(None, -1), slice(1, None)
    branched = (branch[before] >= 0) | (branch[here] >= 0)
    together = np.where(branched, branch[before] == branch[here], ~forward[here] & (stem[before] == stem[here]))
    together = np.where(optimizer[here], layered[here] & updates, together)
    together &= (part[before] >= 0) & (part[here] >= 0) & (scope[before] == scope[here])
    group: Int64s = np.cumsum(np.append(0, ~together))[: len(ops)]
    return group


def _branch(layer: int | None, part: str, branches: Mapping[tuple[int | None, str], int]) -> int:
    own = branches.get((layer, part))
    return branches.get((layer, part.rpartition(".")[0]), -1) if own is None else own


def _stem(part: str) -> str:
    return part.rpartition(".")[0] or part


def _branches(plan: Plan, ops: Sequence[int], classes: Sequence[TokenClass]) -> dict[tuple[int | None, str], int]:
    """Layer and part of the ops from a product that may be cut to where its pieces meet, numbered by product."""
    known = family_table()
    routing, merging, grouped = (known.number(name) for name in ("expert_routing", "expert_merging", "grouped_product"))
    found: dict[tuple[int | None, str], int] = {}
    for place in [place for place, kind in enumerate(classes) if kind.pieces]:
        op, kind = plan.ops[ops[place]], classes[place]
        if op.part is None or (op.layer, op.part) in found or ("." in op.part and kind.groups == 1):
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
