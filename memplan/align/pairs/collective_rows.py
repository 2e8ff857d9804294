"""Which planned collectives the measured ones are: those of each kind, each near where it stands among the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.pairs.banded_alignment import MOST_CELLS, Band, align_band
from memplan.align.pairs.pair_prices import SPREAD, PairPrices
from memplan.align.pairs.pair_result import PairResult
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.dependences import MOST_SORTED, NEIGHBOURS, dependences
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Floats, Int32s, Int64s

_BESIDE = 40
"""Rows to either side of where a collective stands in which it is sought."""
_EDGE = 8
"""Rows that a collective before the first or after the last kernel of the chain may be from it."""
_SPARE = 6
"""Collectives beyond those rows by which a band is wider, so that it moves on without losing what it held."""
_MOST_ROWS = 448
"""Rows that a band has at most."""
_MOST, _MANY = 0.5, 0.25
"""
Share of planned ops of a kind below which kernels of it are too few to run them, and from which others are enough to do
it instead: some of the ops may run in one kernel with a product.
"""
_SUM, _HALVES = "all_reduce", ("reduce_scatter", "all_gather")
"""
A sum over ranks, and what it is in two kernels: the first adds up and leaves each rank a share, the second brings the
shares together; each sends half of what the sum in one kernel does (Thakur et al. 2005).
"""
_SURE = 0.9
"""Probability from which a kernel tells when what it makes can be exchanged."""
_FEWEST = 3
"""Collectives from which a run tells how far their times are from planned ones; the prior counts as one more."""


def place_collectives(both: PlanAndRun, model: PairPrices, which: Int64s, found: PairResult) -> None:
    """
    Align the collectives of each kind with the planned ones that such a kernel may run; adds to `found`.

    Once with as much doubt about their times as any run may deserve, and again with as much as this one does.
    """
    sequence, kernels, kernel_class, times = both.sequence, both.kernels, both.kernel_class, both.times
    if not len(which):
        return
    bounds = _by_dataflow(both, found)
    _place(both, model, bounds, which, found)
    row = found.row[which]
    halves = _half_times(sequence, kernels.main[kernel_class[which]], row)
    planned, measured = (model.ops.time[row % len(sequence)] * halves)[row >= 0], times[which][row >= 0]
    told = (planned > 0.0) & (measured > 0.0)
    if told.sum() < _FEWEST:
        return
    ratio = np.log(measured[told] / planned[told])
    usual = float(np.median(ratio)) * len(ratio) / (1 + len(ratio))
    spread = np.sqrt((SPREAD**2 + float(((ratio - usual) ** 2).sum())) / (1 + len(ratio)))
    if spread < SPREAD:
        known = model.prices._replace(spread=float(spread))
        sharper = replace(model, prices=known).with_columns(time=model.ops.time * np.float32(np.exp(usual)))
        doubting = found.taken(which)
        _place(both, sharper, bounds, which, found)
        # Times tell which of two ops it is, not that it is none: any collective may have waited.
        kept = (found.row[which] < 0) & (row >= 0) & ~np.isin(row, found.row[which])
        found.put(which[kept], doubting.taken(np.flatnonzero(kept)))


@dataclass(frozen=True, slots=True)
class _Collectives:
    """
    Collectives of a run: their numbers and families (`main`), between which rows each stands, and how far `off` it is.

    `joined` are rows that one kernel runs with others, `otherwise` families of ops that other kernels run.
    """

    both: PlanAndRun
    which: Int64s
    main: Int32s
    before: Int64s
    after: Int64s
    off: Int64s
    joined: Bools
    otherwise: Mapping[int, frozenset[int]]

    def kinds(self) -> list[int]:
        """Families of the kernels, sums over ranks first and what scatters them behind."""
        total, scatter, _ = _sum_families()
        return sorted(set(self.main.tolist()), key=lambda kind: (kind != total, kind != scatter))

    def planned_rows(self, kind: int) -> Int64s:
        """The sentinel and the rows of planned ops of one step that kernels of a family may run."""
        sequence = self.both.sequence
        usual = _families(sequence).tolist()
        able = np.array([own == kind or kind in self.otherwise.get(own, ()) for own in usual])
        rows: Int64s = np.concatenate(([0], np.flatnonzero(able[sequence.token] & (sequence.op >= 0))))
        return rows

    def planned_ops(self, row: Int64s) -> Int64s:
        """How many planned ops stand before rows: extra ones, which most runs have not, are no distance."""
        count, rows = np.cumsum(self.both.sequence.op >= 0), len(self.both.sequence)
        where: Int64s = count[row % rows] + row // rows * count[-1]
        return where

    def rows_near(self, kind: int, mine: Bools, found: PairResult) -> Int64s:
        """The planned rows of a family, counted on over the steps in which those of `mine` may stand."""
        rows, planned = len(self.both.sequence), self.planned_rows(kind)
        # What stands at the edge of one step may be of the next one or the one before.
        ends = (self.before[mine] - _EDGE, self.after[mine] + _EDGE)
        steps = np.unique(
            np.concatenate([found.place[self.which[mine]] // rows, *(np.maximum(end, 0) // rows for end in ends)])
        )
        whole: Int64s = np.concatenate([planned + rows * turn for turn in steps.tolist()])
        total, *halves = _sum_families()
        if kind in halves:  # a sum that one kernel runs, or a scatter and a gather, is no other's
            others = self.which[(self.main == total) | ((self.main == kind) & ~mine)]
            whole = whole[~np.isin(whole, found.row[others])]
        return whole

    def prices(self, model: PairPrices, kind: int, whole: Int64s, bounds: tuple[Int64s, Int64s]) -> PairPrices:
        """
        `model` of the rows `whole`, for kernels of a family that stand between places.

        There are neither far jumps nor another step: places tell.
        """
        sequence, beside = self.both.sequence, pair_model()["beside"]
        unplanned, swap = float(beside["unplanned"]), float(beside["swap"])
        prices = model.prices._replace(
            unplanned=unplanned,
            unplanned_on=unplanned,
            back=0.0,
            jump=0.0,
            wrap=0.0,
            near_jump=0.0,
            neighbour_jump=swap,
        )
        some = model.taken(whole % len(sequence))
        free = self.joined[whole]
        if kind in self.otherwise:  # most of its ops have others
            free |= (_families(sequence) == kind)[some.ops.token]
        skip = np.where(free, 1.0, beside["skip"]).astype(np.float32)
        # Where a profile is cut is told by the places, too.
        return replace(some, prices=prices, start_inside=1.0).with_columns(
            place=self.planned_ops(whole),
            since=bounds[0][whole],
            until=bounds[1][whole],
            time=some.ops.time * _half_times(sequence, np.full(len(whole), kind), whole),
            skip=skip,
            skip_on=skip,
            loose=np.zeros_like(skip),
            block=np.zeros_like(whole),
        )

    def aligned(self, mine: Bools, some: PairPrices, whole: Int64s, found: PairResult) -> PairResult:
        """Those of `mine` aligned with the rows `whole`, whose prices are `some`."""
        from memplan.align.pairs.pair_weights import fit_alone

        both, chosen = self.both, self.which[mine]
        place, times = some.ops.place, both.times[chosen]
        between = self.planned_ops(self.before[mine]), self.planned_ops(self.after[mine]), self.off[mine]
        low, width = np.zeros(len(chosen), dtype=np.int64), len(whole)
        if len(chosen) * width > MOST_CELLS:
            low = np.maximum.accumulate(np.maximum(np.searchsorted(place, between[0] - _BESIDE) - _SPARE, 0))
            width = int((np.searchsorted(place, between[1] + _BESIDE) + _SPARE - low).clip(2, _MOST_ROWS).max())
        classes, names = both.kernel_class[chosen], both.kernel_names[chosen]
        result = align_band(some, Band(classes, names, low, width, spans=(*between, chosen), times=times))
        row, first, last = (
            whole[np.clip(column, 0, len(whole) - 1)] for column in (result.row, result.first, result.last)
        )
        # One kernel runs several where they follow one another in the plan too, not all that lies between.
        together = last - first == result.last - result.first
        result = replace(
            result,
            row=np.where(result.row >= 0, row, -1),
            first=np.where(together, first, row),
            last=np.where(together, last, row),
            place=np.where(result.row >= 0, row, found.place[chosen]),
        )
        fit = np.zeros(len(chosen))
        at = np.clip(np.searchsorted(whole, result.row), 0, len(whole) - 1)
        fit_alone(place[at], *between, some.ops.time[at], times, some.prices.spread, fit)
        alone = np.array([not rule.repeats for rule in both.sequence.rules])
        return _one_each(result, alone[both.sequence.token[result.row % len(both.sequence)]], fit)


def _place(
    both: PlanAndRun, model: PairPrices, bounds: tuple[Int64s, Int64s], which: Int64s, found: PairResult
) -> None:
    before, after, off = _neighbours(found, which)
    found.put(which, PairResult.empty(len(which)))
    found.place[which] = np.maximum(before, 0)
    main = both.kernels.main[both.kernel_class[which]]
    joined = _run_with_others(found, which, len(both.sequence))
    all_of_them = _Collectives(both, which, main, before, after, off, joined, _run_otherwise(both, found, joined))
    total, scatter, gather = _sum_families()
    in_two = {scatter, gather} <= all_of_them.otherwise.get(total, frozenset())
    for kind in all_of_them.kinds():
        if len(all_of_them.planned_rows(kind)) < 2:
            continue
        mine = main == kind
        if in_two and kind == gather:
            mine &= ~_gather_sums(both.sequence, which, main, before, found)
            if not mine.any():
                continue
        whole = all_of_them.rows_near(kind, mine, found)
        some = all_of_them.prices(model, kind, whole, bounds)
        found.put(which[mine], all_of_them.aligned(mine, some, whole, found))


def _by_dataflow(both: PlanAndRun, found: PairResult) -> tuple[Int64s, Int64s]:
    """
    For each row, counted on over steps, the numbers of the first and the last kernel that may run it.

    It runs behind the first kernel that surely runs an op which makes what it reads, and before the last one of those
    that read what it makes; ops that nothing runs are looked through.
    """
    rows = len(both.sequence)
    turns = np.arange(0, (int(found.place.max(initial=0)) // rows + 3) * rows, rows)
    kernels, size = len(found.row), len(turns) * rows
    since, until = np.zeros(size, dtype=np.int64), np.full(size, kernels, dtype=np.int64)
    if rows > MOST_SORTED:
        return since, until
    token, ratios = both.sequence.token[found.row % rows], both.ratios
    sure = (found.row >= 0) & (found.chance >= _SURE)
    sure &= ratios.core[token, both.kernel_class] >= ratios.behind[token, both.kernel_class]
    kernel = np.flatnonzero(sure)
    needs = dependences(both.plan, both.sequence).repeated(turns)
    first, last = needs.places(size, kernels, [(side[kernel], kernel) for side in (found.row, found.first, found.last)])
    np.maximum.at(since, needs.after, first[needs.before] - NEIGHBOURS)
    np.minimum.at(until, needs.before, last[needs.after] + NEIGHBOURS)
    return since, until


def _gather_sums(sequence: PlannedSequence, which: Int64s, main: Int32s, before: Int64s, found: PairResult) -> Bools:
    """
    Which of the collectives `which` bring together what a scatter has added up, the first gather behind each.

    They are of the sum that the scatter runs; adds to `found`. `before` are the rows that they stand behind.
    """
    total, scatter, gather = _sum_families()
    scatters, gathers = np.flatnonzero(main == scatter), np.flatnonzero(main == gather)
    row = found.row[which[scatters]]
    of_sum = (row >= 0) & (_families(sequence)[sequence.token[row % len(sequence)]] == total)
    scatters, row = scatters[of_sum], row[of_sum]
    behind = np.searchsorted(gathers, scatters)
    # Where two scatters stand before one gather, it is the later one's.
    own = (behind < len(gathers)) & (behind != np.append(behind[1:], -1))
    scatters, row, second = scatters[own], row[own], gathers[behind[own]]
    near = before[second] <= row + _EDGE
    scatters, row, second = scatters[near], row[near], second[near]
    sums = found.taken(which[scatters])
    found.put(which[second], replace(sums, first=row, last=row, place=row))
    paired = np.zeros(len(which), dtype=np.bool_)
    paired[second] = True
    return paired


def _sum_families() -> tuple[int, int, int]:
    """The numbers of the families of a sum over ranks, of what scatters it and of what gathers it."""
    total, scatter, gather = map(family_table().number, (_SUM, *_HALVES))
    return total, scatter, gather


def _families(sequence: PlannedSequence) -> Int64s:
    """The family of kernels that commonly runs each class of planned ops, -1 where there is none."""
    return np.array([rule.kernels[0] if rule.kernels else -1 for rule in sequence.rules], dtype=np.int64)


def _half_times(sequence: PlannedSequence, main: Int32s | Int64s, row: Int64s) -> Floats:
    """Share of a planned op's time that kernels of families `main` take of it: half where two run a sum over ranks."""
    total, *halves = _sum_families()
    half = (_families(sequence)[sequence.token[row % len(sequence)]] == total) & np.isin(main, halves)
    return np.where(half, np.float32(0.5), np.float32(1.0))


def _run_otherwise(both: PlanAndRun, found: PairResult, joined: Bools) -> Mapping[int, frozenset[int]]:
    """
    Families of planned ops for most of which a run has no kernel of their own, with those that run them instead.

    These are such as the run has beyond its plan, enough for many of the ops, and not far fewer than others of them.
    Ops that are `joined` with others in one kernel count on neither side.
    """
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    of_step = np.bincount(np.maximum(found.place, 0) // len(sequence))
    steps = float(of_step.sum() / of_step.max())  # one that is cut is a share of one
    ran = np.bincount(kernels.main[kernel_class], minlength=kernels.families.shape[1])
    rules = {rule.kernels[0]: rule for rule in sequence.rules if rule.kernels}
    family = _families(sequence)[sequence.token]
    alone = np.where(sequence.op >= 0, steps, 0.0) - joined.reshape(-1, len(sequence)).sum(axis=0)
    planned = np.bincount(family + 1, np.maximum(alone, 0.0), len(ran) + 1)[1:]
    found_for = {}
    total, *halves = _sum_families()
    more = ran - planned
    # Sums in two kernels have both of them; what runs anything else is beyond those.
    in_two = max(0.0, min(-float(more[total]), *(float(more[half]) for half in halves)))
    for own, rule in rules.items():
        if ran[own] < _MOST * planned[own]:
            spare = {kind: float(more[kind]) - in_two * (own != total and kind in halves) for kind in rule.kernels[1:]}
            least = max(_MANY * float(planned[own]), _MOST * max(spare.values(), default=0.0))
            found_for[own] = frozenset(kind for kind, often in spare.items() if often >= least)
    return found_for


def _run_with_others(found: PairResult, which: Int64s, rows: int) -> Bools:
    """Whether one kernel runs a row, counted on over steps, with rows beside it; those of `which` aside."""
    several = found.last > found.first
    several[which] = False
    size = (int(found.place.max(initial=0)) // rows + 2) * rows
    edges = np.bincount(found.first[several], minlength=size) - np.bincount(found.last[several] + 1, minlength=size)
    inside: Bools = np.cumsum(edges) > 0
    return inside


def _one_each(found: PairResult, alone: Bools, fit: Floats) -> PairResult:
    """Of kernels that are likeliest the same op's, the one of the best `fit` where an op is run `alone` by one."""
    order = np.lexsort((-found.chance, -fit, found.row))
    twice = np.zeros(len(found.row), dtype=np.bool_)
    twice[order[1:]] = found.row[order[1:]] == found.row[order[:-1]]
    twice &= alone
    return replace(
        found,
        row=np.where(twice, -1, found.row),
        of_scope=np.where(twice, found.alone, found.of_scope),
    )


def _neighbours(found: PairResult, which: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """
    Between which rows each of `which` stands: those of the nearest matched kernels before and after it.

    Also how many kernels that are in no plan lie between it and the nearer of the two.
    """
    chain = np.delete(np.arange(len(found.row)), which)
    if not len(chain):
        nothing = np.zeros(len(which), dtype=np.int64)
        return nothing, nothing, nothing
    at = np.searchsorted(chain, which)
    matched = np.flatnonzero(found.row[chain] >= 0)
    if not len(matched):
        matched = np.arange(len(chain))
    later = np.searchsorted(matched, at)
    first, last = later > 0, later < len(matched)
    earlier_at, later_at = matched[np.maximum(later - 1, 0)], matched[np.minimum(later, len(matched) - 1)]
    place = found.place[chain]
    before, after = place[earlier_at], place[later_at]
    off = np.minimum(np.where(first, at - 1 - earlier_at, len(chain)), np.where(last, later_at - at, len(chain)))
    # What stands before the first or after the last is near it; after a jump the two are the other way round.
    before, after = np.where(first, before, after - _EDGE), np.where(last, after, before + _EDGE)
    return np.minimum(before, after), np.maximum(before, after), off


def join_neighbours(both: PlanAndRun, which: Int64s, found: PairResult) -> None:
    """Collectives without an op of their own that are a part of the op they stand in, such as the sum of a norm."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    rows = len(sequence)
    for kernel in which[found.row[which] < 0].tolist():
        row = int(found.place[kernel])
        rule = sequence.rules[int(sequence.token[row % rows])]
        kind = int(kernels.main[kernel_class[kernel]])
        if kind in rule.parts or (rule.repeats and kind in rule.kernels):
            found.row[kernel] = found.first[kernel] = found.last[kernel] = row
            found.chance[kernel] = found.alone[kernel] = found.of_scope[kernel] = 0.5
