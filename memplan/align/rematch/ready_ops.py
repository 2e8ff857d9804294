"""
Equal ops that ran in another order than the plan's, told apart by what they need.

A graph mode starts whatever is ready: a product of the way back may run before one of the same sizes on the way
forward. An op starts only behind what makes its operands, and before what reads what it makes. Where the kernels of a
step would break that, kernels of one kind are given anew to the ops that they could run, so that as little of it as can
be is broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.likelihood import Likelihoods
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.rematch.dependences import Dependences, dependences
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Floats, Int32s, Int64s
from memplan.schema import Plan

_MOST_ROWS = 20_000
"""Rows of a step up to which this is done: a larger one is of no graph that a compiler sorted."""
_MOST_CELLS = 40_000_000
"""Pairs of a kernel and a row that are weighed in all."""
_NEIGHBOURS = 2
"""Kernels by which an op may stand before what it needs: a profile orders neighbours of two streams as it likes."""
_AS_WELL = 0.3
"""The share of the best ratio from which an op may as well be what a kernel runs."""
_TINY = 1e-9
_ENOUGH = 150.0
_BROKEN, _OTHER_SHAPE, _MOVED, _LEFT = 10.0, 2.0, 0.5, 6.0
"""Prices: a dependence broken, operands of equal size and other shape, another op than before, none."""


class ReadyOps:
    """What kernels of a step run, by dependences; changes an assignment in place."""

    def __init__(
        self,
        plan: Plan,
        sequence: PlannedSequence,
        ratios: Likelihoods,
        kernels: TokenClasses,
        kernel_class: Int32s,
        found: KernelAssignment,
    ) -> None:
        self.plan, self.sequence, self.ratios = plan, sequence, ratios
        self.kernels, self.kernel_class, self.found = kernels, kernel_class, found
        self.shapes: dict[int, tuple[tuple[int, ...], ...]] = {}
        self.left = _MOST_CELLS

    def run(self) -> None:
        """Mend every step in which a dependence seems broken."""
        if len(self.sequence) > _MOST_ROWS or not len(self.kernel_class):
            return
        needs = dependences(self.plan, self.sequence)
        fits = self.ratios.core >= np.maximum(_AS_WELL * self.ratios.core.max(axis=0), self.ratios.behind)
        self.fits: Bools = fits
        order = np.argsort(self.found.step, kind="stable")
        edges = np.concatenate(([0], np.flatnonzero(np.diff(self.found.step[order])) + 1, [len(order)]))
        for begin, end in pairwise(edges.tolist()):
            mine = np.sort(order[begin:end])
            self._step(needs, mine)

    def _step(self, needs: Dependences, mine: Int64s) -> None:
        row = self.found.row[mine]
        now = np.where(self.found.core[mine] & (row >= 0), row, -1)
        broken = self._broken(needs, now)
        while broken.any() and self.left > 0:
            most, best = 0.0, now
            for tokens, kinds in self._able(needs, broken):
                new, dearer = self._given_anew(needs, now, mine, tokens, kinds)
                gain = _BROKEN * (np.count_nonzero(broken) - np.count_nonzero(self._broken(needs, new))) - dearer
                if gain > most:
                    most, best = gain, new
            if not most:
                break
            now, broken = best, self._broken(needs, best)
        self._settle(mine, now)
        self._settle(mine, self._missed(needs, now, mine))

    def _missed(self, needs: Dependences, now: Int64s, mine: Int64s) -> Int64s:
        """`now` with ops that nothing runs given to kernels that nothing else needs, by when they may run."""
        first, last = self._places(now)
        spare = np.flatnonzero(self._spare(now, mine))
        if not len(spare):
            return now
        kinds = self.kernel_class[mine[spare]]
        able = self.fits[:, kinds].any(axis=1)
        rows = np.flatnonzero((last < 0) & (self.sequence.op >= 0) & able[self.sequence.token])
        begin, end = np.full(len(first), -1), np.full(len(first), len(now))
        there = last[needs.before] >= 0
        np.maximum.at(begin, needs.after[there], first[needs.before[there]])
        there = last[needs.after] >= 0
        np.minimum.at(end, needs.before[there], last[needs.after[there]])
        told = [(side < 0) | (side >= len(now)) for side in (begin, end)]
        needed = [np.bincount(each, minlength=len(first)) > 0 for each in (needs.after, needs.before)]
        unsure = (told[0] & needed[0]) | (told[1] & needed[1])
        rows = rows[~unsure[rows] & (begin[rows] < end[rows])]
        self.left -= len(rows) * len(spare)
        if not len(rows) or self.left < 0:
            return now
        inside = (begin[rows] < spare[:, None]) & (spare[:, None] < end[rows])
        token = self.sequence.token[rows]
        ratio = self.ratios.core[np.ix_(token, kinds)].T
        held = np.where(now[spare] >= 0, self.ratios.core[self.sequence.token[now[spare]], kinds], _ENOUGH)
        inside &= self.fits[np.ix_(token, kinds)].T & (ratio >= np.maximum(held, _ENOUGH)[:, None])
        away = (end[rows] - spare[:, None]) / len(now)
        worth = np.where(inside, 1.0 - away + np.where(begin[rows] >= 0, 0.5, 0.0), 0.0)
        at, to = linear_sum_assignment(worth, maximize=True)
        kept = inside[at, to]
        new = now.copy()
        new[spare[at[kept]]] = rows[to[kept]]
        return new

    def _spare(self, now: Int64s, mine: Int64s) -> Bools:
        """Which kernels run no op, or one that another kernel runs better, though none should run it twice."""
        spare: Bools = self.found.row[mine] < 0
        cores = np.flatnonzero(now >= 0)
        ratio = self.ratios.core[self.sequence.token[now[cores]], self.kernel_class[mine[cores]]]
        order = np.lexsort((cores, -ratio, now[cores]))
        again = cores[order[1:][np.diff(now[cores][order]) == 0]]
        again = again[self.found.chance[mine[again]] < 0.5]
        once = np.array([not rule.repeats and not rule.piecewise for rule in self.sequence.rules])
        once &= np.array([not pieces for pieces in self.sequence.classes.pieces])
        spare[again[once[self.sequence.token[now[again]]]]] = True
        return spare

    def _broken(self, needs: Dependences, row: Int64s) -> Bools:
        first, last = self._places(row)
        there = (last[needs.before] >= 0) & (last[needs.after] >= 0)
        found: Bools = there & (first[needs.before] > last[needs.after] + _NEIGHBOURS)
        return found

    def _places(self, row: Int64s) -> tuple[Int64s, Int64s]:
        """Where in a step the first and the last kernel of each row stand; the last is -1 where there is none."""
        first, last = np.full(len(self.sequence), len(row)), np.full(len(self.sequence), -1)
        there = np.flatnonzero(row >= 0)
        np.minimum.at(first, row[there], there)
        np.maximum.at(last, row[there], there)
        return first, last

    def _able(self, needs: Dependences, broken: Bools) -> Iterator[tuple[Int64s, Int64s]]:
        """Classes of ops and of kernels that are at either end of broken dependences."""
        ends = np.concatenate([needs.before[broken], needs.after[broken]])
        seen = np.zeros(len(self.fits), dtype=np.bool_)
        for token in np.unique(self.sequence.token[ends]).tolist():
            if not seen[token]:
                tokens, kinds = self._alike(token)
                seen[tokens] = True
                yield tokens, kinds

    def _alike(self, token: int) -> tuple[Int64s, Int64s]:
        """Classes of ops that kernels could run as well as that of `token`, and those kernels' classes."""
        tokens = np.zeros(len(self.fits), dtype=np.bool_)
        tokens[token] = True
        while True:
            kinds = self.fits[tokens].any(axis=0)
            wider = self.fits[:, kinds].any(axis=1) | tokens
            if np.array_equal(wider, tokens):
                return np.flatnonzero(tokens), np.flatnonzero(kinds)
            tokens = wider

    def _given_anew(
        self, needs: Dependences, now: Int64s, mine: Int64s, tokens: Int64s, kinds: Int64s
    ) -> tuple[Int64s, float]:
        found = self.found
        kind = self.kernel_class[mine]
        free = ((found.row[mine] < 0) | (now >= 0)) & np.isin(kind, kinds)
        free &= found.first[mine] == found.last[mine]
        free &= (now < 0) | np.isin(self.sequence.token[np.maximum(now, 0)], tokens)
        kernels = np.flatnonzero(free)
        rows = np.flatnonzero(np.isin(self.sequence.token, tokens) & (self.sequence.op >= 0))
        taken = np.zeros(len(self.sequence), dtype=np.bool_)
        others = np.ones(len(now), dtype=np.bool_)
        others[kernels] = False
        taken[now[others & (now >= 0)]] = True
        rows = rows[~taken[rows]]
        self.left -= len(kernels) * (len(rows) + len(kernels))
        if not len(kernels) or not len(rows) or self.left < 0:
            return now, 0.0
        cost, price = self._costs(needs, now, kernels, kind[kernels], rows)
        at, to = linear_sum_assignment(cost)
        given = to < len(rows)
        new = now.copy()  # what no row is left for keeps its op, as one more kernel of it
        new[kernels[at[given]]] = rows[to[given]]
        column = np.searchsorted(rows, now[kernels])
        before = now[kernels] >= 0
        paid = price[at[given], to[given]].sum() + _LEFT * np.count_nonzero(before[at[~given]])
        return new, float(paid - price[np.flatnonzero(before), column[before]].sum())

    def _costs(
        self, needs: Dependences, now: Int64s, kernels: Int64s, kind: Int32s, rows: Int64s
    ) -> tuple[Floats, Floats]:
        """What it costs to let each of `kernels` run each of `rows`, or nothing, and that without dependences."""
        first, last = self._places(now)
        ratio = self.ratios.core[np.ix_(self.sequence.token[rows], kind)].T
        best = self.ratios.core[:, kind].max(axis=0)
        price = np.log(np.maximum(best, _TINY))[:, None] - np.log(np.maximum(ratio, _TINY)).astype(np.float64)
        price += _MOVED * (now[kernels][:, None] != rows)
        shapes, kinds = [self._shapes(row) for row in rows.tolist()], np.unique(kind)
        other = np.array([[_other(self.kernels.shapes[one], shape) for shape in shapes] for one in kinds.tolist()])
        price += _OTHER_SHAPE * other[np.searchsorted(kinds, kind)]
        cost = price.copy()
        for column, row in enumerate(rows.tolist()):
            before = first[needs.before[(needs.after == row) & (last[needs.before] >= 0)]]
            behind = last[needs.after[(needs.before == row) & (last[needs.after] >= 0)]]
            cost[:, column] += _BROKEN * (before > kernels[:, None] + _NEIGHBOURS).sum(axis=1)
            cost[:, column] += _BROKEN * (behind < kernels[:, None] - _NEIGHBOURS).sum(axis=1)
        left = np.where(now[kernels] < 0, 0.0, _LEFT)
        return np.hstack([cost, np.broadcast_to(left[:, None], (len(kernels), len(kernels)))]), price

    def _shapes(self, row: int) -> tuple[tuple[int, ...], ...]:
        if row not in self.shapes:
            kernel = self.plan.ops[int(self.sequence.op[row])].kernel
            inputs = () if kernel is None else self.plan.kernels[kernel].inputs
            self.shapes[row] = tuple(item.shape for item in inputs if item is not None)
        return self.shapes[row]

    def _settle(self, mine: Int64s, now: Int64s) -> None:
        found = self.found
        changed = mine[(now >= 0) & (now != found.row[mine])]
        row = now[(now >= 0) & (now != found.row[mine])]
        found.row[changed] = found.first[changed] = found.last[changed] = row
        found.core[changed], found.how[changed] = True, HOW.index(MatchedBy.DATAFLOW)


def _other(ran: tuple[tuple[int, ...], ...], planned: tuple[tuple[int, ...], ...]) -> bool:
    """Whether shapes differ but for sides of one."""
    one, other = (sorted(tuple(side for side in shape if side != 1) for shape in each) for each in (ran, planned))
    return one != other


__all__ = ["ReadyOps"]
