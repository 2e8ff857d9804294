"""
Equal ops that ran in another order than the plan's, told apart by what they need.

A graph mode starts whatever is ready: a product of the way back may run before one of the same sizes on the way
forward. An op starts only behind what makes its operands, and before what reads what it makes. Where the kernels of a
step would break that, kernels of one kind are given anew to the ops that they could run, so that as little of it as can
be is broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, each_step
from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.tokens import TokenClasses
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.dependences import MOST_SORTED, NEIGHBOURS, dependences
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Floats, Int32s, Int64s
from memplan.schema import Plan

_MOST_CELLS = 10_000_000
"""Pairs of a kernel and a row that are weighed in all."""
_FEW_STEPS = 50
"""Steps up to which those are looked at, too, in which nothing is broken."""
_LEAST = 1e-9
"""The least ratio that counts."""


def take_ready_ops(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where a run breaks what planned ops need of one another."""
    if len(both.sequence) <= MOST_SORTED and len(both.kernel_class):
        _ReadyOps(both, found).run()


class _ReadyOps:
    """What kernels of a step run, by what ops need; changes an assignment in place."""

    def __init__(self, both: PlanAndRun, found: KernelAssignment) -> None:
        sequence, ratios = both.sequence, both.ratios
        self.needs, self.sequence, self.ratios = dependences(both.plan, sequence), sequence, ratios
        self.kernels, self.kernel_class, self.found = both.kernels, both.kernel_class, found
        self.shape_of_row, self.shape_of_kind = _shapes(both.plan, sequence, both.kernels)
        self.rules, self.left_over = pair_model()["ready"], pair_model()["left_over"]
        self.cells = _MOST_CELLS
        self.fits: Bools = ratios.core >= np.maximum(self.rules["as_well"] * ratios.core.max(axis=0), ratios.behind)
        once = [not rule.repeats and not rule.piecewise for rule in sequence.rules]
        self.once = np.array(once) & np.array([not pieces for pieces in sequence.classes.pieces])
        self.written = np.array([rule.written_out for rule in sequence.rules])

    def run(self) -> None:
        """Mend the steps in which a dependence seems broken, in a run of few steps the others, too."""
        steps = list(each_step(self.found.step))
        for mine in steps if len(steps) <= _FEW_STEPS else self._suspect(steps):
            self._step(np.sort(mine))

    def _suspect(self, steps: Sequence[Int64s]) -> Iterator[Int64s]:
        """Those of many steps in which a dependence is broken, whatever lies between two ops."""
        found, rows = self.found, len(self.sequence)
        cores = np.flatnonzero(found.core & (found.row >= 0))
        step = np.zeros(len(found.step), dtype=np.int64)
        for number, mine in enumerate(steps):
            step[mine] = number
        first, last = np.full(len(steps) * rows, len(step)), np.full(len(steps) * rows, -1)
        np.minimum.at(first, step[cores] * rows + found.row[cores], cores)
        np.maximum.at(last, step[cores] * rows + found.row[cores], cores)
        first, last = first.reshape(-1, rows), last.reshape(-1, rows)
        wrong = np.zeros(len(steps), dtype=np.bool_)
        for before, after in zip(self.needs.before.tolist(), self.needs.after.tolist(), strict=True):
            end = last[:, after]
            wrong |= (first[:, before] > end + NEIGHBOURS) & (end >= 0) & (first[:, before] < len(step))
        return (steps[number] for number in np.flatnonzero(wrong).tolist())

    def _step(self, mine: Int64s) -> None:
        row = self.found.row[mine]
        now = np.where(self.found.core[mine] & (row >= 0), row, -1)
        broken = self._broken(now)
        while broken.any() and self.cells > 0:
            most, best = 0.0, now
            for tokens, kinds in self._able(broken):
                new, dearer = self._given_anew(now, mine, tokens, kinds)
                gain = self.rules["broken"] * (np.count_nonzero(broken) - np.count_nonzero(self._broken(new))) - dearer
                if gain > most:
                    most, best = gain, new
            if not most:
                break
            now, broken = best, self._broken(best)
        self._settle(mine, now)
        now = self._missed(now, mine)
        self._settle(mine, now)
        self._parts(now, mine)

    def _missed(self, now: Int64s, mine: Int64s) -> Int64s:
        """`now` with ops that nothing runs given to kernels that nothing else needs, by when they may run."""
        free = (self.found.row[mine] < 0) & (now < 0)
        hardly = (now >= 0) & (self.found.chance[mine] < self.rules["hardly"])
        hardly &= (self.found.first[mine] == self.found.last[mine]) & (
            self.found.how[mine] != HOW.index(MatchedBy.NAME)
        )
        again = np.zeros(len(now), dtype=np.bool_)
        again[self._again(now, mine)] = True
        spare = np.flatnonzero(free | hardly)
        begin, end = self._places(now)
        rows = self._vacant(now, begin, end)
        kinds = self.kernel_class[mine[spare]]
        rows = rows[self.fits[:, kinds].any(axis=1)[self.sequence.token[rows]]]
        self.cells -= len(rows) * len(spare)
        if not len(rows) or not len(spare) or self.cells < 0:
            return now
        token = self.sequence.token[rows]
        ratio = self.ratios.core[np.ix_(token, kinds)].T
        held = np.where(now[spare] >= 0, self.ratios.core[self.sequence.token[now[spare]], kinds], 0.0)[:, None]
        low, high = self._between(now, mine, spare)
        turn = ((now[spare] <= low) | (now[spare] >= high))[:, None] & (low[:, None] < rows) & (rows < high[:, None])
        able = free[spare][:, None] | (again[spare][:, None] & (ratio >= held)) | (turn & (ratio >= held))
        able |= ratio >= self.rules["far_better"] * np.maximum(held, 1.0)
        able &= (begin[rows] < spare[:, None]) & (spare[:, None] < end[rows])
        # Of a kernel without shapes less is told; of one that is hardly in no plan, enough.
        told = self.kernels.known[kinds] | (self.found.chance[mine[spare]] >= self.rules["hardly"])
        least = np.where(told, self.left_over["least_ratio"], self.left_over["least_mover_ratio"])
        able &= self.fits[np.ix_(token, kinds)].T & (ratio >= least[:, None])
        away = (end[rows] - spare[:, None]) / len(now)
        worth = np.where(able, 1.0 - away + np.where(begin[rows] >= 0, 0.5, 0.0) + turn, 0.0)
        at, to = linear_sum_assignment(worth, maximize=True)
        kept = able[at, to]
        new = now.copy()
        new[spare[at[kept]]] = rows[to[kept]]
        for kernel in spare[at[kept]].tolist():
            self._take_turns(new, mine, kernel)
        return new

    def _take_turns(self, now: Int64s, mine: Int64s, kernel: int) -> None:
        """Exchange the rows of a kernel and of the nearest of its like where they stand the other way round."""
        kind, core, token = self.kernel_class[mine], self.ratios.core, self.sequence.token
        main, shape = self.kernels.main[kind], self.shape_of_kind[kind]
        alike = np.flatnonzero((now >= 0) & (main == main[kernel]) & (shape == shape[kernel]))
        at = int(np.searchsorted(alike, kernel))
        for other in (*alike[max(at - 1, 0) : at].tolist(), *alike[at + 1 : at + 2].tolist()):
            turned = (other - kernel) * (now[other] - now[kernel]) < 0
            both = core[token[now[[other, kernel]]]][:, kind[[other, kernel]]]
            if turned and (both[0] == both[1]).all():
                now[other], now[kernel] = now[kernel], now[other]

    def _between(self, now: Int64s, mine: Int64s, which: Int64s) -> tuple[Int64s, Int64s]:
        """The rows that those before and behind each kernel run of which that is rather sure."""
        sure = np.flatnonzero((now >= 0) & (self.found.chance[mine] >= self.rules["hardly"]))
        rows = np.concatenate(([-1], now[sure], [len(self.sequence)]))
        at = np.searchsorted(sure, which)
        return rows[at], rows[np.minimum(at + 1, len(rows) - 1)]

    def _vacant(self, now: Int64s, begin: Int64s, end: Int64s) -> Int64s:
        """Rows that nothing runs, of which those before and behind tell between which kernels they may."""
        never = self.sequence.op >= 0
        never[now[now >= 0]] = False
        for side, outside, others in ((begin, begin < 0, self.needs.after), (end, end >= len(now), self.needs.before)):
            never &= ~outside | (np.bincount(others, minlength=len(side)) == 0)
        return np.flatnonzero(never & (begin < end))

    def _again(self, now: Int64s, mine: Int64s) -> Int64s:
        """Kernels that run an op which another one runs as well or better, though none should run it twice."""
        row = np.where(now >= 0, now, self.found.row[mine])
        token, kind = self.sequence.token[row], self.kernel_class[mine]
        ratio = self.ratios.core[token, kind]
        able = np.flatnonzero((row >= 0) & (ratio >= self.ratios.behind[token, kind]) & self.once[token])
        able = able[self.found.how[mine[able]] != HOW.index(MatchedBy.NAME)]
        order = able[np.lexsort((able, -ratio[able], now[able] < 0, row[able]))]
        return np.sort(order[1:][np.diff(row[order]) == 0])

    def _parts(self, now: Int64s, mine: Int64s) -> None:
        """Give kernels that seem to run an op once more to the op right beside them that is written out in such."""
        found, token = self.found, self.sequence.token
        again = self._again(now, mine)
        others = now.copy()
        others[again] = -1
        cores = np.flatnonzero(others >= 0)
        if not len(again) or not len(cores):
            return
        after = np.searchsorted(cores, again)
        for kernel, place in zip(again.tolist(), after.tolist(), strict=True):
            at, kind = int(mine[kernel]), int(self.kernel_class[mine[kernel]])
            beside = [(place, self.ratios.before), (place - 1, self.ratios.behind)]
            rows = [(int(now[cores[one]]), ratio) for one, ratio in beside if 0 <= one < len(cores)]
            own = int(found.row[at])
            if own in [row for row, _ in rows]:
                # Right beside what runs its op: what an op before that ends with, or once more.
                rows = [(row, ratio) for row, ratio in rows[1:] if row != own and rows[0][0] == own]
            else:
                rows = [(row, ratio) for row, ratio in rows if self.written[token[row]]]
            for row, ratio in rows:
                if ratio[token[row], kind] >= self.left_over["least_stray_ratio"]:
                    found.match(at, row)
                    found.core[at], found.how[at] = False, HOW.index(MatchedBy.PART)
                    break

    def _broken(self, row: Int64s) -> Bools:
        """Which dependences a step would break: what nothing runs is looked through."""
        first, last = self._places(row)
        ran = np.zeros(len(self.sequence), dtype=np.bool_)
        ran[row[row >= 0]] = True
        found: Bools = ran[self.needs.before] & (first[self.needs.before] > last[self.needs.after] + NEIGHBOURS)
        return found

    def _places(self, row: Int64s) -> tuple[Int64s, Int64s]:
        """Where in a step the first and the last kernel of each row stand, as `Dependences.places` says it."""
        there = np.flatnonzero(row >= 0)
        return self.needs.places(len(self.sequence), len(row), [(row[there], there)])

    def _able(self, broken: Bools) -> Iterator[tuple[Int64s, Int64s]]:
        """Classes of ops and of kernels that are at either end of broken dependences."""
        ends = np.concatenate([self.needs.before[broken], self.needs.after[broken]])
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

    def _given_anew(self, now: Int64s, mine: Int64s, tokens: Int64s, kinds: Int64s) -> tuple[Int64s, float]:
        found = self.found
        kind = self.kernel_class[mine]
        free = ((found.row[mine] < 0) | (now >= 0)) & np.isin(kind, kinds)
        free &= (found.first[mine] == found.last[mine]) & (found.how[mine] != HOW.index(MatchedBy.NAME))
        free &= (now < 0) | np.isin(self.sequence.token[np.maximum(now, 0)], tokens)
        taken = np.zeros(len(self.sequence), dtype=np.bool_)
        taken[now[~free & (now >= 0)]] = True
        free &= (now < 0) | ~taken[np.maximum(now, 0)]
        kernels = np.flatnonzero(free)
        rows = np.union1d(now[kernels][now[kernels] >= 0], self._vacant(now, *self._places(now)))
        rows = rows[np.isin(self.sequence.token[rows], tokens)]
        self.cells -= len(kernels) * (len(rows) + len(kernels))
        if not len(kernels) or not len(rows) or self.cells < 0:
            return now, 0.0
        cost, price = self._costs(now, kernels, kind[kernels], rows)
        at, to = linear_sum_assignment(cost)
        given = to < len(rows)
        new = now.copy()
        new[kernels] = -1
        new[kernels[at[given]]] = rows[to[given]]
        column = np.searchsorted(rows, now[kernels])
        before = now[kernels] >= 0
        paid = price[at[given], to[given]].sum() + self.rules["left"] * np.count_nonzero(before[at[~given]])
        return new, float(paid - price[np.flatnonzero(before), column[before]].sum())

    def _costs(self, now: Int64s, kernels: Int64s, kind: Int32s, rows: Int64s) -> tuple[Floats, Floats]:
        """What it costs to let each of `kernels` run each of `rows`, or nothing, and that without dependences."""
        first, last = self._places(now)
        ratio = self.ratios.core[np.ix_(self.sequence.token[rows], kind)].T
        best = self.ratios.core[:, kind].max(axis=0)
        price = np.log(np.maximum(best, _LEAST))[:, None] - np.log(np.maximum(ratio, _LEAST)).astype(np.float64)
        price += self.rules["moved"] * (now[kernels][:, None] != rows)
        price += self.rules["other_shape"] * (self.shape_of_kind[kind][:, None] != self.shape_of_row[rows])
        cost = price.copy()
        for column, row in enumerate(rows.tolist()):
            before = first[self.needs.before[self.needs.after == row]]
            behind = last[self.needs.after[self.needs.before == row]]
            cost[:, column] += self.rules["broken"] * (before > kernels[:, None] + NEIGHBOURS).sum(axis=1)
            cost[:, column] += self.rules["broken"] * (behind < kernels[:, None] - NEIGHBOURS).sum(axis=1)
        left = np.where(now[kernels] < 0, 0.0, self.rules["left"])
        return np.hstack([cost, np.broadcast_to(left[:, None], (len(kernels), len(kernels)))]), price

    def _settle(self, mine: Int64s, now: Int64s) -> None:
        found = self.found
        changed = mine[(now >= 0) & (now != found.row[mine])]
        row = now[(now >= 0) & (now != found.row[mine])]
        found.match(changed, row)
        found.core[changed], found.how[changed] = True, HOW.index(MatchedBy.DATAFLOW)


def _shapes(plan: Plan, sequence: PlannedSequence, kernels: TokenClasses) -> tuple[Int64s, Int64s]:
    """Numbers of the shapes, but for sides of one, that each row and each class of kernels reads."""
    index: dict[tuple[tuple[int, ...], ...], int] = {}

    def number(shapes: Iterable[Sequence[int]]) -> int:
        return index.setdefault(
            tuple(sorted(tuple(side for side in shape if side != 1) for shape in shapes)), len(index)
        )

    of_launch = [number(item.shape for item in launch.inputs if item is not None) for launch in plan.kernels]
    launched = [plan.ops[op].kernel if op >= 0 else None for op in sequence.op.tolist()]
    of_row = [-1 if launch is None else of_launch[launch] for launch in launched]
    return np.array(of_row, dtype=np.int64), np.array([number(shapes) for shapes in kernels.shapes], dtype=np.int64)


__all__ = ["take_ready_ops"]
