"""The bound of large tensors that move whole: below every choice of moves, and reached where only they move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean

import numpy as np
import pytest

from benchmarks.host_cases import problem_of
from memplan.hardware import HostTier, Link
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.placement.host import choose_moves
from memplan.placement.large_moves import large_bound, least_moved
from memplan.placement.move_bound import move_bound
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.residency import Storage
from tests.placement.drawn_problems import MIB, drawn_problem


def chain(sizes: list[int], written: list[bool], duration: int, out_rate: float, again: bool = False) -> MoveProblem:
    """A step that uses one tensor after the other, each from run to run; with `again` the first one at the end too."""
    out, back = (Link(name, rate, None, "test", ("*",)) for name, rate in (("out", out_rate), ("in", 1e9)))
    steps = len(sizes) * 2 + 1
    storages = [
        Storage(
            index, size, 0, steps, (2 * index, steps - 1) if again and not index else (2 * index,),
            (2 * index,) if write else (), persistent=True,
        )
        for index, (size, write) in enumerate(zip(sizes, written, strict=True))
    ]  # fmt: skip
    return move_problem(storages, [duration] * steps, HostTier(None, out, back))


def fastest(problem: MoveProblem, capacity: int) -> int | None:
    """The step time of the best of all choices."""
    every = (
        np.array([number >> unit & 1 for unit in range(problem.units)], dtype=bool)
        for number in range(1 << problem.units)
    )
    fitting = [moved for moved in every if int(problem.live_without(moved[problem.unit]).max()) <= capacity]
    return min((problem.run(moved, capacity).makespan_ns for moved in fitting), default=None)


@pytest.mark.parametrize("seed", range(40))
def test_no_choice_is_faster(seed: int) -> None:
    random = Random(seed)
    count = random.randint(2, 7)
    like = random.random() < 0.6
    sizes = [MIB * (4 if like else random.randint(1, 8)) for _ in range(count)]
    written = [random.random() < random.choice((0.0, 0.5, 1.0)) for _ in range(count)]
    again = random.random() < 0.3
    problem = chain(sizes, written, random.choice((10, 10**6)), random.choice((3e8, 1e9)), again)
    for share in (0.9, 0.7, 0.5, 0.35, 0.2):
        capacity = int(sum(sizes) * share)
        best = fastest(problem, capacity)
        if best is not None:
            assert large_bound(problem, capacity) <= best
            assert large_bound(problem, capacity, anew=True) <= best


@pytest.mark.parametrize("seed", range(24))
def test_no_choice_is_faster_where_tensors_are_made_within_the_step(seed: int) -> None:
    problem = drawn_problem(seed)
    capacity = int(problem.live.max() * (0.5 + seed % 5 / 10))
    best = fastest(problem, capacity) if 0 < problem.units <= 8 else None
    assert best is None or large_bound(problem, capacity) <= best


@pytest.mark.parametrize(("room", "transferred"), [(7, 2 * 12), (6, 3 * 12), (5, 4 + 5 * 8)])
def test_of_equal_tensors_that_are_written_it_is_what_the_best_choice_takes(room: int, transferred: int) -> None:
    # One at a time, each in and out; or one more than that with room for two, so that the slower link never waits.
    problem = chain([4 * MIB] * 8, [True] * 8, 10, 5e8)
    capacity = room * 4 * MIB
    best, bound, program = fastest(problem, capacity), large_bound(problem, capacity), move_bound(problem, capacity)
    assert best is not None
    assert program is not None
    assert bound == pytest.approx(transferred * MIB, rel=0.01)
    assert bound <= best <= bound * 1.01
    assert program.makespan_ns >= bound


def test_what_is_read_again_after_it_was_written_may_leave_when_it_was_read() -> None:
    """Caches are written by one op and read a few later: between those they stay, and yet they leave in time."""
    out, back = (Link(name, rate, None, "test", ("*",)) for name, rate in (("out", 4e8), ("in", 5e8)))
    steps = 24
    storages = [
        Storage(layer, 4 * MIB, 0, steps, (3 * layer, 3 * layer + 2), (3 * layer,), persistent=True)
        for layer in range(8)
    ]
    problem = move_problem(storages, [MIB] * steps, HostTier(None, out, back))
    opening = problem.unit[problem.before < 0]
    for room, layers in ((6, (2, 5, 6, 7)), (5, (2, 4, 5, 6, 7)), (4, (2, 3, 4, 5, 6, 7))):
        moved, capacity = np.zeros(problem.units, dtype=bool), room * 4 * MIB
        moved[opening[list(layers)]] = True
        bound = move_bound(problem, capacity)
        assert int(problem.live_without(moved[problem.unit]).max()) <= capacity
        assert bound is not None
        assert bound.makespan_ns <= problem.run(moved, capacity).makespan_ns


@pytest.mark.parametrize("seed", range(40))
def test_no_choice_moves_less(seed: int) -> None:
    problem = drawn_problem(seed)
    size = problem.columns.size * (problem.columns.returns >= 0)
    for share in (0.9, 0.7, 0.5):
        capacity = int(problem.live.max() * share)
        least = least_moved(problem, capacity)
        for number in range(1 << problem.units if problem.units <= 9 else 0):
            moved = np.array([number >> unit & 1 for unit in range(problem.units)], dtype=bool)[problem.unit]
            if int(problem.live_without(moved).max()) <= capacity:
                assert int(size[moved].sum()) >= least


def test_what_takes_much_of_the_room_may_stay_while_small_tensors_move(shared_data: Path) -> None:
    """
    The optimiser's state of an embedding: as long as it is on its way, the link out rests.

    Against the choice that knows nothing of it, which is up to 1.02 times as long and never shorter, as what that
    begins with is searched as well. Where, and by how much, it gains goes by the prices of kernels.
    """
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-VL-4B-Instruct.json")
    graph = training_graph(model, Layout(tensor=2, pipeline=4), Recipe(sequence=4096))
    problem = problem_of(graph, "910B3")
    longer, beyond = [], []
    for part in (0.5, 0.55, 0.6, 0.65):
        capacity = int(problem.live.max() * part)
        bound = move_bound(problem, capacity)
        assert bound is not None
        size = np.zeros(problem.units, dtype=np.int64)
        np.maximum.at(size, problem.unit, problem.columns.size)
        huge = (size > capacity // 20) & (bound.share > 0.02)
        assert huge.any()
        assert any(not share[huge].any() for share in bound.whole)
        chosen = choose_moves(problem, capacity, bound).makespan_ns
        beyond.append(chosen / bound.makespan_ns)
        longer.append(choose_moves(problem, capacity, replace(bound, solve_whole=tuple)).makespan_ns / chosen)
    assert mean(beyond) < 1.05
    assert max(beyond) < 1.06
    assert min(longer) >= 1
    assert max(longer) > 1.015


def test_what_a_long_op_writes_leaves_after_it() -> None:
    """Went wrong once: the gradient of an embedding left while the op that makes it ran, for nearly half of a step."""
    out, back = (Link(name, rate, None, "test", ("*",)) for name, rate in (("out", 1e9), ("in", 2e9)))
    made = Storage(0, 4 * MIB, 1, 4, (1, 3), (1,), persistent=False)
    other = Storage(1, 4 * MIB, 2, 3, (2,), (2,), persistent=False)
    problem = move_problem([made, other], [10**6, 10**8, 10**6, 10**6], HostTier(None, out, back))
    for alike in (False, True):
        bound = move_bound(problem, 6 * MIB, exact=False, alike=alike)
        assert bound is not None
        moved = choose_moves(problem, 6 * MIB, bound).makespan_ns
        # Out after the long op, back after the one that needs its room: nothing lies beside either.
        assert moved == pytest.approx(103e6 + 4 * MIB * 1.5, rel=1e-6)
        # The program moves half of it, which leaves between the two ops, and what comes back lies beside the second.
        assert bound.makespan_ns == pytest.approx(103e6 + 2 * MIB, rel=1e-3)


@pytest.mark.parametrize("rows", [3, 5, 400])
@pytest.mark.parametrize("alike", [False, True])
def test_no_choice_beats_the_program_where_ops_are_long(rows: int, alike: bool) -> None:
    for seed in range(30):
        drawn = drawn_problem(seed)
        durations = drawn.durations.copy()
        durations[seed % drawn.steps] += 20 * MIB
        problem = replace(drawn, durations=durations)
        for share in (0.8, 0.6):
            capacity = int(problem.live.max() * share)
            bound = move_bound(problem, capacity, rows=rows, alike=alike)
            best = fastest(problem, capacity) if problem.units <= 9 else None
            if bound is not None and best is not None:
                assert bound.makespan_ns <= best
