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
