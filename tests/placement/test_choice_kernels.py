"""The compiled score of a choice against the simulated schedule, and its local search against trying every choice."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.core.arrays import Bools
from memplan.placement.choice_kernels import score, score_within, search
from memplan.placement.move_problem import MoveProblem
from memplan.placement.schedule import run_schedule
from tests.placement.drawn_problems import drawn_problem

NO_LIMIT = -1


def kept_on_host(problem: MoveProblem, moved: Bools) -> int:
    """The most bytes on the host, step by step: from a storage's first gap to its last, always where it persists."""
    most = 0
    for step in range(problem.steps):
        bytes_there = 0
        for number, storage in enumerate(problem.storages):
            gaps = [gap for gap in problem.gaps(moved) if gap.storage == number]
            if gaps and (storage.persistent or gaps[0].start <= step < gaps[-1].end):
                bytes_there += storage.size
        most = max(most, bytes_there)
    return most


@pytest.mark.parametrize("seed", range(12))
def test_a_score_is_the_schedule_of_what_moves(seed: int) -> None:
    problem = drawn_problem(seed)
    rng = np.random.default_rng(seed)
    capacity = int(problem.live.max() * (0.4 + 0.1 * (seed % 5)))
    for _ in range(6):
        moved = rng.random(problem.units) < 0.5
        over_host, over, makespan, traffic = score(problem.choice_columns(), moved, capacity, 0)
        gaps = problem.gaps(moved)
        schedule = run_schedule(
            problem.storages, problem.durations, gaps, capacity, out_link=problem.out_link, in_link=problem.in_link
        )
        assert makespan == schedule.makespan_ns
        assert traffic == sum(problem.storages[move.gap.storage].size for move in schedule.moves)
        assert over == max(int(problem.live_without(moved[problem.unit]).max()) - capacity, 0)
        assert over_host == kept_on_host(problem, moved)


def test_a_score_that_is_cut_short_is_worse_as_well() -> None:
    short = whole = 0
    for seed in range(30):
        problem = drawn_problem(seed)
        rng, columns = np.random.default_rng(seed), problem.choice_columns()
        capacity = int(problem.live.max() * (0.5 + seed % 5 / 10))
        best = score(columns, np.ones(problem.units, dtype=bool), capacity, NO_LIMIT)
        for _ in range(8):
            moved = rng.random(problem.units) < 0.6
            found, within = (
                score(columns, moved, capacity, NO_LIMIT),
                score_within(columns, moved, capacity, NO_LIMIT, best[1], 2**62 if best[1] else best[2]),
            )
            assert (within < best) == (found < best)
            short, whole = short + (within != found), whole + (within == found)
            if found < best:
                assert within == found
                best = found
    assert short > 20
    assert whole > 20


def test_the_search_ends_near_the_best_of_all_choices() -> None:
    over = []
    for seed in range(40):
        problem = drawn_problem(seed)
        capacity, columns = int(problem.live.max() * (0.5 + seed % 5 / 10)), problem.choice_columns()
        if not 0 < problem.units <= 8:
            continue
        every = (
            np.array([number >> unit & 1 for unit in range(problem.units)]) for number in range(1 << problem.units)
        )
        best = min(score(columns, moved.astype(bool), capacity, NO_LIMIT) for moved in every)
        moved = np.ones(problem.units, dtype=bool)
        found = search(columns, moved, capacity, NO_LIMIT, 0, 300, np.random.default_rng(0).random((2000, 3)))
        assert found == score(columns, moved, capacity, NO_LIMIT)
        assert found >= best
        assert found[1] == best[1]
        over.append(found[2] / best[2])
    assert len(over) > 20
    assert np.median(over) == 1


def test_a_search_without_patience_keeps_its_choice() -> None:
    problem = drawn_problem(3)
    moved = np.ones(problem.units, dtype=bool)
    drawn = np.random.default_rng(0).random((100, 3))
    search(problem.choice_columns(), moved, int(problem.live.max()), NO_LIMIT, 0, 0, drawn)
    assert moved.all()
