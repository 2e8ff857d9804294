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


class _Program:
    """
    Columns and rows `low <= sum(value * column) <= high` of the program, added one after the other.

    The first columns are the units, 1 where they are moved; then come the waits of all parts. A step has three parts:
    its wait for what leaves, its wait for what comes back, and its op; a last part is what lasts after the end. Times
    are shares of `total_ns`, bytes of the capacity.
    """

    def __init__(self, problem: MoveProblem) -> None:
        self.total_ns = float(max(int(problem.durations.sum()), 1))
        self.units, self.steps, self.parts = problem.units, problem.steps, 3 * problem.steps + 1
        self.wait = problem.units
        self.count = problem.units + 2 * problem.steps + 1
        self.whole = set(range(problem.units))
        self.most: dict[int, float] = {}
        self.room: list[list[tuple[int, float]]] = [[] for _ in range(self.steps)]
        """What changes the bytes that are live at each step."""
        self.link_in: list[list[tuple[int, float]]] = [[] for _ in range(self.parts)]
        self.link_out: list[list[tuple[int, float]]] = [[] for _ in range(self.parts)]
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def share(self, most: float) -> int:
        """A further column, between 0 and `most`."""
        self.most[self.count] = most
        self.count += 1
        return self.count - 1

    def choices(self, number: int) -> list[int]:
        """So many further columns, each 0 or 1."""
        found = list(range(self.count, self.count + number))
        self.whole.update(found)
        self.count += number
        return found

    def add(self, terms: list[tuple[int, float]], low: float = -np.inf, high: float = np.inf) -> None:
        """A further row."""
        for column, value in terms:
            self.row.append(len(self.low))
            self.column.append(column)
            self.value.append(value)
        self.low.append(low)
        self.high.append(high)

    def solved(self, nodes: int) -> WholeBound | None:
        """The bound after at most so many `nodes` of the search; `None` where nothing fits."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        cost = np.zeros(self.count)
        cost[self.wait : self.wait + 2 * self.steps + 1] = 1.0
        upper = np.full(self.count, np.inf)
        for column, limit in self.most.items():
            upper[column] = limit
        integral = np.zeros(self.count, dtype=int)
        integral[list(self.whole)] = 1
        upper[list(self.whole)] = 1.0
        matrix = coo_array((self.value, (self.row, self.column)), shape=(len(self.low), self.count)).tocsc()
        answer = milp(
            cost, integrality=integral, bounds=Bounds(np.zeros(self.count), upper),
            constraints=LinearConstraint(matrix, np.array(self.low), np.array(self.high)),
            options={"node_limit": nodes},
        )  # fmt: skip
        if answer.status == 2 or answer.mip_dual_bound is None:
            return None
        proven = max(float(answer.mip_dual_bound) - 1e-6, 0.0)
        moved_units = None if answer.x is None else np.asarray(answer.x)[: self.units].round()
        return WholeBound(int((1 + proven) * self.total_ns), moved_units)


@dataclass(frozen=True, slots=True)
class _Gap:
    """
    A gap of the program and its columns: the unit that is `moved`, and out or `returned` by the start of each step.

    `copied` says whether its bytes are copied out, -1 where they never are; `back` is the step that needs them again,
    -1 where none does.
    """

    start: int
    end: int
    back: int
    moved: int
    gone: list[int]
    returned: list[int]
    copied: int
    into: float
    out: float


def whole_bound(
    problem: MoveProblem, capacity: int, nodes: int = _NODES, cells: int = LARGEST_CASE
) -> WholeBound | None:
    """The bound with at most `capacity` bytes in HBM; `None` where gaps have over `cells` steps or nothing fits."""
    columns = problem.columns
    if int((columns.end - columns.start).sum()) + len(columns.gaps) > cells or not problem.units:
        return None
    program = _Program(problem)
    makers = _copy_makers(problem)
    for gap in range(len(columns.gaps)):
        _add_transfers(program, _added_gap(program, problem, gap, makers[gap], capacity))
    for step in range(program.steps):
        program.add(program.room[step], high=1 - problem.live[step] / capacity)
    spans = problem.durations / program.total_ns
    for part in range(program.parts):
        step, kind = divmod(part, 3)
        for link in (program.link_in[part], program.link_out[part]):
            if link and kind < 2:
                program.add([*link, (program.wait + 2 * step + kind, -1.0)], high=0)
            elif link:
                program.add(link, high=spans[step])
    return program.solved(nodes)


def _added_gap(
    program: _Program, problem: MoveProblem, gap: int, makers: tuple[int, ...] | None, capacity: int
) -> _Gap:
    """Columns of a gap, and rows that say in which steps its bytes are in HBM and whether they are copied."""
    columns = problem.columns
    start, end, back = int(columns.start[gap]), int(columns.end[gap]), int(columns.returns[gap])
    moved, size = int(problem.unit[gap]), columns.size[gap] / capacity
    copies = makers is not None and problem.before[gap] >= 0
    gone = program.choices(end - start) if copies else [moved] * (end - start)
    returned = program.choices(end - start) if back >= 0 else []
    for place in range(end - start):
        terms = [(gone[place], -size)]
        if returned:
            terms.append((returned[place], size))
            program.add([(returned[place], 1.0), (gone[place], -1.0)], high=0)
            if place:
                program.add([(returned[place - 1], 1.0), (returned[place], -1.0)], high=0)
        program.room[start + place] += terms
        if copies:
            program.add([(gone[place], 1.0), (moved, -1.0)], high=0)
            if place:
                program.add([(gone[place - 1], 1.0), (gone[place], -1.0)], high=0)
    copied = -1
    if copies:
        copied = program.share(1.0)
        program.add([(copied, 1.0), (moved, -1.0), *((unit, 1.0) for unit in makers or ())], low=0)
        program.add([(copied, 1.0), (moved, -1.0)], high=0)
    into, out = columns.in_ns[gap] / program.total_ns, columns.out_ns[gap] / program.total_ns
    return _Gap(start, end, back, moved, gone, returned, copied, into, out)


def _add_transfers(program: _Program, gap: _Gap) -> None:
    """Columns and rows of the link time that a gap takes in each part, out and back."""
    done_in: list[tuple[int, float]] = []
    done_out: list[tuple[int, float]] = []
    last = 3 * gap.back + 1 if gap.back >= 0 else 3 * program.steps
    for part in range(3 * gap.start, last + 1):
        step, kind = divmod(part, 3)
        if gap.copied >= 0:
            leaves = program.share(gap.out)
            program.link_out[part].append((leaves, 1.0))
            done_out.append((leaves, 1 / gap.out))
            if kind == 0 and step < gap.end:
                # Gone: nothing to copy, or copied by then.
                gone = gap.gone[step - gap.start]
                program.add([(gone, -1.0), (gap.moved, 1.0), (gap.copied, -1.0), *done_out], low=0)
        if gap.back >= 0 and part > 3 * gap.start:
            # What is under way goes on; what begins in this step does so once all has left that leaves before it.
            since = step - 1 if kind == 0 else step
            allowed = gap.moved if since >= gap.back else gap.returned[since - gap.start]
            comes = program.share(gap.into)
            program.link_in[part].append((comes, 1.0))
            program.add([(comes, 1 / gap.into), (allowed, -1.0)], high=0)
            done_in.append((comes, 1 / gap.into))
            if gap.copied >= 0:
                minus = [(column, -value) for column, value in done_in]
                program.add([(gap.moved, 1.0), (gap.copied, -1.0), *done_out, *minus], low=0)
    if done_in:
        program.add([*done_in, (gap.moved, -1.0)], low=0, high=0)
    if done_out:
        program.add([*done_out, (gap.copied, -1.0)], low=0, high=0)


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
