"""The rows of the linear program of host moves, its aim, and the program as a solver takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.placement.move_problem import MoveProblem
from memplan.placement.move_program.linear_rows import ONE, Entries, LinearRows
from memplan.placement.move_program.move_columns import MoveColumns

if TYPE_CHECKING:
    from scipy.optimize import LinearConstraint, OptimizeResult

TIDY = 1e-4
"""What moving little weighs beside the step's time."""


@dataclass(frozen=True, slots=True)
class RecomputeColumns:
    """
    What could be made anew instead: `size` bytes less over the steps `[start, end)` for `cost_ns` before step `end`.

    `gap` is the row of the move problem that lies alike, -1 for none.
    """

    start: Int64s
    end: Int64s
    size: Int64s
    cost_ns: Int64s
    gap: Int64s


@dataclass(frozen=True)
class MoveProgram:
    """
    The program over `columns`: the least `cost` with every column between `low` and `high`.

    `anew` is the column of each of what could be made anew, `None` where nothing was asked for.
    """

    columns: MoveColumns
    cost: Floats
    low: Floats
    high: Floats
    rows: tuple[LinearConstraint, LinearConstraint]
    anew: Int64s | None

    def solve(self, *, whole: bool = False, nodes: int = 0) -> OptimizeResult:
        """The least cost; with `whole` units move as a whole, in a search of at most so many `nodes`."""
        from scipy.optimize import Bounds, milp

        limits = Bounds(self.low, self.high)
        if not whole:
            return milp(self.cost, bounds=limits, constraints=self.rows)
        integral = (np.arange(len(self.cost)) < self.columns.units).astype(int)
        return milp(
            self.cost, integrality=integral, bounds=limits, constraints=self.rows, options={"node_limit": nodes}
        )

    def solve_with(self, chosen: Int64s, value: Floats) -> OptimizeResult:
        """The least cost where the columns `chosen` have these values."""
        from scipy.optimize import Bounds, milp

        low, high = self.low.copy(), self.high.copy()
        low[chosen] = high[chosen] = value
        return milp(self.cost, bounds=Bounds(low, high), constraints=self.rows)


def move_program(problem: MoveProblem, columns: MoveColumns, recompute: RecomputeColumns | None) -> MoveProgram:
    """The program of `problem`, with `recompute` also over what is made anew."""
    from scipy.optimize import LinearConstraint

    rows, equal = LinearRows(), LinearRows()
    _running_sums(equal, columns)
    room = _step_rows(rows, problem, columns)
    _fresh_rows(rows, problem, columns)
    _transfer_rows(rows, problem, columns)
    if problem.host_bytes is not None:
        _host_room(rows, problem, columns, problem.host_bytes)
    _copy_rows(rows, columns)
    anew, width = None, columns.width
    if recompute is not None and len(recompute.size):
        anew, width = _made_anew(rows, equal, room, columns, recompute)
    cost, low, high = _aim(columns, width)
    if anew is not None:
        high[anew] = 1.0
        cost[anew] += TIDY / len(problem.storages)
    return MoveProgram(
        columns=columns,
        cost=cost,
        low=low,
        high=high,
        rows=(
            LinearConstraint(rows.matrix(width), ub=rows.limits),
            LinearConstraint(equal.matrix(width), lb=0, ub=0),
        ),
        anew=anew,
    )


def _sums(equal: LinearRows, count: int, blocks: Sequence[int]) -> int:
    """Make columns from each of `blocks` on running sums: each is the one before it, and what is added later."""
    row = np.arange(count)
    first = equal.height
    for base in blocks:
        equal.add(np.zeros(count), (row, base + row, ONE), (row[1:], base + row[:-1], -ONE))
    return first


def _running_sums(equal: LinearRows, columns: MoveColumns) -> None:
    """What is dropped, due and copied up to each step: columns of their own, so that every gap appears once."""
    count, size, after = columns.count, columns.size, columns.after
    first, late, copied, unit_of = columns.first, columns.late, columns.copied, columns.unit_of
    base = _sums(equal, count, (columns.dropped, columns.owed, columns.supplied))
    instant, surely = np.flatnonzero(~columns.surely), np.flatnonzero(columns.surely)
    before, of_late = columns.copied_before[after], first[late][after]
    # What a late gap copies itself it has to supply rather than drop.
    for block, step, column, amount in (
        (0, first[instant], unit_of[instant], size[instant]),
        (0, first[late], copied, -size[late]),
        (0, of_late, before, size[late][after]),
        (1, columns.due, unit_of, size),
        (2, first[surely], unit_of[surely], size[surely]),
        (2, first[late], copied, size[late]),
        (2, of_late, before, -size[late][after]),
    ):
        inside = step < count
        equal.extend(base, (step[inside] + block * count, column[inside], -amount[inside]))


def _rates(problem: MoveProblem, columns: MoveColumns) -> tuple[float, float]:
    """What the links out and in carry in the whole time."""
    rate_out, rate_in = (
        (link.bytes_per_second or 0.0) * columns.total / 1e9 / columns.capacity
        for link in (problem.out_link, problem.in_link)
    )
    return rate_out, rate_in


def _step_rows(rows: LinearRows, problem: MoveProblem, columns: MoveColumns) -> int:
    """What holds at every step; the first row of those that give it room."""
    count, time, into, out, dropped = columns.count, columns.time, columns.into, columns.out, columns.dropped
    rate_out, rate_in = _rates(problem, columns)
    row, none = np.arange(count), np.zeros(count)
    span = np.diff(np.concatenate((columns.elapsed[columns.at], [columns.total]))) / columns.total
    rows.add(-span, (row, time + row, ONE), (row, time + row + 1, -ONE))  # ops take their time
    for link, rate in ((into, rate_in), (out, rate_out)):
        rows.add(none, (row, link + row + 1, ONE), (row, link + row, -ONE), (row, time + row + 1, -rate * ONE),
                 (row, time + row, rate * ONE))  # fmt: skip
    start = np.zeros(1, dtype=np.int64)
    for link, rate in ((into, rate_in), (out, rate_out)):
        rows.add(np.zeros(1), (start, link + start, ONE), (start, time + start, -rate * ONE))
    rows.add(none, (row, columns.owed + row, ONE), (row, into + row, -ONE))  # operands are back
    rows.add(none, (row, out + row, ONE), (row, columns.supplied + row, -ONE))  # only what may leave leaves
    held = (row, into + row, ONE), (row, dropped + row, -ONE), (row, out + row, -ONE)
    rows.add(none, *held)
    return rows.add(1 - problem.live[columns.at] / columns.capacity, *held)


def _fresh_rows(rows: LinearRows, problem: MoveProblem, columns: MoveColumns) -> None:
    """
    What the op before a step has just written leaves no earlier than while that step waits: not beside the op.

    An op may take as long as half of the schedule, as the gradient of an embedding does, and nothing of what it writes
    has left when it ends.
    """
    count, time, out, after, late = columns.count, columns.time, columns.out, columns.after, columns.late
    size, first, unit_of = columns.size, columns.first, columns.unit_of
    rate_out, _ = _rates(problem, columns)
    row = np.arange(1, count)
    fresh = (first > 0) & (first < count)
    fresh[fresh] = columns.at[first[fresh]] == problem.columns.start[fresh]
    sure, of_late = np.flatnonzero(columns.surely & fresh), fresh[late]
    again = of_late & after
    span = np.diff(columns.elapsed[columns.at]) / columns.total
    rows.add(
        -rate_out * span,
        (row - 1, out + row, ONE),
        (row - 1, columns.supplied + row, -ONE),
        (first[sure] - 1, unit_of[sure], size[sure]),
        (first[late][of_late] - 1, columns.copied[of_late], size[late][of_late]),
        (first[late][again] - 1, columns.copied_before[again], -size[late][again]),
        (row - 1, time + row, -rate_out * ONE),
        (row - 1, time + row - 1, rate_out * ONE),
    )


def _transfer_rows(rows: LinearRows, problem: MoveProblem, columns: MoveColumns) -> None:
    """All that comes back and goes out does so within the step, and every transfer takes its latency as well."""
    count, time, unit_of, size = columns.count, columns.time, columns.unit_of, columns.size
    rate_out, rate_in = _rates(problem, columns)
    back = np.flatnonzero(problem.columns.returns >= 0)
    zero, start = np.zeros(len(back), dtype=np.int64), np.zeros(1, dtype=np.int64)
    each_in, each_out = (
        (link.latency_ns or 0) * (link.bytes_per_second or 0.0) / 1e9 / columns.capacity
        for link in (problem.in_link, problem.out_link)
    )
    rows.add(np.zeros(1), (zero, unit_of[back], size[back]), (start, columns.into + count + start, -ONE))
    rows.add(np.zeros(1), *_copies(columns, 0.0), (start, columns.out + count + start, -ONE))
    rows.add(np.zeros(1), *_copies(columns, each_out), (start, time + count + start, -rate_out * ONE))
    rows.add(np.zeros(1), (zero, unit_of[back], size[back] + each_in), (start, time + count + start, -rate_in * ONE))


def _copies(columns: MoveColumns, longer: float) -> list[Entries]:
    """Entries of all that is copied out, each transfer `longer` by so much."""
    size, late, after = columns.size, columns.late, columns.after
    sure = np.flatnonzero(columns.surely)
    entries = (
        (columns.unit_of[sure], size[sure] + longer),
        (columns.copied, size[late] + longer),
        (columns.copied_before[after], -size[late][after] - longer),
    )
    return [(np.zeros(len(column), dtype=np.int64), column, amount) for column, amount in entries]


def _host_room(rows: LinearRows, problem: MoveProblem, columns: MoveColumns, host_bytes: int) -> None:
    """What exists between two steps keeps its place on the host."""
    kept = np.array([storage.persistent for storage in problem.storages])[problem.storage]
    kept &= np.concatenate(([True], problem.storage[1:] != problem.storage[:-1]))
    kept = np.flatnonzero(kept & (problem.before < 0))
    zero = np.zeros(len(kept), dtype=np.int64)
    rows.add(np.array([host_bytes / columns.capacity]), (zero, columns.unit_of[kept], columns.size[kept]))


def _copy_rows(rows: LinearRows, columns: MoveColumns) -> None:
    """Of what a gap moves a copy has been made by it, or begins on the host; it makes no more than it moves itself."""
    late, copied, unit_of, after = columns.late, columns.copied, columns.unit_of, columns.after
    before, none = columns.copied_before[after], np.zeros(len(late))
    number, begins = np.arange(len(late)), columns.begins[late]
    opened = begins >= 0
    rows.add(
        none,
        (number, unit_of[late], ONE),
        (number, copied, -ONE),
        (number[opened], columns.group[begins[opened]], -ONE),
    )
    rows.add(none, (number, copied, -ONE), (number[after], before, ONE))
    rows.add(none, (number, copied, ONE), (number[after], before, -ONE), (number, unit_of[late], -ONE))


def _made_anew(
    rows: LinearRows, equal: LinearRows, room: int, columns: MoveColumns, recompute: RecomputeColumns
) -> tuple[Int64s, int]:
    """
    Columns and rows for what is made anew; the column of each, and the new width.

    Those that lie alike between the steps with rows and cost the same for their bytes are one column.
    """
    at, elapsed, count, width = columns.at, columns.elapsed, columns.count, columns.width
    capacity, total, time = columns.capacity, columns.total, columns.time
    first, due = np.searchsorted(at, recompute.start), np.searchsorted(at, recompute.end)
    price = recompute.cost_ns / np.maximum(recompute.size, 1)
    key = np.column_stack((first, due, np.unique(price.round(6), return_inverse=True)[1].reshape(-1)))
    group = np.unique(key, axis=0, return_inverse=True)[1].reshape(-1)
    groups = int(group.max()) + 1
    size, cost = (
        np.bincount(group, recompute.size, groups) / capacity,
        np.bincount(group, recompute.cost_ns, groups) / total,
    )
    begin, end = np.zeros(groups, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    begin[group], end[group] = first, due
    column = width + np.arange(groups)
    spared, spent = width + groups, width + groups + count
    row = np.arange(count)
    base = _sums(equal, count, (spared, spent))
    inside, ended = begin < count, end < count
    equal.extend(
        base,
        (begin[inside], column[inside], -size[inside]),
        (end[ended], column[ended], size[ended]),
        (end[ended] + count, column[ended], -cost[ended]),
    )
    rows.extend(room, (row, spared + row, -ONE))
    # What runs again has run before the step that needs it.
    rows.add(-elapsed[at] / total, (row, spent + row, ONE), (row, time + row, -ONE))
    late = np.flatnonzero(~ended)
    zero = np.zeros(1, dtype=np.int64)
    rows.add(
        -np.ones(1),
        (zero, spent + count - 1 + zero, ONE),
        (zero, time + count + zero, -ONE),
        (np.zeros(len(late), dtype=np.int64), column[late], cost[late]),
    )
    # Bytes are moved or made anew, not both.
    alike = np.flatnonzero(recompute.gap >= 0)
    sizes = recompute.size[alike] / capacity
    moved = columns.unit_of[recompute.gap[alike]]
    rows.add(size, (np.arange(groups), column, size), (group[alike], moved, sizes))
    return column[group], spent + count


def _aim(columns: MoveColumns, width: int) -> tuple[Floats, Floats, Floats]:
    """Cost, least and most of each column: the end of the step, and besides to move little."""
    count, into, time = columns.count, columns.into, columns.time
    cost = np.zeros(width)
    cost[time + count] = 1.0
    np.add.at(cost, columns.unit_of, TIDY * columns.size / max(float(columns.size.sum()), 1e-9))
    cost[into : into + count] += TIDY / max(count, 1) * 1e-3
    low = np.zeros(width)
    low[time] = columns.elapsed[columns.at[0]] / columns.total
    high = np.full(width, np.inf)
    high[:time] = 1.0
    return cost, low, high
