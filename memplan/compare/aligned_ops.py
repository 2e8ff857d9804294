"""Planned ops and kernels where names don't tell: the alignment of the two sequences, as far as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align import HOW, Alignment, MatchedBy, align
from memplan.align.classes.op_families import families_of, family_table
from memplan.compare.measured import MeasuredOps, MeasuredSteps
from memplan.compare.measured_families import compute_times
from memplan.compare.op_matches import Matches, matches_of
from memplan.core.arrays import Int64s
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from memplan.traces.steps import numbered_steps

_NAMED = 0.5
"""Share of the launched ops found by name from which on names are what matches."""
_SAME_MODEL = 0.4
"""Share of planned and of measured time without collectives that has to match: less is of another model."""


@dataclass(frozen=True, slots=True)
class AlignedStep:
    """
    One step of an alignment: rows of the kernel table, and the planned op of each, -1 where there is none.

    `computing` are the times of all kernels of the rank, 0 of communication. `joined[op]` is the planned time of the
    ops that run in the kernel of `op` beside it, `inside` are those ops. `untold` are kernels of the step that are not
    told apart, `unsure` ops of which no other kernel is known: whether these ran is not known.
    """

    alignment: Alignment
    rows: Int64s
    owner: Int64s
    matches: Matches
    computing: Int64s
    joined: dict[int, int]
    inside: frozenset[int]
    untold: NDArray[np.bool_]
    unsure: frozenset[int]


def aligned(plan: Plan, kernels: Kernels | None, measured: MeasuredOps, named: Int64s) -> Alignment | None:
    """
    The alignment of `plan` with `kernels`, of which `measured` are the rows; `named` is the planned op by name.

    `None` where names tell most ops, where a side has no operands to compare, and where too little matches.
    """
    if kernels is None or len(kernels) != len(measured) or not plan.kernels or not len(measured):
        return None
    launched = [op for op in plan.ops if op.launches and op.kernel is not None]
    if not launched or len(np.unique(named[named >= 0])) >= _NAMED * len(launched):
        return None
    found = align(plan, kernels)
    op = found.op_of_kernel()
    surely = np.where(op >= 0, np.nan_to_num(found.scopes.probability), 0.0)
    # Collectives wait for other ranks, and a graph of one device has none: they tell nothing of the model.
    own = np.array([not _exchanges(type_) for type_ in measured.type], dtype=np.bool_)
    measured_ns = measured.duration_ns * own
    planned_ns = np.array([0 if _exchanges(item.type) else item.duration_ns for item in plan.ops], dtype=np.int64)
    seen = np.unique(found.matches.op)
    share = min(_share(measured_ns * surely, measured_ns), _share(planned_ns[seen], planned_ns))
    return found if share >= _SAME_MODEL else None


def _exchanges(type_: str) -> bool:
    return families_of(type_)[0] in family_table().collectives


def _share(part: NDArray[Any], whole: Int64s) -> float:
    return float(part.sum()) / (int(whole.sum()) or 1)


def aligned_steps(measured: MeasuredOps, alignment: Alignment) -> MeasuredSteps:
    """Steps as the profile numbers them, else the repetitions of the plan."""
    numbers, position = numbered_steps(measured.step)
    if numbers:
        return MeasuredSteps(numbers, position, inferred=False)
    found, position = np.unique(alignment.step, return_inverse=True)
    return MeasuredSteps(found.tolist(), position.astype(np.int64), inferred=True)


def aligned_step(plan: Plan, alignment: Alignment, everything: MeasuredOps, rows: Int64s) -> AlignedStep:
    """What the alignment says of the kernels `rows` of one step, which are rows of `everything`."""
    measured = everything.take(rows)
    owner = alignment.op_of_kernel()[rows]
    by_name = np.zeros(len(rows), dtype=np.bool_)
    place = np.full(len(alignment.step), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    at = place[alignment.matches.kernel]
    of_step = at >= 0
    by_name[at[of_step]] = alignment.matches.how[of_step] == HOW.index(MatchedBy.NAME)
    joined: dict[int, int] = {}
    inside: set[int] = set()
    for op, row in zip(alignment.matches.op[of_step].tolist(), at[of_step].tolist(), strict=True):
        first = int(owner[row])
        if op != first and op not in inside:
            inside.add(op)
            joined[first] = joined.get(first, 0) + plan.ops[op].duration_ns
    maybe = alignment.unsure.op[place[alignment.unsure.kernel] >= 0]
    return AlignedStep(
        alignment, rows, owner, matches_of(owner, by_name, measured.start_ns, measured.end_ns, measured.duration_ns),
        compute_times(everything), joined, frozenset(inside - set(owner.tolist())), alignment.scopes.untold()[rows],
        frozenset(np.setdiff1d(maybe, [*owner.tolist(), *inside]).tolist()),
    )  # fmt: skip
