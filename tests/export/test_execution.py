"""A simulated run keeps the order and the waits of its plan."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from memplan.schema import Plan
from memplan.simulator.execution import execute
from memplan.simulator.noise import Behaviour, Chance
from tests.small_plans import layered_plan


def on_streams(streams: list[int], durations: list[int], gaps: list[int]) -> Plan:
    """A plan whose ops run one after another on the streams given, some of them beside each other."""
    plan = layered_plan(len(streams))
    free: dict[int, int] = {}
    ops = []
    for index, (stream, duration, gap) in enumerate(zip(streams, durations, gaps, strict=True)):
        start = free.get(stream, 0) + gap
        ops.append(dataclasses.replace(plan.ops[index], stream=stream, start_ns=start, duration_ns=duration))
        free[stream] = start + duration
    makespan = max((op.start_ns + op.duration_ns for op in ops), default=0)
    return dataclasses.replace(plan, ops=tuple(ops), tensors=(), placements=(), transfers=(), makespan_ns=makespan)


@st.composite
def stream_plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 12))
    lists = [st.integers(0, 2), st.integers(0, 5000), st.sampled_from([0, 0, 700])]
    return on_streams(*(draw(st.lists(item, min_size=count, max_size=count)) for item in lists))


@given(stream_plans())
def test_without_deviations_every_start_and_end_is_planned(plan: Plan) -> None:
    run = execute(plan, Behaviour.exact(), Chance(0))
    assert run.start_ns.tolist() == [op.start_ns for op in plan.ops]
    assert run.end_ns.tolist() == [op.start_ns + op.duration_ns for op in plan.ops]


@given(stream_plans(), st.integers(0, 2**32))
def test_ops_of_a_stream_never_overlap_and_never_start_before_what_they_followed(plan: Plan, seed: int) -> None:
    run = execute(plan, Behaviour(), Chance(seed))
    for op in plan.ops:
        for other in plan.ops[: op.index]:
            followed = other.start_ns + other.duration_ns <= op.start_ns and other.duration_ns > 0
            if other.stream == op.stream or followed:
                assert run.start_ns[op.index] >= run.end_ns[other.index]


def test_an_op_waits_for_the_transfer_it_needs_and_a_transfer_for_its_op() -> None:
    plan = layered_plan(5, transfers=True)
    out, back = plan.transfers
    late = Behaviour.exact(slow_ops=((0, 30.0),))
    run = execute(plan, late, Chance(0))
    assert out.after_step == 0
    assert run.transfer_start_ns[0] == run.end_ns[0]
    assert back.before_step is not None
    assert run.start_ns[back.before_step] >= run.transfer_end_ns[1]


def test_a_host_that_is_slow_to_issue_leaves_the_device_idle() -> None:
    plan = layered_plan(50, op_ns=1000)
    behaviour = dataclasses.replace(Behaviour.exact(), host_call_ns=5000, host_runs_ahead=True)
    run = execute(plan, behaviour, Chance(0))
    assert run.makespan_ns >= 100 * 5000 * 0.9
    assert (run.start_ns >= run.issued_ns).all()
