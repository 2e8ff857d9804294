"""Measured steps and made-up ones, run again by the event model from durations and order alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay import (
    RankScript,
    RunOp,
    fitted_host,
    followed,
    least_times,
    measured_host,
    replayed,
    replayed_steps,
    script_of,
    waited_by_host,
)


def test_measured_steps_are_replayed_within_5_percent(shared_data: Path) -> None:
    steps = replayed_steps(shared_data)
    assert {step.run.partition(",")[0] for step in steps} == {"Qwen3-0.6B", "AlexNet"}
    for step in steps:
        assert abs(step.error) < 0.05
    whole = steps[0]
    assert whole.replayed_communication_ns == pytest.approx(whole.measured_communication_ns, rel=0.1)
    assert whole.arrivals_off_ns < 0.05 * whole.measured_ns


def made_run(seed: int, ranks: int = 2) -> tuple[list[list[RunOp]], list[list[int]]]:
    """Ranks that compute and meet, run by the event model: what a profile would show, and the host time of each op."""
    rng = np.random.default_rng(seed)
    scripts, hosts = [], []
    turns = sorted(rng.choice(np.arange(1, 40), 5, replace=False).tolist())
    for _ in range(ranks):
        ops = [
            RunOp("all", -1, 0, 20_000, (f"c{place}", "g")) if place in turns else RunOp("k", 1, 0, 0)
            for place in range(42)
        ]
        host = rng.integers(6_000, 30_000, len(ops)).tolist()
        kernel = rng.integers(1_000, 60_000, len(ops)).tolist()
        durations = [20_000 if op.meets else kernel[place] for place, op in enumerate(ops)]
        needs = [(place - 1,) if place and ops[place - 1].stream != op.stream else () for place, op in enumerate(ops)]
        waits = [op.meets is not None for op in ops]
        scripts.append(RankScript(tuple(ops), tuple(durations), tuple(needs), tuple(host), tuple(waits)))
        hosts.append(host)
    times, places = replayed(scripts)
    measured = [
        [
            RunOp(op.type, op.stream, times.start_ns[place], times.end_ns[place], op.meets)
            for op, place in zip(script.ops, mine, strict=True)
        ]
        for script, mine in zip(scripts, places, strict=True)
    ]
    return measured, hosts


def stage(ops: list[RunOp]) -> int:
    return max(op.end_ns for op in ops) - min(op.start_ns for op in ops)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_of_the_event_model_is_replayed_to_the_nanosecond(seed: int) -> None:
    runs, hosts = made_run(seed)
    least = least_times(dict(enumerate(runs)))
    times, places = replayed([script_of(ops, host, least) for ops, host in zip(runs, hosts, strict=True)])
    for ops, mine in zip(runs, places, strict=True):
        assert [times.start_ns[place] for place in mine] == [op.start_ns for op in ops]


@pytest.mark.parametrize("seed", range(5))
def test_the_hosts_interval_is_that_with_which_a_stretch_takes_as_long_as_on_the_other_rank(seed: int) -> None:
    runs, _ = made_run(seed)
    talks = [op for op in runs[1] if op.meets]
    host = fitted_host(runs[0], talks)
    least = least_times(dict(enumerate(runs)))
    times, places = replayed([script_of(runs[0], host, dict.fromkeys(least, 0))])
    mine = [places[0][place] for place, op in enumerate(runs[0]) if op.meets]
    for (before, after), (left, right) in zip(pairwise(mine), pairwise(talks), strict=True):
        assert times.start_ns[after] - times.end_ns[before] >= right.start_ns - left.end_ns


def test_what_the_device_waited_for_was_issued_when_it_began() -> None:
    ops = [
        RunOp("a", 1, 0, 10),
        RunOp("b", 1, 40_000, 40_100),
        RunOp("c", 1, 40_100, 90_000),
        RunOp("d", 1, 120_000, 120_010),
    ]
    assert measured_host(ops, ops) == [0, 40_000, 40_000, 40_000]


def test_order_and_overlap_tell_what_follows_what_and_what_the_host_waits_for() -> None:
    ops = [
        RunOp("k", 1, 0, 10),
        RunOp("r", -1, 12, 50, ("r", "g")),
        RunOp("k", 1, 20, 30),
        RunOp("k", 1, 60, 70),
        RunOp("r", -1, 75, 99, ("s", "g")),
        RunOp("k", 1, 100, 110),
    ]
    assert followed(ops) == [(), (0,), (), (1,), (3,), (4,)]
    assert waited_by_host(ops) == [False, False, False, False, True, False]
