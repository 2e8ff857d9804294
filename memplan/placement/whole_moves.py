"""
Least step time of small cases with tensors that move as a whole: a mixed-integer program over steps.

A tensor is in HBM over whole steps, as in a plan: until the step at whose start its copy has left, and from the step in
whose wait it may begin to come back, once all has left that leaves before that step. Its transfers take link time
between those; that a link may leave one for another and go on with it later is all that no schedule does. Where the
search ends early its bound holds all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Floats
from memplan.placement.move_problem import MoveProblem

SMALL_CASE, LARGEST_CASE = 120, 400
"""Steps that gaps have together, at most, for the program to be solved at all: half a second and 2 s of CPU."""
_NODES = 60
"""Nodes of its search at most."""


@dataclass(frozen=True, slots=True)
class WholeBound:
    """`makespan_ns`: no choice of whole moves is shorter; `moved` is 1 for each unit of the best found, if any."""

    makespan_ns: int
    moved: Floats | None


class _Rows:
    """Rows `low <= sum(value * column) <= high` of a program, added one after the other."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def add(self, terms: list[tuple[int, float]], low: float = -np.inf, high: float = np.inf) -> None:
        for column, value in terms:
            self.row.append(len(self.low))
            self.column.append(column)
            self.value.append(value)
        self.low.append(low)
        self.high.append(high)


def whole_bound(
    problem: MoveProblem, capacity: int, nodes: int = _NODES, cells: int = LARGEST_CASE
) -> WholeBound | None:
    """The bound with at most `capacity` bytes in HBM; `None` where gaps have over `cells` steps or nothing fits."""
    columns, steps = problem.columns, problem.steps
    if int((columns.end - columns.start).sum()) + len(columns.gaps) > cells or not problem.units:
        return None
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    total = float(max(int(problem.durations.sum()), 1))
    spans = problem.durations / total
    makers = _copy_makers(problem)
    rows = _Rows()
    count = problem.units
    # Parts of each step: its wait for what leaves, its wait for what comes back, its op; then what lasts after the end.
    wait = count
    count += 2 * steps + 1
    parts = 3 * steps + 1
    high: dict[int, float] = {}
    room: list[list[tuple[int, float]]] = [[] for _ in range(steps)]
    link_in: list[list[tuple[int, float]]] = [[] for _ in range(parts)]
    link_out: list[list[tuple[int, float]]] = [[] for _ in range(parts)]
    whole = set(range(problem.units))
    for gap in range(len(columns.gaps)):
        start, end, back = int(columns.start[gap]), int(columns.end[gap]), int(columns.returns[gap])
        moved = int(problem.unit[gap])
        size = columns.size[gap] / capacity
        into, out = columns.in_ns[gap] / total, columns.out_ns[gap] / total
        opens = problem.before[gap] < 0
        # Out by the start of each step, and back from each on.
        gone = [moved if opens or makers[gap] is None else count + step for step in range(end - start)]
        if not opens and makers[gap] is not None:
            whole.update(gone)
            count += end - start
        returned: list[int] = []
        if back >= 0:
            returned = [count + step for step in range(end - start)]
            whole.update(returned)
            count += end - start
        for place in range(end - start):
            terms = [(gone[place], -size)]
            if returned:
                terms.append((returned[place], size))
                rows.add([(returned[place], 1.0), (gone[place], -1.0)], high=0)
                if place:
                    rows.add([(returned[place - 1], 1.0), (returned[place], -1.0)], high=0)
            room[start + place] += terms
            if gone[place] != moved:
                rows.add([(gone[place], 1.0), (moved, -1.0)], high=0)
                if place:
                    rows.add([(gone[place - 1], 1.0), (gone[place], -1.0)], high=0)
        done_in: list[tuple[int, float]] = []
        done_out: list[tuple[int, float]] = []
        copied = -1
        last = 3 * back + 1 if back >= 0 else 3 * steps
        if makers[gap] is not None and not opens:
            copied = count
            count += 1
            high[copied] = 1.0
            rows.add([(copied, 1.0), (moved, -1.0), *((unit, 1.0) for unit in makers[gap] or ())], low=0)
            rows.add([(copied, 1.0), (moved, -1.0)], high=0)
        for part in range(3 * start, last + 1):
            step, kind = divmod(part, 3)
            if copied >= 0:
                high[count] = out
                link_out[part].append((count, 1.0))
                done_out.append((count, 1 / out))
                count += 1
                if kind == 0 and step < end:
                    # Gone: nothing to copy, or copied by then.
                    rows.add([(gone[step - start], -1.0), (moved, 1.0), (copied, -1.0), *done_out], low=0)
            if back >= 0 and part > 3 * start:
                # What is under way goes on; what begins in this step does so once all has left that leaves before it.
                since = step - 1 if kind == 0 else step
                allowed = moved if since >= back else returned[since - start]
                high[count] = into
                link_in[part].append((count, 1.0))
                rows.add([(count, 1 / into), (allowed, -1.0)], high=0)
                done_in.append((count, 1 / into))
                count += 1
                if copied >= 0:
                    minus = [(column, -value) for column, value in done_in]
                    rows.add([(moved, 1.0), (copied, -1.0), *done_out, *minus], low=0)
        if done_in:
            rows.add([*done_in, (moved, -1.0)], low=0, high=0)
        if done_out:
            rows.add([*done_out, (copied, -1.0)], low=0, high=0)
    for step in range(steps):
        rows.add(room[step], high=1 - problem.live[step] / capacity)
    for part in range(parts):
        step, kind = divmod(part, 3)
        for link in (link_in[part], link_out[part]):
            if link and kind < 2:
                rows.add([*link, (wait + 2 * step + kind, -1.0)], high=0)
            elif link:
                rows.add(link, high=spans[step])
    cost = np.zeros(count)
    cost[wait : wait + 2 * steps + 1] = 1.0
    upper = np.full(count, np.inf)
    for column, limit in high.items():
        upper[column] = limit
    integral = np.zeros(count, dtype=int)
    integral[list(whole)] = 1
    upper[list(whole)] = 1.0
    matrix = coo_array((rows.value, (rows.row, rows.column)), shape=(len(rows.low), count)).tocsc()
    answer = milp(
        cost, integrality=integral, bounds=Bounds(np.zeros(count), upper),
        constraints=LinearConstraint(matrix, np.array(rows.low), np.array(rows.high)),
        options={"node_limit": nodes},
    )  # fmt: skip
    if answer.status == 2 or answer.mip_dual_bound is None:
        return None
    proven = max(float(answer.mip_dual_bound) - 1e-6, 0.0)
    moved_units = None if answer.x is None else np.asarray(answer.x)[: problem.units].round()
    return WholeBound(int((1 + proven) * total), moved_units)


def _copy_makers(problem: MoveProblem) -> list[tuple[int, ...] | None]:
    """For each gap the units one of which must be moved for its bytes to need no copy out; `None`: they never do."""
    found: list[tuple[int, ...] | None] = []
    makers: list[int] = []
    current = False
    for gap in range(len(problem.storage)):
        if gap == 0 or problem.storage[gap] != problem.storage[gap - 1]:
            current, makers = bool(problem.current[gap]), []
        if problem.changed[gap]:
            current, makers = False, []
        opens = problem.before[gap] < 0
        found.append(None if current or opens else tuple(makers))
        makers.append(int(problem.unit[gap]))
    return found
