"""
Least step time that any choice of host moves can reach: a linear program over bytes, link time and room.

Tensors may move in parts and every part counts from the moment its bytes have moved, which no real schedule can
better. At chosen steps the bytes in HBM are those that nothing moves, less what was dropped or copied out, plus what
has come back; a link carries its rate in the time between two steps; a step's operands are back when it starts. Rows
for more steps make the bound tighter, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memplan.hardware import Link
from memplan.placement.large_moves import large_bound, least_moved
from memplan.placement.move_problem import MoveProblem
from memplan.placement.whole_moves import whole_bound

MOST_LP_ROWS = 400
"""Steps that get rows of their own; with more than that many steps, the fullest of each stretch."""
_MOST_UNITS, _LARGE_ROWS = 15_000, 150
"""With more units, those whose gaps lie alike between the steps with rows are decided as one, and rows are fewer."""
_LARGE_PART, _PARTLY = 100, 0.02
"""What takes more than such a part of the room and moves by more than such a share moves whole in a second program."""
_HUGE_PART = 20
"""What takes more than such a part of the room and moves stays where it is in a further program."""
_EXACT_UNITS, _NODES = 100, 200
"""Up to so many units tensors move as a whole in the program too, with a search of at most so many nodes."""
_TIDY = 1e-4


@dataclass(frozen=True, slots=True)
class RecomputeColumns:
    """
    What could be made anew instead: `size` bytes less over the steps `[start, end)` for `cost_ns` before step `end`.

    `gap` is the row of the move problem that lies alike, -1 for none.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    size: NDArray[np.int64]
    cost_ns: NDArray[np.int64]
    gap: NDArray[np.int64]


Shares = NDArray[np.float64]


@dataclass(frozen=True)
class MoveBound:
    """
    `makespan_ns`: no schedule is shorter. `share` is how much of each unit's bytes the program moves (0 to 1),
    `solve_whole` finds the same where tensors, or the largest, move as a whole or not at all, and `step_start_ns` says
    when it starts each step, the end of the last one appended. `anew` is how much of what could be made anew is (0 to
    1).
    """

    makespan_ns: int
    share: Shares
    solve_whole: Callable[[], tuple[Shares, ...]]
    step_start_ns: NDArray[np.float64]
    anew: NDArray[np.float64] | None = None

    @cached_property
    def whole(self) -> tuple[Shares, ...]:
        """What `solve_whole` finds, nothing where that is not asked for; solved when first looked at."""
        return self.solve_whole()


def move_bound(
    problem: MoveProblem,
    capacity: int,
    *,
    rows: int = MOST_LP_ROWS,
    recompute: RecomputeColumns | None = None,
    exact: bool = True,
    thorough: bool = False,
    alike: bool = False,
) -> MoveBound | None:
    """
    The bound with at most `capacity` bytes in HBM; `None` where even moving everything leaves more than that.

    With `recompute` also over what is made anew. Ops that run again may do so at any time before the step that needs
    them, while it waits for a link as well; that their operands have to be there is not asked for. Where `exact`,
    tensors of small cases move as a whole in the program too; where `thorough`, `whole_bound` is asked as well.
    With `alike` what lies alike between the steps with rows is decided as one, as it always is of many units: much
    quicker, and the bound is a little lower.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    many = problem.units > _MOST_UNITS
    large = many or alike
    at = _steps(problem, min(rows, _LARGE_ROWS) if many else rows)
    count = len(at)
    columns = problem.columns
    total = max(int(problem.durations.sum()), 1)
    elapsed = np.concatenate(([0], np.cumsum(problem.durations)))
    rate_out, rate_in = (
        (link.bytes_per_second or 0.0) * total / 1e9 / capacity for link in (problem.out_link, problem.in_link)
    )
    first = np.searchsorted(at, columns.start)  # first chosen step at or after the gap's start
    due = np.where(columns.returns >= 0, np.searchsorted(at, columns.returns), count)
    size = columns.size / capacity
    chain, surely = _chains(problem)
    begins = _begins_current(problem)
    group = _alike(problem, first, due, surely + 4 * (begins >= 0)) if large else np.arange(problem.units)
    unit_of, units = group[problem.unit], int(group.max(initial=-1)) + 1
    # Gaps that are served by a copy made before them, or make it themselves: in all that are decided as one they aren't
    # alike, so that no copy is asked for there.
    late = np.flatnonzero((chain >= 0) & ~surely & (not large))
    # Columns: a share of each unit, how much has been copied out by each late gap, then per step: time, in, out.
    copied = units + np.arange(len(late))
    copied_before = _copied_before(chain, late, copied, unit_of)
    after = copied_before >= 0
    time, into, out = (units + len(late) + block * (count + 1) for block in range(3))
    width = units + len(late) + 3 * (count + 1)
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    limits: list[NDArray[np.float64]] = []
    height = 0

    def add(
        limit: NDArray[np.float64],
        *parts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
        absolute: bool = False,
    ) -> None:
        nonlocal height
        for row, column, value in parts:
            place = row if absolute else row + height
            entries.append((place, column, np.broadcast_to(value, row.shape).astype(float)))
        limits.append(limit)
        height += len(limit)

    row = np.arange(count)
    one = np.ones(1)
    instant = (~surely).nonzero()[0]

    # Running sums are columns of their own, so that every gap appears once: dropped, due and copied up to each step.
    dropped, owed, supplied = (width + block * count for block in range(3))
    width, equal_height = width + 3 * count, 3 * count
    equal: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for block, base in enumerate((dropped, owed, supplied)):
        equal.append((row + block * count, base + row, one))
        equal.append((row[1:] + block * count, base + row[:-1], -one))
    # What a late gap copies itself it has to supply rather than drop.
    for block, step, column, amount in (
        (0, first[instant], unit_of[instant], size[instant]),
        (0, first[late], copied, -size[late]),
        (0, first[late][after], copied_before[after], size[late][after]),
        (1, due, unit_of, size),
        (2, first[surely], unit_of[surely], size[surely]),
        (2, first[late], copied, size[late]),
        (2, first[late][after], copied_before[after], -size[late][after]),
    ):
        inside = step < count
        equal.append((step[inside] + block * count, column[inside], -amount[inside]))

    span = np.diff(np.concatenate((elapsed[at], [total]))) / total
    add(-span, (row, time + row, one), (row, time + row + 1, -one))  # ops take their time
    add(np.zeros(count), (row, into + row + 1, one), (row, into + row, -one), (row, time + row + 1, -rate_in * one),
        (row, time + row, rate_in * one))  # fmt: skip
    add(np.zeros(count), (row, out + row + 1, one), (row, out + row, -one), (row, time + row + 1, -rate_out * one),
        (row, time + row, rate_out * one))  # fmt: skip
    start = np.zeros(1, dtype=np.int64)
    add(np.zeros(1), (start, into + start, one), (start, time + start, -rate_in * one))
    add(np.zeros(1), (start, out + start, one), (start, time + start, -rate_out * one))
    add(np.zeros(count), (row, owed + row, one), (row, into + row, -one))  # operands are back
    add(np.zeros(count), (row, out + row, one), (row, supplied + row, -one))  # only what may leave leaves
    add(np.zeros(count), (row, into + row, one), (row, dropped + row, -one), (row, out + row, -one))
    room, room_row = 1 - problem.live[at] / capacity, height
    add(room, (row, into + row, one), (row, dropped + row, -one), (row, out + row, -one))
    # All that comes back and goes out does so within the step.
    back = np.flatnonzero(columns.returns >= 0)
    zero = np.zeros(len(back), dtype=np.int64)
    add(np.zeros(1), (zero, unit_of[back], size[back]), (start, into + count + start, -one))
    sure = np.flatnonzero(surely)

    def copies(longer: float) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Entries of all that is copied out, each transfer `longer` by so much."""
        columns_of = ((unit_of[sure], size[sure] + longer), (copied, size[late] + longer),
                      (copied_before[after], -size[late][after] - longer))  # fmt: skip
        return [(np.zeros(len(column), dtype=np.int64), column, amount) for column, amount in columns_of]

    add(np.zeros(1), *copies(0.0), (start, out + count + start, -one))
    # Every transfer takes its latency as well.
    each_in, each_out = (
        (link.latency_ns or 0) * (link.bytes_per_second or 0.0) / 1e9 / capacity
        for link in (problem.in_link, problem.out_link)
    )
    add(np.zeros(1), *copies(each_out), (start, time + count + start, -rate_out * one))
    zero = np.zeros(len(back), dtype=np.int64)
    add(np.zeros(1), (zero, unit_of[back], size[back] + each_in), (start, time + count + start, -rate_in * one))
    if problem.host_bytes is not None:
        # What exists between two steps keeps its place on the host.
        kept = np.array([storage.persistent for storage in problem.storages])[problem.storage]
        kept &= np.concatenate(([True], problem.storage[1:] != problem.storage[:-1]))
        kept = np.flatnonzero(kept & (problem.before < 0))
        add(np.array([problem.host_bytes / capacity]), (np.zeros(len(kept), dtype=np.int64), unit_of[kept], size[kept]))
    # Of what a gap moves a copy has been made by it, or begins on the host; it makes no more than it moves itself.
    number, opened = np.arange(len(late)), begins[late] >= 0
    add(
        np.zeros(len(late)),
        (number, unit_of[late], one),
        (number, copied, -one),
        (number[opened], group[begins[late][opened]], -one),
    )
    add(np.zeros(len(late)), (number, copied, -one), (number[after], copied_before[after], one))
    add(
        np.zeros(len(late)),
        (number, copied, one),
        (number[after], copied_before[after], -one),
        (number, unit_of[late], -one),
    )

    anew: NDArray[np.int64] | None = None
    if recompute is not None and len(recompute.size):
        anew, width = _made_anew(recompute, at, elapsed, capacity, width, add, equal, room_row, time, unit_of)
        equal_height += 2 * count

    moved = size + 0.0
    cost = np.zeros(width)
    cost[time + count] = 1.0
    np.add.at(cost, unit_of, _TIDY * moved / max(float(moved.sum()), 1e-9))
    cost[into : into + count] += _TIDY / max(count, 1) * 1e-3
    low = np.zeros(width)
    high = np.full(width, np.inf)
    high[: units + len(late)] = 1.0
    if anew is not None:
        high[anew] = 1.0
        cost[anew] += _TIDY / len(problem.storages)
    low[time] = elapsed[at[0]] / total
    rows_, columns_, values_ = (np.concatenate(part) for part in zip(*entries, strict=True))
    equal_rows, equal_columns, equal_values = (
        np.concatenate([np.broadcast_to(item[place], item[0].shape) for item in equal]) for place in range(3)
    )
    at_most = LinearConstraint(
        coo_array((values_, (rows_, columns_)), shape=(height, width)).tocsc(), ub=np.concatenate(limits)
    )
    exactly = LinearConstraint(
        coo_array((equal_values, (equal_rows, equal_columns)), shape=(equal_height, width)).tocsc(), lb=0, ub=0
    )
    limits_of = Bounds(low, high)
    answer = milp(cost, bounds=limits_of, constraints=(at_most, exactly))
    if answer.status != 0:
        return None
    solved, proven = np.asarray(answer.x), float(answer.fun)
    wholes: Shares | None = None
    # Over several links tensors move side by side, which the bounds of whole tensors don't ask for.
    several = len(problem.tiers) > 1
    together = whole_bound(problem, capacity) if thorough and anew is None and not several else None
    if together is not None:
        wholes = together.moved
    elif exact and problem.units <= _EXACT_UNITS:
        whole = (np.arange(width) < units).astype(int)
        answer = milp(
            cost, integrality=whole, bounds=limits_of, constraints=(at_most, exactly), options={"node_limit": _NODES}
        )
        proven = max(proven, float(answer.mip_dual_bound or 0.0))
        if answer.x is not None:
            wholes = np.asarray(answer.x)[:units].clip(0, 1)

    def solve_whole() -> tuple[Shares, ...]:
        if wholes is not None:
            return (wholes,)
        if not exact or together is not None or problem.units <= _EXACT_UNITS:
            return ()
        found = []
        # Rounded at the end, one would bring more than it is to, and what was moved for its sake is moved in vain.
        halves = _large_halves(problem, capacity, group, solved[:units])
        # What takes much of the room is long on its way while the other link rests: it may better stay.
        huge = _units_of(problem, capacity // _HUGE_PART, group)
        huge = huge[solved[huge] > _PARTLY]
        for chosen, value in ((halves, solved[halves].round()), (huge, np.zeros(len(huge)))):
            if not len(chosen):
                continue
            from_, to = low.copy(), high.copy()
            from_[chosen] = to[chosen] = value
            answer = milp(cost, bounds=Bounds(from_, to), constraints=(at_most, exactly))
            if answer.x is not None:
                found.append(np.asarray(answer.x)[:units].clip(0, 1)[group])
        return tuple(found)

    # What the second aim, to move little, may have cost is taken off again.
    least = max(proven - 1.1 * _TIDY - 1e-6, 1.0)
    starts = np.interp(
        np.arange(problem.steps + 1),
        np.append(at, problem.steps),
        (solved[time : time + count + 1] - np.concatenate((elapsed[at], [total])) / total) * total,
    )
    made = None if anew is None else solved[anew].clip(0, 1)
    bound_ns = max(
        int(least * total),
        0 if together is None else together.makespan_ns,
        0 if several else large_bound(problem, capacity, anew=anew is not None),
        0 if anew is not None else _link_ns(least_moved(problem, capacity), problem.in_link),
    )
    return MoveBound(bound_ns, solved[:units].clip(0, 1)[group], solve_whole, starts + elapsed, made)


def _link_ns(size: int, link: Link) -> int:
    return int(size * 1e9 // link.bytes_per_second) if link.bytes_per_second else 0


def _made_anew(
    recompute: RecomputeColumns,
    at: NDArray[np.int64],
    elapsed: NDArray[np.int64],
    capacity: int,
    width: int,
    add: Callable[..., None],
    equal: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]],
    room_row: int,
    time: int,
    unit_of: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int]:
    """
    Columns and rows for what is made anew, added to a linear program; the column of each, and the new width.

    Those that lie alike between the steps with rows and cost the same for their bytes are one column.
    """
    count, total = len(at), max(int(elapsed[-1]), 1)
    first, due = np.searchsorted(at, recompute.start), np.searchsorted(at, recompute.end)
    price = recompute.cost_ns / np.maximum(recompute.size, 1)
    key = np.column_stack((first, due, np.unique(price.round(6), return_inverse=True)[1].reshape(-1)))
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.reshape(-1)
    groups = int(group.max()) + 1
    size, cost = (
        np.bincount(group, recompute.size, groups) / capacity,
        np.bincount(group, recompute.cost_ns, groups) / total,
    )
    begin, end = np.zeros(groups, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    begin[group], end[group] = first, due
    column = width + np.arange(groups)
    spared, spent = width + groups, width + groups + count
    row, one, base = np.arange(count), np.ones(1), 3 * count
    for place, block in ((0, spared), (1, spent)):
        equal.append((row + base + place * count, block + row, one))
        equal.append((row[1:] + base + place * count, block + row[:-1], -one))
    inside, ended = begin < count, end < count
    equal.append((begin[inside] + base, column[inside], -size[inside]))
    equal.append((end[ended] + base, column[ended], size[ended]))
    equal.append((end[ended] + base + count, column[ended], -cost[ended]))
    add(np.zeros(0), (row + room_row, spared + row, -one), absolute=True)
    # What runs again has run before the step that needs it.
    add(-elapsed[at] / total, (row, spent + row, one), (row, time + row, -one))
    late = np.flatnonzero(~ended)
    zero = np.zeros(1, dtype=np.int64)
    add(
        -np.ones(1),
        (zero, spent + count - 1 + zero, one),
        (zero, time + count + zero, -one),
        (np.zeros(len(late), dtype=np.int64), column[late], cost[late]),
    )
    # Bytes are moved or made anew, not both.
    alike = np.flatnonzero(recompute.gap >= 0)
    number = np.arange(groups)
    sizes = recompute.size[alike] / capacity
    add(size, (number, column, size), (group[alike], unit_of[recompute.gap[alike]], sizes))
    return column[group], spent + count


def _large_halves(
    problem: MoveProblem, capacity: int, group: NDArray[np.int64], share: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Columns of units that take much of the room and are moved in part, which none can be."""
    large = _units_of(problem, capacity // _LARGE_PART, group)
    return large[(share[large] > _PARTLY) & (share[large] < 1 - _PARTLY)]


def _units_of(problem: MoveProblem, least: int, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns of units of `least` bytes and more."""
    size = np.zeros(problem.units, dtype=np.int64)
    np.maximum.at(size, problem.unit, problem.columns.size)
    found: NDArray[np.int64] = np.unique(group[size >= least])
    return found


def _steps(problem: MoveProblem, rows: int) -> NDArray[np.int64]:
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


def _alike(
    problem: MoveProblem, first: NDArray[np.int64], due: NDArray[np.int64], sort: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The number of each unit's group: its gaps begin and end between the same steps with rows and are of one sort."""
    opens, closes = problem.before < 0, (problem.before >= 0) & (problem.columns.returns < 0)
    key = np.full((problem.units, 6), -1, dtype=np.int64)
    for block, gaps in ((0, ~closes), (3, closes)):
        rows = np.column_stack((first, due, sort + 2 * opens))[gaps]
        key[problem.unit[gaps], block : block + 3] = rows
    return np.unique(key, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _chains(problem: MoveProblem) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
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


def _copied_before(
    chain: NDArray[np.int64], late: NDArray[np.int64], copied: NDArray[np.int64], unit_of: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each of the `late` gaps the column of what its chain has copied out before it, -1 where it is the first."""
    column = unit_of.copy()
    column[late] = copied
    members = np.flatnonzero(chain >= 0)
    before = np.full(len(chain), -1, dtype=np.int64)
    follows = chain[members[1:]] == chain[members[:-1]]
    before[members[1:][follows]] = column[members[:-1][follows]]
    return before[late]


def _begins_current(problem: MoveProblem) -> NDArray[np.int64]:
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
