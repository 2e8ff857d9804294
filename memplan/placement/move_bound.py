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
from functools import cached_property, partial

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.hardware import Link
from memplan.placement.large_moves import large_bound, least_moved
from memplan.placement.move_problem import MoveProblem
from memplan.placement.move_program.move_columns import MoveColumns, move_columns
from memplan.placement.move_program.move_rows import TIDY, MoveProgram, RecomputeColumns, move_program
from memplan.placement.whole_moves import whole_bound

MOST_LP_ROWS = 400
"""Steps that get rows of their own; with more than that many steps, the fullest of each stretch."""
_LARGE_PART, _PARTLY = 100, 0.02
"""What takes more than such a part of the room and moves by more than such a share moves whole in a second program."""
_HUGE_PART = 20
"""What takes more than such a part of the room stays where it is in further programs."""
_MOST_ALONE = 3
"""Of what is that large and moves by more than half, so many are each tried as the only one that moves."""
_EXACT_UNITS, _NODES = 100, 200
"""Up to so many units tensors move as a whole in the program too, with a search of at most so many nodes."""

Shares = Floats


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
    step_start_ns: Floats
    anew: Floats | None = None

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
    columns = move_columns(problem, capacity, rows, alike=alike)
    program = move_program(problem, columns, recompute)
    answer = program.solve()
    if answer.status != 0:
        return None
    solved, proven = np.asarray(answer.x), float(answer.fun)
    # Over several links tensors move side by side, which the bounds of whole tensors don't ask for.
    alone = program.anew is None and len(problem.tiers) <= 1
    together = whole_bound(problem, capacity) if thorough and alone else None
    wholes: tuple[Shares, ...] = () if together is None or together.moved is None else (together.moved,)
    solve_whole: Callable[[], tuple[Shares, ...]] = partial(_largest_whole, problem, program, solved)
    if together is None and exact and problem.units <= _EXACT_UNITS:
        answer = program.solve(whole=True, nodes=_NODES)
        proven = max(proven, float(answer.mip_dual_bound or 0.0))
        if answer.x is not None:
            wholes = (np.asarray(answer.x)[: columns.units].clip(0, 1),)
    if together is not None or not exact or problem.units <= _EXACT_UNITS:
        solve_whole = partial(tuple, wholes)
    bound_ns = max(
        # What the second aim, to move little, may have cost is taken off again.
        int(max(proven - 1.1 * TIDY - 1e-6, 1.0) * columns.total),
        0 if together is None else together.makespan_ns,
        0 if len(problem.tiers) > 1 else large_bound(problem, capacity, anew=program.anew is not None),
        0 if program.anew is not None else _link_ns(least_moved(problem, capacity), problem.in_link),
    )
    made = None if program.anew is None else solved[program.anew].clip(0, 1)
    share = solved[: columns.units].clip(0, 1)[columns.group]
    return MoveBound(bound_ns, share, solve_whole, _step_starts(columns, solved, problem.steps), made)


def _step_starts(columns: MoveColumns, solved: Floats, steps: int) -> Floats:
    """When each step starts in nanoseconds, the end of the last appended: between steps with rows as planned."""
    late = solved[columns.time : columns.time + columns.count + 1] - columns.share_done
    starts: Floats = np.interp(np.arange(steps + 1), np.append(columns.at, steps), late * columns.total)
    return starts + columns.elapsed


def _largest_whole(problem: MoveProblem, program: MoveProgram, solved: Floats) -> tuple[Shares, ...]:
    """What units move where the largest move as a whole, and where of the very largest none moves, or one."""
    columns = program.columns
    share, group = solved[: columns.units], columns.group
    # Rounded at the end, one would bring more than it is to, and what was moved for its sake is moved in vain.
    halves = _large_halves(problem, columns.capacity, group, share)
    # What takes much of the room is long on its way while the other link rests: it may better stay. Where only those
    # stay that would move, others as large move in their place.
    huge = _units_of(problem, columns.capacity // _HUGE_PART, group)
    moving = huge[share[huge] > _PARTLY]
    fixed = [(halves, share[halves].round()), (moving, np.zeros(len(moving)))]
    if 0 < len(moving) < len(huge):
        fixed.append((huge, np.zeros(len(huge))))
    if len(moving) > 1:
        mostly = moving[np.argsort(-share[moving], kind="stable")]
        alone = mostly[share[mostly] > 1 / 2][:_MOST_ALONE]
        fixed += [(huge, (huge == one).astype(np.float64)) for one in alone.tolist()]
    answers = [program.solve_with(chosen, value) for chosen, value in fixed if len(chosen)]
    return tuple(np.asarray(answer.x)[: columns.units].clip(0, 1)[group] for answer in answers if answer.x is not None)


def _link_ns(size: int, link: Link) -> int:
    return int(size * 1e9 // link.bytes_per_second) if link.bytes_per_second else 0


def _large_halves(problem: MoveProblem, capacity: int, group: Int64s, share: Floats) -> Int64s:
    """Columns of units that take much of the room and are moved in part, which none can be."""
    large = _units_of(problem, capacity // _LARGE_PART, group)
    return large[(share[large] > _PARTLY) & (share[large] < 1 - _PARTLY)]


def _units_of(problem: MoveProblem, least: int, group: Int64s) -> Int64s:
    """Columns of units of `least` bytes and more."""
    size = np.zeros(problem.units, dtype=np.int64)
    np.maximum.at(size, problem.unit, problem.columns.size)
    found: Int64s = np.unique(group[size >= least])
    return found
