"""The bound over moves of whole tensors, against every choice of small cases."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.hardware import HostTier, Link
from memplan.placement.move_bound import move_bound
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.residency import Storage
from memplan.placement.whole_moves import whole_bound
from tests.placement.drawn_problems import MIB, drawn_problem


def shortest_of_all(problem: MoveProblem, capacity: int) -> int | None:
    """The step time of the best choice, by trying each."""
    every = [
        np.array([number >> unit & 1 for unit in range(problem.units)], dtype=bool)
        for number in range(1 << problem.units)
    ]
    fitting = [moved for moved in every if int(problem.live_without(moved[problem.unit]).max()) <= capacity]
    return min((problem.run(moved, capacity).makespan_ns for moved in fitting), default=None)


def test_no_choice_is_faster_than_the_bound_and_the_best_is_near_it() -> None:
    over = []
    for seed in range(24):
        problem = drawn_problem(seed)
        capacity = int(problem.live.max() * (0.5 + seed % 5 / 10))
        if not problem.units or problem.units > 8:
            continue
        best, bound = shortest_of_all(problem, capacity), whole_bound(problem, capacity)
        if best is None:
            assert bound is None or bound.moved is None
            continue
        assert bound is not None
        assert bound.makespan_ns <= best
        both = move_bound(problem, capacity, thorough=True)
        assert both is not None
        assert bound.makespan_ns <= both.makespan_ns + 1 <= best + 1
        over.append(best / bound.makespan_ns)
    assert len(over) > 6
    assert np.median(over) < 1.01


@pytest.mark.parametrize("room", [1, 2])
def test_a_tensor_that_has_to_go_and_come_back_takes_both_links_one_after_the_other(room: int) -> None:
    # In the small room there is one at a time.
    out, back = (Link(name, 1e9, None, "test", ("*",)) for name in ("out", "in"))
    storages = [
        Storage(0, MIB, 0, 4, (0, 3), (0,), persistent=False),
        Storage(1, MIB, 1, 3, (1, 2), (1,), persistent=False),
    ]
    problem = move_problem(storages, [10, 10, 10, 10], HostTier(None, out, back))
    bound = whole_bound(problem, room * MIB)
    assert bound is not None
    assert bound.makespan_ns == pytest.approx(40 + (2 * MIB if room == 1 else 0), rel=1e-4)


def test_a_large_case_is_left_to_the_linear_program() -> None:
    storages = [Storage(index, MIB, 0, 200, (index,), (), persistent=True) for index in range(200)]
    out, back = (Link(name, 1e9, None, "test", ("*",)) for name in ("out", "in"))
    problem = move_problem(storages, [10] * 200, HostTier(None, out, back))
    assert whole_bound(problem, 100 * MIB) is None
