"""What a plan's transfers cost: every wait belongs to the transfer at whose end it ends."""

from __future__ import annotations

from dataclasses import replace

from memplan.schema import Plan, Tier, Transfer
from memplan.schema.move_waits import MoveWait, WaitFor, move_waits
from tests.small_plans import layered_plan

OP = 50_000


def transfer(plan: Plan, way: WaitFor, start: int, end: int, step: int) -> Transfer:
    """A move of the first tensor back for `step`, or out after it."""
    back = way is WaitFor.BACK
    return Transfer(
        tensor=plan.tensors[0].index,
        source=Tier.HOST if back else Tier.HBM,
        target=Tier.HBM if back else Tier.HOST,
        size=1000,
        link="h2d" if back else "d2h",
        start_ns=start,
        end_ns=end,
        after_step=None if back else step,
        before_step=step if back else None,
    )


def waiting(plan: Plan, step: int, wait_ns: int) -> Plan:
    """`plan` with everything from `step` on later by `wait_ns`, for which that op waits."""
    ops = [replace(op, start_ns=op.start_ns + wait_ns * (op.index >= step)) for op in plan.ops]
    ops[step] = replace(ops[step], stalled_ns=wait_ns)
    return replace(plan, ops=tuple(ops), makespan_ns=plan.makespan_ns + wait_ns)


def test_a_plan_that_moves_nothing_waits_for_nothing() -> None:
    found = move_waits(layered_plan())
    assert (found.moves, found.nbytes, found.added_ns, found.waits) == (0, 0, 0, ())


def test_an_op_waits_for_what_comes_back() -> None:
    plan = waiting(layered_plan(), 3, 700)
    back = transfer(plan, WaitFor.BACK, 3 * OP - 100, 3 * OP + 700, 3)
    found = move_waits(replace(plan, transfers=(back,)))
    assert found.added_ns == 700
    assert found.waits == (MoveWait("h2d", WaitFor.BACK, plan.tensors[0].kind, 700),)


def test_what_comes_back_may_itself_have_waited_for_room() -> None:
    plan = waiting(layered_plan(), 3, 700)
    out = transfer(plan, WaitFor.ROOM, 2 * OP, 3 * OP + 300, 1)
    back = transfer(plan, WaitFor.BACK, 3 * OP + 300, 3 * OP + 700, 3)
    found = move_waits(replace(plan, transfers=(out, back)))
    assert {(wait.reason, wait.duration_ns) for wait in found.waits} == {(WaitFor.BACK, 400), (WaitFor.ROOM, 300)}
    assert found.nbytes == 2000


def test_an_op_waits_for_room_alone() -> None:
    plan = waiting(layered_plan(), 2, 500)
    out = transfer(plan, WaitFor.ROOM, OP, 2 * OP + 500, 0)
    assert [wait.reason for wait in move_waits(replace(plan, transfers=(out,))).waits] == [WaitFor.ROOM]


def test_the_step_lasts_until_the_last_byte_is_out() -> None:
    plan = layered_plan()
    end = plan.ops[-1].start_ns + plan.ops[-1].duration_ns
    out = transfer(plan, WaitFor.ROOM, end, end + 900, len(plan.ops) - 1)
    found = move_waits(replace(plan, transfers=(out,), makespan_ns=end + 900))
    assert found.added_ns == 900
    assert [(wait.reason, wait.duration_ns) for wait in found.waits] == [(WaitFor.END, 900)]
