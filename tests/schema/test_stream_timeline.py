"""Ops on streams against closed forms."""

from __future__ import annotations

import pytest

from memplan.schema.stream_timeline import StreamOp, run_streams

COMPUTE, LINK = 0, 1


def test_one_stream_runs_its_ops_one_after_the_other() -> None:
    times = run_streams([StreamOp(5, COMPUTE), StreamOp(7, COMPUTE, held_ns=3), StreamOp(1, COMPUTE)])
    assert times.start_ns == (0, 8, 15)
    assert times.makespan_ns == 16
    assert times.waited_for == (-1, -1, -1)


@pytest.mark.parametrize(("compute", "exchange"), [(10, 4), (4, 10), (7, 7)])
def test_exchanges_that_nobody_needs_soon_hide_behind_the_next_op(compute: int, exchange: int) -> None:
    # Layer i computes, its result is exchanged beside layer i + 1, and all is needed at the end.
    layers = 6
    ops = []
    for layer in range(layers):
        ops += [StreamOp(compute, COMPUTE), StreamOp(exchange, LINK, (2 * layer,))]
    ops.append(StreamOp(1, COMPUTE, tuple(range(1, 2 * layers, 2))))
    times = run_streams(ops)
    slower = max(compute, exchange)
    assert times.makespan_ns == compute + (layers - 1) * slower + exchange + 1
    assert times.waited_ns[-1] == times.makespan_ns - 1 - layers * compute
    assert times.waited_for[-1] == 2 * layers - 1


def test_exchanges_that_the_next_op_needs_are_exposed_whole() -> None:
    layers, compute, exchange = 4, 10, 3
    ops = []
    for layer in range(layers):
        ops += [StreamOp(compute, COMPUTE, (2 * layer - 1,) if layer else ()), StreamOp(exchange, LINK, (2 * layer,))]
    times = run_streams(ops)
    assert times.makespan_ns == layers * (compute + exchange)
    assert sum(times.waited_ns[::2]) == (layers - 1) * exchange


@pytest.mark.parametrize(("compute", "exchange"), [(10, 4), (10, 10), (3, 9)])
def test_two_micro_batches_that_give_way_to_each_other(compute: int, exchange: int) -> None:
    # Each waits for its own exchanges; while one exchanges the other computes.
    layers = 5
    one = []
    for layer in range(layers):
        one += [StreamOp(compute, COMPUTE, (2 * layer - 1,) if layer else ()), StreamOp(exchange, LINK, (2 * layer,))]
    count = len(one)
    both = [*one, *(StreamOp(op.duration_ns, op.stream, tuple(n + count for n in op.needs)) for op in one)]
    times = run_streams(both, [range(count), range(count, 2 * count)])
    slower, other = max(compute, exchange), min(compute, exchange)
    assert times.makespan_ns == 2 * layers * slower + other
    assert times.makespan_ns < 2 * run_streams(one).makespan_ns


def test_ops_that_wait_for_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        run_streams([StreamOp(1, COMPUTE, (1,)), StreamOp(1, LINK, (0,))])


@pytest.mark.parametrize("arrivals", [(10, 25), (25, 10), (7, 7)])
def test_a_collective_moves_when_its_last_member_has_come(arrivals: tuple[int, int]) -> None:
    # Two devices compute, exchange and compute on; the earlier one's link stands by for the later one.
    ops = []
    for device, arrival in enumerate(arrivals):
        stream, first = 2 * device, 3 * device
        ops += [
            StreamOp(arrival, stream),
            StreamOp(4, stream + 1, (first,), meeting=0),
            StreamOp(1, stream, (first + 1,)),
        ]
    times = run_streams(ops, [range(3), range(3, 6)])
    done = max(arrivals) + 4
    assert (times.end_ns[1], times.end_ns[4]) == (done, done)
    assert (times.start_ns[1], times.start_ns[4]) == arrivals
    assert (times.waited_ns[2], times.waited_ns[5]) == tuple(done - arrival for arrival in arrivals)
    assert times.makespan_ns == done + 1


def test_a_pipeline_of_equal_stages_takes_its_closed_form() -> None:
    # Every stage computes each micro-batch and hands it on at once: fill, then one each turn.
    stages, batches, compute, hand_over = 4, 6, 10, 3
    ops: list[StreamOp] = []
    queues = []
    for stage in range(stages):
        begin = len(ops)
        for batch in range(batches):
            needs: tuple[int, ...] = ()
            if stage:
                ops.append(StreamOp(hand_over, 2 * stage, meeting=(stage - 1) * batches + batch))
            ops.append(StreamOp(compute, 2 * stage, needs))
            if stage < stages - 1:
                ops.append(StreamOp(hand_over, 2 * stage, meeting=stage * batches + batch))
        queues.append(range(begin, len(ops)))
    times = run_streams(ops, queues)
    turn = compute + 2 * hand_over  # an inner stage receives, computes and sends in turn
    assert times.makespan_ns == (stages - 1) * (compute + hand_over) + compute + (batches - 1) * turn


def test_a_slow_host_is_what_the_device_waits_for() -> None:
    launch, kernel, count = 9, 4, 7
    ops: list[StreamOp] = []
    for number in range(count):
        ops += [StreamOp(launch, LINK), StreamOp(kernel, COMPUTE, (2 * number,))]
    assert run_streams(ops).makespan_ns == count * launch + kernel


def test_collectives_of_one_device_take_turns_on_its_link() -> None:
    ops = [StreamOp(10, COMPUTE), *(StreamOp(length, LINK, (0,)) for length in (5, 2, 8)), StreamOp(1, COMPUTE, (2,))]
    times = run_streams(ops)
    assert times.start_ns == (0, 10, 15, 17, 17)
    assert times.makespan_ns == 25


def test_a_collective_that_lacks_a_member_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        run_streams([StreamOp(1, LINK, meeting=0), StreamOp(1, COMPUTE, (0,)), StreamOp(1, COMPUTE, meeting=0)])
