"""Moves with addresses: never slower than a rule whose moves find addresses, and packed with little room to spare."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.graph import TensorKind
from memplan.hardware import chip, host_tier
from memplan.placement.address_feedback import addressed_moves
from memplan.placement.hbm import lay_out
from memplan.placement.host import candidate_moves
from memplan.placement.memory_layout import storages_of
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.offsets.spill import CappedPacking
from memplan.placement.rounding import Rounding
from memplan.placement.schedule import run_schedule
from memplan.schema.storages import planned_tensors
from tests.planner.graphs import Builder

ALIGNMENT = 512


def training_of(seed: int) -> MoveProblem:
    """A training step of layers of unlike sizes and durations, with state that is changed in place."""
    rng = np.random.default_rng(seed)
    build = Builder()
    value = build.tensor(int(rng.integers(1, 20)) << 16, TensorKind.INPUT)
    layers = []
    for _ in range(8):
        weight = build.tensor(int(rng.integers(1, 40)) << 16, TensorKind.WEIGHT)
        state = build.tensor(build.tensors[weight].nbytes, TensorKind.OPTIMIZER_STATE)
        made = build.tensor(int(rng.integers(1, 40)) << 16)
        build.op([value, weight], [made])
        layers.append((value, weight, state))
        value = made
    for kept, weight, state in reversed(layers):
        made = build.tensor(build.tensors[kept].nbytes, TensorKind.GRADIENT)
        build.op([value, weight, kept], [made])
        build.op([made, weight, state], [], writes=[weight, state])
        value = made
    graph = build.graph([value])
    host = host_tier(chip("910B3"))
    storages = storages_of(graph, planned_tensors(graph), Rounding("test", 32, ALIGNMENT, "test"))
    durations = rng.integers(20_000, 200_000, len(graph.ops))
    return move_problem(storages, durations, host)


@pytest.mark.parametrize("seed", range(4))
def test_no_plan_is_slower_than_a_rule_whose_moves_find_addresses(seed: int) -> None:
    problem = training_of(seed)
    peak, compared = int(problem.live.max()), 0
    for share in (0.8, 0.6):
        capacity = int(peak * share)
        found = addressed_moves(problem, capacity, ALIGNMENT)
        for chosen in candidate_moves(problem, capacity, None):
            schedule = run_schedule(
                problem.storages, problem.durations, chosen.gaps, capacity,
                out_link=problem.out_link, in_link=problem.in_link,
            )  # fmt: skip
            layout = lay_out(
                problem.storages, schedule.residencies, problem.steps, alignment=ALIGNMENT, enough=capacity
            )
            if layout.peak <= capacity:
                compared += 1
                assert found.layout.peak <= capacity
                assert found.schedule.makespan_ns <= schedule.makespan_ns
    assert compared


def test_what_takes_as_long_as_a_known_step_is_given_up() -> None:
    problem = training_of(1)
    capacity = int(problem.live.max() * 0.6)
    best = addressed_moves(problem, capacity, ALIGNMENT)
    assert best.layout.peak <= capacity
    same = addressed_moves(problem, capacity, ALIGNMENT, least_ns=best.schedule.makespan_ns + 1)
    assert same.layout.peak <= capacity
    assert same.schedule.makespan_ns <= best.schedule.makespan_ns
    none = addressed_moves(problem, capacity, ALIGNMENT, least_ns=int(problem.durations.sum()))
    assert none.schedule.makespan_ns > int(problem.durations.sum())


def test_what_is_left_out_is_tried_before_all_else() -> None:
    rng = np.random.default_rng(7)
    better = 0
    for _ in range(20):
        count, steps = 300, 200
        start, size = rng.integers(0, steps - 1, count), rng.integers(1, 30, count) * 64
        end = np.minimum(start + rng.integers(1, 40, count), steps)
        live = max(int(size[(start <= step) & (step < end)].sum()) for step in range(steps))
        fixed, capacity = np.full(count, -1), int(live * 1.02)
        packing = CappedPacking(size, start, end, fixed, capacity, 64)
        once = packing.greedy()
        again = packing.again(once)
        assert again.lost <= once.lost
        better += again.lost < once.lost
    assert better
