"""What ranks wait for each other by chance, apart from what has a cause."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from memplan.core.arrays import Floats
from memplan.findings.chance_waits import chance_waits, greatest_weights
from memplan.findings.device_communication import DeviceCommunication
from memplan.findings.job_case import JobCase, job_case, rank_facts_of
from memplan.findings.rank_case import NOTHING, RankCase, StepWindow
from memplan.traces.notes import Notebook
from memplan.traces.profile import CommunicationTime
from memplan.traces.rank import RankProfile, RankReader

RANKS, STEPS, PLACES = 4, 6, 20
WORK_NS, MOVED_NS = 100_000, 100
SPREAD = 0.01
BY_CHANCE_NS = 1.03 * SPREAD * WORK_NS * STEPS * PLACES
"""What each of four ranks waits whose kernels scatter normally: the greatest of four lies 1.03 deviations up."""


def _job(computed: Floats, idle: Floats | None = None) -> JobCase:
    """Ranks that are idle, compute `computed[rank, step, place]` ns, and meet: all wait for the last."""
    count, steps, places = computed.shape
    gaps = np.zeros_like(computed) if idle is None else idle
    ready = 0
    spans: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    ran: list[list[DeviceCommunication]] = [[] for _ in range(count)]
    begins = []
    for step in range(steps):
        begins.append(ready)
        for place in range(places):
            arrive = []
            for rank in range(count):
                start = ready + round(gaps[rank, step, place])
                arrive.append(start + round(computed[rank, step, place]))
                spans[rank].append((start, arrive[-1]))
            ready = max(arrive) + MOVED_NS
            for rank in range(count):
                op, start = f"hcom_allReduce__{place}", arrive[rank]
                told = CommunicationTime(step, op, "group", False, start, ready - start, MOVED_NS, 0, 0, ())
                ran[rank].append(DeviceCommunication(op, start, ready, False, MOVED_NS, told))
    ends = [*begins[1:], ready]
    windows = [StepWindow(step, begins[step], ends[step], ends[step]) for step in range(steps)]
    facts = {}
    for rank in range(count):
        profile = RankProfile(rank, lambda _: RankReader(Notebook(Path())))
        starts, stops = np.array(spans[rank], dtype=np.int64).T
        case = RankCase(
            rank, profile, None, NOTHING[0], NOTHING[0], ran[rank], windows, (starts, stops), NOTHING, NOTHING, []
        )
        facts[rank] = rank_facts_of(case)
    return job_case(facts)


def _waiting(job: JobCase) -> dict[int, int]:
    return {rank: sum(step.waiting_ns or 0 for step in facts.steps) for rank, facts in job.ranks.items()}


def _scattered(seed: int, spread: float = SPREAD) -> Floats:
    return WORK_NS * (1 + spread * np.random.default_rng(seed).standard_normal((RANKS, STEPS, PLACES)))


def test_weights_give_the_mean_of_the_greatest_over_all_choices() -> None:
    values = np.sort(np.random.default_rng(5).exponential(size=8))
    for draws in range(1, 9):
        plain = np.mean([max(chosen) for chosen in combinations(values.tolist(), draws)])
        assert greatest_weights(draws, 8) @ values == pytest.approx(plain)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_scatter_alone_makes_ranks_wait_is_by_chance(seed: int) -> None:
    job = _job(_scattered(seed))
    waiting, chance = _waiting(job), chance_waits(job)
    assert sum(chance.values()) > 0.7 * sum(waiting.values())
    assert all(length <= waiting[rank] for rank, length in chance.items())


def test_one_kernel_that_once_takes_long_is_chance() -> None:
    computed = _scattered(4, 0.0)
    computed[2, 3, 7] += 0.2 * WORK_NS
    job = _job(computed)
    assert sum(chance_waits(job).values()) > 0.7 * sum(_waiting(job).values())


@pytest.mark.parametrize("meetings", [1, 2])
def test_a_kernel_that_once_takes_long_before_the_only_meeting_is_chance_too(meetings: int) -> None:
    """Went wrong once: of a step with one meeting, all that it took longer was called its load."""
    computed = _scattered(11, 0.001)[:, :, :meetings]
    for step in range(0, STEPS, 2):
        computed[(3 * step) % RANKS, step, 0] += 0.04 * WORK_NS
    job = _job(computed)
    assert sum(chance_waits(job).values()) > 0.6 * sum(_waiting(job).values())


def test_a_rank_late_at_the_same_place_in_every_step_is_not() -> None:
    late = _scattered(7)
    late[1, :, 3] += WORK_NS
    job = _job(late)
    waiting, chance = _waiting(job), chance_waits(job)
    for rank in (0, 2, 3):
        assert chance[rank] < 1.1 * BY_CHANCE_NS
        assert waiting[rank] - chance[rank] > 0.95 * STEPS * WORK_NS


def test_steps_in_which_a_rank_has_more_to_do_are_not() -> None:
    loaded = _scattered(8)
    for step in range(STEPS):
        loaded[(5 * step) % RANKS, step] *= 1.1
    job = _job(loaded)
    assert max(chance_waits(job).values()) < 1.1 * BY_CHANCE_NS
    assert min(_waiting(job).values()) > 5 * BY_CHANCE_NS


def test_what_a_host_lets_others_wait_for_is_not() -> None:
    idle = np.zeros((RANKS, STEPS, PLACES))
    for step in range(STEPS):
        idle[step % RANKS, step, (7 * step) % PLACES] = WORK_NS
    job = _job(_scattered(9), idle)
    assert max(chance_waits(job).values()) < 1.1 * BY_CHANCE_NS
    assert min(_waiting(job).values()) > 4 * BY_CHANCE_NS


def test_two_steps_do_not_tell_once_from_always() -> None:
    assert chance_waits(_job(_scattered(1)[:, :2])) == {}


def test_scatter_that_costs_much_of_every_step_is_told() -> None:
    assert chance_waits(_job(_scattered(1, 0.2))) == {}
