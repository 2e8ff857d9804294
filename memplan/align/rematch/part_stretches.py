"""Stretches of small kernels between two main ones, of which a run has the same in every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Bools, Int64s
from memplan.core.distinct import distinct

_MOST_KERNELS, _MOST_ROWS = 80, 16
"""Kernels, and rows of the plan, of a stretch at most."""
_FEW_ROWS = 3
"""Rows of a stretch with one op between those before and behind it."""
_MOST_STRETCHES = 250
"""Kinds of stretches that are looked at: those of most kernels."""


@dataclass(frozen=True, slots=True)
class PartStretch:
    """
    All stretches of a kind, which begin at places `begins` of `kernels`, those that run one behind the other.

    `kinds` are the classes of their kernels, `tokens` those of the ops they may be of, the first and last of which run
    the main kernels before and behind them; `offsets` are the rows of these counted from `rows`, that of the first one
    of each stretch. `cut` is which of these ops each kernel is matched with, -1 for none. A stretch is `open` where
    it may be cut otherwise.
    """

    kernels: Int64s
    begins: Int64s
    rows: Int64s
    kinds: Int64s
    tokens: Int64s
    offsets: Int64s
    cut: Int64s
    open: bool


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where stretches begin and end among kernels in a row, and the rows of the main kernels around them."""

    begin: Int64s
    end: Int64s
    first: Int64s
    last: Int64s
    step: Int64s

    def taken(self, which: Bools) -> _Ends:
        return _Ends(*(each[which] for each in (self.begin, self.end, self.first, self.last, self.step)))


def part_stretches(both: PlanAndRun, inside: Bools, found: KernelAssignment) -> list[PartStretch]:
    """The kinds of stretches of an assignment, those of most kernels first; kernels `inside` ops are left out."""
    sequence, kernels, kernel_class = both.sequence, both.kernels, both.kernel_class
    known = family_table()
    heavy = sequence.classes.among(known.heavy)[sequence.token]
    chain = np.flatnonzero(~inside & ~kernels.among(known.apart)[kernel_class])
    row, kind = found.row[chain], kernel_class[chain].astype(np.int64)
    _, step = distinct(found.step)
    ran = np.zeros((int(step.max(initial=-1)) + 1, len(sequence)), dtype=np.bool_)
    ran[step[found.row >= 0], found.row[found.row >= 0]] = True
    step = step[chain]
    alone = found.first[chain] == found.last[chain]
    anchor = found.core[chain] & (row >= 0) & alone & heavy[row] & kernels.among(known.heavy)[kind]
    at = np.flatnonzero(anchor)
    ends = _Ends(at[:-1] + 1, at[1:], row[at[:-1]], row[at[1:]], step[at[:-1]])
    # Nothing of several ops, of two steps or of what stands beside the plan.
    strange = ~alone | ((row >= 0) & (sequence.op[row] < 0)) | np.append(False, step[1:] != step[:-1])
    total = np.concatenate(([0], np.cumsum(strange)))
    size = ends.end - ends.begin
    # Phases and micro-batches begin seldom, and each in its own way.
    one_way = (sequence.place[ends.first, :2] == sequence.place[ends.last, :2]).all(axis=1)
    good = one_way & (size > 0) & (size <= _MOST_KERNELS) & (ends.step == step[at[1:]]) & (ends.first != ends.last)
    ends = ends.taken(good & (total[ends.end] == total[ends.begin]))
    if not len(ends.begin):
        return []
    _, kind_of, count = np.unique(_numbers(sequence, kind, row, ends, ran), return_inverse=True, return_counts=True)
    order = np.argsort(kind_of, kind="stable")
    until = np.cumsum(count)
    size = (ends.end - ends.begin)[order[until - count]]
    made = []
    for which in np.argsort(-count * size, kind="stable")[:_MOST_STRETCHES].tolist():
        members = order[until[which] - count[which] : until[which]]
        one, begins, rows = int(members[0]), ends.begin[members], ends.first[members]
        mine = slice(int(ends.begin[one]), int(ends.end[one]))
        ops = _rows(sequence, heavy, row[mine], int(ends.first[one]), int(ends.last[one]), ran[ends.step[one]])
        if ops is None:
            continue
        number = {each: place for place, each in reversed(list(enumerate(ops)))}
        cut = np.array([number.get(each, -1) for each in row[mine].tolist()], dtype=np.int64)
        # Parts that are all of one op stay where it may share them with one other at most.
        several = len(np.unique(cut)) > 1 or len(ops) > _FEW_ROWS or bool((cut < 0).any())
        offsets = np.array(ops, dtype=np.int64)
        tokens = sequence.token[offsets].astype(np.int64)
        made.append(PartStretch(chain, begins, rows, kind[mine], tokens, offsets - ops[0], cut, several))
    return made


def _rows(sequence: PlannedSequence, heavy: Bools, mine: Int64s, first: int, last: int, ran: Bools) -> list[int] | None:
    """
    The rows that kernels between those of `first` and `last` may be of, which `mine` are of: in the plan's order.

    Where the run is in another order than the plan, these are just those that it has. None where too many are.
    """
    seen = list(dict.fromkeys(mine[mine >= 0].tolist()))
    inner = [row for row in seen if row not in (first, last)]
    if first < last <= first + _MOST_ROWS and all(first <= row <= last for row in seen):
        free = ~heavy & ~ran & (sequence.op >= 0)
        inner = [row for row in range(first + 1, last) if row in inner or free[row]]
    main = [heavy[row] and not sequence.rules[sequence.token[row]].written_out for row in inner]
    return None if any(main) or len(inner) + 2 > _MOST_ROWS else [first, *inner, last]


def _numbers(sequence: PlannedSequence, kind: Int64s, row: Int64s, ends: _Ends, ran: Bools) -> Int64s:
    """A number for each stretch that is equal for those of one kind: of one kernels, matched alike, of ops alike."""
    size = ends.end - ends.begin
    of = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(of)) - np.repeat(np.cumsum(size) - size, size)
    kernel = ends.begin[of] + place
    mine = row[kernel]
    columns = kind[kernel], np.where(mine >= 0, mine - ends.first[of], -len(sequence)), sequence.token[mine], place
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mixed(*columns))))
    kernels = total[np.cumsum(size)] - total[np.cumsum(size) - size]
    # The plan between both ends: pairs of neighbours, and what of it is left out.
    tokens = sequence.token.astype(np.int64)
    pairs = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mixed(tokens[:-1], tokens[1:]))))
    missed = np.concatenate((np.zeros((len(ran), 1), np.int64), np.cumsum(~ran, axis=1)), axis=1)
    low, high = np.minimum(ends.first, ends.last), np.maximum(ends.first, ends.last)
    left_out = missed[ends.step, high] - missed[ends.step, low]
    between = (pairs[high] - pairs[low]).view(np.int64)
    return _mixed(kernels.view(np.int64), between, ends.last - ends.first, tokens[ends.first], left_out).view(np.int64)


def _mixed(*columns: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.uint64]:
    """Columns of integers as one of numbers whose bits are spread over all 64 (Steele, Lea, Flood 2014: splitmix64)."""
    found = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        value = (found ^ column.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found = value ^ (value >> np.uint64(31))
    return found


__all__ = ["PartStretch", "part_stretches"]
