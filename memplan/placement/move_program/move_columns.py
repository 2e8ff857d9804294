"""The columns of the linear program of host moves, and what gaps are to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.placement.move_problem import MoveProblem

_MOST_UNITS, _LARGE_ROWS = 15_000, 150
"""With more units, those whose gaps lie alike between the steps with rows are decided as one, and rows are fewer."""


@dataclass(frozen=True)
class MoveColumns:
    """
    What the program's columns stand for. Times count in parts of `total` nanoseconds, bytes in parts of `capacity`.

    The steps `at` have rows; `elapsed` is the time before each step of the schedule, the whole appended. In order of
    gaps: `size`, the `first` row at or after the gap's start, the row where it is `due` back, whether its bytes leave
    `surely` only once copied, the unit that makes the host's copy current where it `begins`, and `unit_of`, its unit's
    column. `group` is the column of every unit, of which there are `units`. `late` are the gaps that are served by a
    copy made before them, or make it themselves: their own copies are the columns `copied`, what their chains have
    copied before `copied_before`, -1 where nothing was.

    Columns: a share of each unit, how much each late gap copies out, then `time`, `into` and `out` of each step and at
    the end; then the running sums of what was `dropped`, is `owed` and was `supplied` by each step. `width` is all.
    """

    capacity: int
    total: int
    at: Int64s
    elapsed: Int64s
    size: Floats
    first: Int64s
    due: Int64s
    surely: Bools
    begins: Int64s
    group: Int64s
    unit_of: Int64s
    units: int
    late: Int64s
    copied: Int64s
    copied_before: Int64s

    @property
    def count(self) -> int:
        """How many steps have rows."""
        return len(self.at)

    @property
    def time(self) -> int:
        """The column of the first step's time."""
        return self.units + len(self.late)

    @property
    def into(self) -> int:
        """The column of what has come in by the first step."""
        return self.time + self.count + 1

    @property
    def out(self) -> int:
        """The column of what has gone out by the first step."""
        return self.into + self.count + 1

    @property
    def dropped(self) -> int:
        """The column of what was dropped by the first step, or leaves once copied."""
        return self.out + self.count + 1

    @property
    def owed(self) -> int:
        """The column of what is due back by the first step."""
        return self.dropped + self.count

    @property
    def supplied(self) -> int:
        """The column of what could have been copied out by the first step."""
        return self.owed + self.count

    @property
    def width(self) -> int:
        """How many columns there are."""
        return self.supplied + self.count

    @property
    def after(self) -> Bools:
        """Which of the late gaps have a copy of their chain before them."""
        return self.copied_before >= 0

    @property
    def share_done(self) -> Floats:
        """The time before each step with rows and the whole, in parts of it."""
        return np.concatenate((self.elapsed[self.at], [self.total])) / self.total


def move_columns(problem: MoveProblem, capacity: int, rows: int, *, alike: bool) -> MoveColumns:
    """
    The columns for `problem` with at most `capacity` bytes in HBM and about `rows` steps with rows.

    With `alike`, and of many units always, those whose gaps lie alike between these steps are one column.
    """
    many = problem.units > _MOST_UNITS
    large = many or alike
    at = _steps(problem, min(rows, _LARGE_ROWS) if many else rows)
    gaps = problem.columns
    first = np.searchsorted(at, gaps.start)
    due = np.where(gaps.returns >= 0, np.searchsorted(at, gaps.returns), len(at))
    chain, surely = _chains(problem)
    begins = _begins_current(problem)
    group = _alike(problem, first, due, surely + 4 * (begins >= 0)) if large else np.arange(problem.units)
    unit_of, units = group[problem.unit], int(group.max(initial=-1)) + 1
    # In all that are decided as one, gaps served by one copy aren't alike, so that no copy is asked for there.
    late = np.flatnonzero((chain >= 0) & ~surely & (not large))
    copied = units + np.arange(len(late))
    return MoveColumns(
        capacity=capacity,
        total=max(int(problem.durations.sum()), 1),
        at=at,
        elapsed=np.concatenate(([0], np.cumsum(problem.durations))),
        size=gaps.size / capacity,
        first=first,
        due=due,
        surely=surely,
        begins=begins,
        group=group,
        unit_of=unit_of,
        units=units,
        late=late,
        copied=copied,
        copied_before=_copied_before(chain, late, copied, unit_of),
    )


def _steps(problem: MoveProblem, rows: int) -> Int64s:
    """The steps with rows: all, or the fullest of each of `rows` stretches of equal time or number."""
    steps = problem.steps
    if steps <= rows:
        return np.arange(steps)
    elapsed = np.cumsum(problem.durations)
    rank = np.arange(steps) / steps + elapsed / max(int(elapsed[-1]), 1)
    stretch = np.minimum((rank * rows / 2).astype(np.int64), rows - 1)
    edges = np.flatnonzero(np.diff(stretch, prepend=-1))
    return np.array([
        low + int(np.argmax(problem.live[low:high]))
        for low, high in zip(edges, np.append(edges[1:], steps), strict=True)
    ])  # fmt: skip


def _alike(problem: MoveProblem, first: Int64s, due: Int64s, sort: Int64s) -> Int64s:
    """The number of each unit's group: its gaps begin and end between the same steps with rows and are of one sort."""
    opens, closes = problem.before < 0, (problem.before >= 0) & (problem.columns.returns < 0)
    key = np.full((problem.units, 6), -1, dtype=np.int64)
    for block, gaps in ((0, ~closes), (3, closes)):
        rows = np.column_stack((first, due, sort + 2 * opens))[gaps]
        key[problem.unit[gaps], block : block + 3] = rows
    return np.unique(key, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _chains(problem: MoveProblem) -> tuple[Int64s, Bools]:
    """
    For each gap the number of the chain of gaps that one copy out serves, -1 where the host has its bytes anyway;
    and whether its bytes leave only once copied: those of the first gap of a chain.
    """
    storage, before = problem.storage, problem.before
    chain = np.full(len(storage), -1, dtype=np.int64)
    surely = np.zeros(len(storage), dtype=bool)
    number, stale = -1, False
    for gap in range(len(storage)):
        if gap == 0 or storage[gap] != storage[gap - 1]:
            stale = not problem.current[gap] and before[gap] >= 0
            fresh = stale
        else:
            fresh = bool(problem.changed[gap])
        if problem.changed[gap]:
            stale = fresh = True
        if before[gap] < 0:
            # It begins on the host, or in HBM with bytes that the host may lack.
            stale, fresh = not problem.current[gap], not problem.current[gap]
            if fresh:
                number += 1
            continue
        if fresh:
            number += 1
            surely[gap] = True
        if stale:
            chain[gap] = number
    return chain, surely


def _copied_before(chain: Int64s, late: Int64s, copied: Int64s, unit_of: Int64s) -> Int64s:
    """For each of the `late` gaps the column of what its chain has copied out before it, -1 where it is the first."""
    column = unit_of.copy()
    column[late] = copied
    members = np.flatnonzero(chain >= 0)
    before = np.full(len(chain), -1, dtype=np.int64)
    follows = chain[members[1:]] == chain[members[:-1]]
    before[members[1:][follows]] = column[members[:-1][follows]]
    return before[late]


def _begins_current(problem: MoveProblem) -> Int64s:
    """For each gap the unit whose move makes the host's copy current before anything was written, -1 for none."""
    storage = problem.storage
    found = np.full(len(storage), -1, dtype=np.int64)
    opening = -1
    for gap in range(len(storage)):
        if gap == 0 or storage[gap] != storage[gap - 1]:
            opening = int(problem.unit[gap]) if problem.before[gap] < 0 else -1
        elif problem.changed[gap]:
            opening = -1
        if problem.before[gap] >= 0:
            found[gap] = opening
    return found
