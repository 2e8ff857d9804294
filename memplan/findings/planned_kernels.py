"""The kernels of a rank as a plan has them: planned times, places in the model's words, what no plan has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.align import Alignment, OpMatches, place_in_words, tokens_planned_and_run
from memplan.align.classes.lowering import in_words
from memplan.compare.aligned_ops import aligned
from memplan.compare.matching import name_matches, own_name_matches
from memplan.compare.measured import measured_ops
from memplan.core.arrays import Floats, Int64s
from memplan.core.progress import Progress
from memplan.core.sentence import Text
from memplan.findings.finding import threshold
from memplan.findings.rank_case import RankCase
from memplan.schema import Plan
from memplan.traces.profile import Kernels

_NAMED = 0.5
"""Share of the computing time that kernels with names of ops have to take for names to tell the ops."""
_MOST_ALIGNED = 8
"""Ranks that are aligned without names: each takes seconds for 100,000 kernels, and ranks of a stage are alike."""


@dataclass(frozen=True, slots=True)
class PlannedKernels:
    """
    For each computing kernel of a rank: the (first) planned op that it runs, -1 where none, and the planned ns of what
    it runs of its ops, NaN where none and where a plan of another number of tokens has it.

    An op in pieces divides its time among its kernels as they took it. `alignment` is how they were matched
    where names don't tell; only then it is known what unplanned kernels are.
    """

    plan: Plan
    op: Int64s
    planned_ns: Floats
    rows: Int64s
    alignment: Alignment | None

    def place(self, kernel: int) -> str:
        """Computing kernel `kernel` in the model's words, `layers.12.o_proj, backward`; empty where not known."""
        if self.op[kernel] >= 0:
            return place_in_words(self.plan.ops[int(self.op[kernel])])
        return "" if self.alignment is None else self.alignment.scopes.path(int(self.rows[kernel]))

    def of_phase(self, phase: str) -> Int64s:
        """The computing kernels that run planned ops of `phase`."""
        mine = np.array([op.phase == phase for op in self.plan.ops] or [False], dtype=bool)
        return np.flatnonzero((self.op >= 0) & mine[np.maximum(self.op, 0)]).astype(np.int64)

    def unplanned(self) -> Int64s:
        """The computing kernels that no planned op runs; of those that are not told apart it isn't known."""
        free = self.op < 0
        return np.flatnonzero(free if self.alignment is None else free & ~self.alignment.scopes.untold()[self.rows])

    def what(self, kernel: int) -> Text:
        """What an unplanned computing kernel is, in words to translate; empty where that is not known."""
        return "" if self.alignment is None else in_words(self.alignment.scopes.named(int(self.rows[kernel])))


def planned_kernels(
    cases: Mapping[int, RankCase], plan: Plan, progress: Progress, known: Mapping[int, Alignment]
) -> dict[int, PlannedKernels]:
    """
    The kernels of those ranks that `plan` is of, matched with it; of ranks in `known` as that says.

    Those are the ranks of the stage of the rank that it was made like, where it was made like a profile, else all whose
    kernels it explains.
    """
    found: dict[int, PlannedKernels] = {}
    unnamed = 0
    chosen = _of_its_stage(cases, plan)
    for done, rank in enumerate(chosen):
        progress(done, len(chosen), "matching kernels with the plan")
        case = cases[rank]
        if case.kernels is None or not len(case.computing_rows) or unnamed >= _MOST_ALIGNED:
            continue
        matched = _matched(case, plan, progress, known.get(rank))
        if matched is not None:
            found[rank] = matched
            unnamed += matched.alignment is not None
    return found


def _of_its_stage(cases: Mapping[int, RankCase], plan: Plan) -> Sequence[int]:
    own = next((int(item.value) for item in plan.settings if item.name == "rank"), None)
    if own is None or own not in cases:
        return list(cases)
    groups = cases[own].profile.groups
    stage = groups.stage_of(own)
    if stage is None:
        return [own]
    return [rank for rank, case in cases.items() if case.profile.groups.stage_of(rank) == stage]


def _matched(case: RankCase, plan: Plan, progress: Progress, known: Alignment | None) -> PlannedKernels | None:
    kernels = case.kernels
    if kernels is None:
        return None
    rows = case.computing_rows
    measured = measured_ops(case.profile, progress)
    named = own_name_matches(plan, measured)
    named = _with_namesakes(plan, named, name_matches(plan, measured), case)
    by_name = named >= 0
    # A rank of another stage runs few of the plan's ops, and is told by names all the same.
    told = kernels.duration_ns[rows[by_name[rows]]].sum() >= _NAMED * kernels.duration_ns[rows].sum()
    # Where names tell some of the kernels only, as those of one micro-batch, they count in the alignment.
    alignment = None if told else known
    if alignment is None and not told:
        alignment = aligned(plan, kernels, measured, np.full_like(named, -1))
    if alignment is None and not by_name.any():
        return None
    times = np.array([item.duration_ns for item in plan.ops], dtype=np.float64)
    if alignment is not None:
        first = alignment.op_of_kernel()
        planned = planned_shares(times, alignment.matches, _step_of(case, kernels, alignment), kernels.duration_ns)
    else:
        # Kernels that are called like an op run all of it, as often as they are called.
        first, planned = named, np.where(by_name, times[np.maximum(named, 0)], np.nan)
    if _of_other_tokens(alignment.tokens if alignment is not None else tokens_planned_and_run(plan, kernels)):
        planned = np.full_like(planned, np.nan)
    return PlannedKernels(plan, first[rows], planned[rows], rows, alignment)


def _of_other_tokens(tokens: tuple[int, int] | None) -> bool:
    """
    Whether so many more or fewer tokens ran than were planned that no planned time says what a kernel could take. Which
    op a kernel runs is still told.
    """
    planned, ran = tokens or (1, 1)
    return max(planned, ran) > threshold("planned_spread") * min(planned, ran)


def _with_namesakes(plan: Plan, named: Int64s, any_of: Int64s, case: RankCase) -> Int64s:
    """`named` with the kernels of ops that share a name: those of a step run its ops in order, each as often."""
    shared = np.flatnonzero((named < 0) & (any_of >= 0))
    if not len(shared) or case.kernels is None:
        return named
    namesakes: dict[str, list[int]] = {}
    for op in plan.ops:
        if op.launches:
            namesakes.setdefault(op.name, []).append(op.index)
    step = case.begun_at(case.kernels.start_ns[shared])
    order = np.lexsort((case.kernels.start_ns[shared], step, any_of[shared]))
    shared, step = shared[order], step[order]
    begins = np.flatnonzero(np.append(True, (np.diff(any_of[shared]) != 0) | (np.diff(step) != 0))).tolist()
    found = named.copy()
    for begin, end in zip(begins, [*begins[1:], len(shared)], strict=True):
        rows = shared[begin:end]
        ops = namesakes.get(plan.ops[int(any_of[rows[0]])].name, [])
        if ops and not len(rows) % len(ops):
            found[rows] = np.tile(ops, len(rows) // len(ops))
    return found


def _step_of(case: RankCase, kernels: Kernels, alignment: Alignment) -> Int64s:
    """A number for each kernel's step: by the alignment's count of repetitions, and by the profile's own steps."""
    return np.asarray(alignment.step * (len(case.windows) + 1) + case.begun_at(kernels.start_ns) + 1, dtype=np.int64)


def planned_shares(times: Floats, matches: OpMatches, step: Int64s, duration_ns: Int64s) -> Floats:
    """
    Planned ns of each kernel; `times` are the ops'.

    Of an op that k kernels run in a step each has its part of the measured time, where they are pieces of it, or all
    of it, where each runs it once more, as micro-batches do that the plan lacks: pieces take about 1/k of the op.
    """
    planned = np.full(len(duration_ns), np.nan)
    op, kernel = matches.op, matches.kernel
    if not len(op):
        return planned
    took = np.maximum(duration_ns[kernel], 1).astype(np.float64)
    _, one = np.unique(np.stack((op, step[kernel])), axis=1, return_inverse=True)
    one = one.reshape(-1)
    count = np.bincount(one)
    whole = np.bincount(one, weights=took)
    repeated = (whole / count)[one] >= times[op] / np.sqrt(count[one])
    share = np.where(repeated, 1.0, took / whole[one])
    sums = np.bincount(kernel, weights=times[op] * share, minlength=len(duration_ns))
    matched = np.bincount(kernel, minlength=len(duration_ns)) > 0
    return np.where(matched, sums, planned)
