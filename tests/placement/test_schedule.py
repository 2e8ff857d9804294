"""The simulated schedule against closed forms, and the choice of host moves against its bound."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from memplan.hardware import HostTier, Link
from memplan.placement.host import choose_moves
from memplan.placement.move_bound import move_bound
from memplan.placement.move_orders import MOVE_RULES
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.residency import Storage, gaps_of, live_bytes
from memplan.placement.schedule import StepSchedule, run_schedule

MIB = 2**20


def link(name: str, bytes_per_ns: float, latency_ns: int | None = None) -> Link:
    """A link of a round rate."""
    return Link(name, bytes_per_ns * 1e9, latency_ns, "test", ("*",))


OUT, IN = link("d2h", 1.0), link("h2d", 2.0)


def weights(layers: int, size: int = MIB) -> list[Storage]:
    """One weight a step, each used once."""
    return [Storage(i, size, 0, layers, (i,), (), persistent=True) for i in range(layers)]


def problem_of(storages: list[Storage], durations: list[int]) -> MoveProblem:
    """Over the links of this file."""
    return move_problem(storages, durations, HostTier(None, OUT, IN))


def streamed(layers: int, compute: int, room: int, in_link: Link = IN) -> StepSchedule:
    """Every weight comes from the host at its use."""
    storages = weights(layers)
    problem = problem_of(storages, [compute] * layers)
    gaps = problem.gaps(np.ones(problem.units, dtype=bool))
    return run_schedule(storages, [compute] * layers, gaps, room, out_link=OUT, in_link=in_link)


def test_weights_streamed_behind_compute_take_the_time_of_the_link() -> None:
    layers, compute = 8, 1000
    schedule = streamed(layers, compute, 2 * MIB)
    # All weights come over the link, the last op runs after the last has come; the link never waits.
    assert schedule.makespan_ns == layers * MIB // 2 + compute
    assert int(schedule.stalled_ns.sum()) == schedule.makespan_ns - layers * compute


def test_weights_streamed_behind_longer_compute_cost_the_first_alone() -> None:
    assert streamed(8, MIB, 2 * MIB).makespan_ns == MIB // 2 + 8 * MIB


def test_without_room_for_two_nothing_overlaps() -> None:
    assert streamed(5, MIB, MIB).makespan_ns == 5 * (MIB // 2 + MIB)


def test_an_activation_moved_out_and_back_needs_both_links_one_after_the_other() -> None:
    steps, compute = 6, 10
    storages = [Storage(0, MIB, 0, steps, (0, steps - 1), (0,), persistent=False)]
    schedule = run_schedule(storages, [compute] * steps, gaps_of(storages, steps), MIB, out_link=OUT, in_link=IN)
    out, back = sorted(schedule.moves, key=lambda move: move.start_ns)
    assert (out.start_ns, out.end_ns) == (compute, compute + MIB)
    assert back.start_ns >= out.end_ns
    assert schedule.makespan_ns == compute + MIB + MIB // 2 + compute


@pytest.mark.parametrize("after", [0, MIB // 4, MIB // 2, 5 * MIB])
def test_a_return_is_exposed_by_what_compute_after_the_copy_out_is_too_short(after: int) -> None:
    storages = [Storage(0, MIB, 0, 4, (0, 3), (0,), persistent=False)]
    durations = [10, MIB, after, 10]
    schedule = run_schedule(storages, durations, gaps_of(storages, 4), MIB, out_link=OUT, in_link=IN)
    exposed = max(MIB // 2 - after, 0)
    assert int(schedule.stalled_ns.sum()) == exposed
    assert schedule.makespan_ns == sum(durations) + exposed


def test_transfers_of_one_direction_queue_and_those_of_the_other_do_not_wait_for_them() -> None:
    # Five are written one after the other in no time and needed again at the end; a weight comes in meanwhile.
    count, steps = 5, 8
    kept = [Storage(i, MIB, i, steps, (i, steps - 1), (i,), persistent=False) for i in range(count)]
    storages = [*kept, Storage(count, MIB, 0, steps, (count,), (), persistent=True)]
    durations = [1] * count + [count * MIB, count * MIB // 2, 1]
    schedule = run_schedule(
        storages, durations, gaps_of(storages, steps), 2 * count * MIB, out_link=OUT, in_link=IN
    )  # fmt: skip
    out = sorted(move.start_ns for move in schedule.moves if move.out)
    assert out == [1 + place * MIB for place in range(count)]
    into = next(move for move in schedule.moves if not move.out and move.gap.storage == count)
    assert (into.start_ns, into.end_ns) == (0, MIB // 2)
    back = sorted(move.start_ns for move in schedule.moves if not move.out and move.gap.storage != count)
    assert [later - earlier for earlier, later in pairwise(back)] == [MIB // 2] * (count - 1)
    # All but the weight's way, which the first ops hide a little of, is hidden.
    assert schedule.makespan_ns == sum(durations) + MIB // 2 - count


def test_latency_is_paid_once_a_transfer() -> None:
    slow = link("h2d", 2.0, latency_ns=1000)
    assert streamed(4, 1, 2 * MIB, slow).makespan_ns == 4 * (MIB // 2 + 1000) + 1


def mixed(seed: int, *, steps: int, storages: int) -> MoveProblem:
    """Weights and activations of random sizes with up to four uses each, written by the first."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(storages):
        uses = tuple(sorted({int(step) for step in rng.integers(0, steps, 4)}))
        kept = bool(rng.integers(2))
        span = (0, steps) if kept else (uses[0], uses[-1] + 1)
        made.append(Storage(index, int(rng.integers(1, 9)) * MIB, *span, uses, uses[:1], persistent=kept))
    return problem_of(made, rng.integers(10, MIB, steps).tolist())


def test_links_carry_one_transfer_at_a_time() -> None:
    problem = mixed(1, steps=60, storages=40)
    capacity = int(problem.live.max() * 0.7)
    chosen = choose_moves(problem, capacity)
    schedule = run_schedule(
        problem.storages, problem.durations.tolist(), chosen.gaps, capacity, out_link=OUT, in_link=IN
    )  # fmt: skip
    assert schedule.moves
    assert schedule.makespan_ns == chosen.makespan_ns
    for out in (True, False):
        moves = sorted((move for move in schedule.moves if move.out is out), key=lambda move: move.start_ns)
        assert all(a.end_ns <= b.start_ns for a, b in pairwise(moves))


@pytest.mark.parametrize("seed", range(30))
def test_no_step_has_more_than_the_room_in_hbm(seed: int) -> None:
    problem = mixed(seed, steps=50, storages=30)
    every = np.ones(problem.units, dtype=bool)
    room = int(problem.live_without(every[problem.unit]).max()) + MIB
    schedule = run_schedule(
        problem.storages, problem.durations.tolist(), problem.gaps(every), room, out_link=OUT, in_link=IN
    )
    assert int(live_bytes(problem.storages, schedule.residencies, problem.steps).max()) <= room


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_lies_between_the_bound_and_every_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = 80
    storages = weights(steps, 4 * MIB)
    for index in range(steps // 2):
        storages.append(
            Storage(
                steps + index, 6 * MIB, index, steps - index, (index, steps - 1 - index), (index,), persistent=False
            )
        )
    problem = problem_of(storages, rng.integers(MIB // 2, 4 * MIB, steps).tolist())
    for share in (0.9, 0.6, 0.3):
        capacity = int(problem.live.max() * share)
        bound = move_bound(problem, capacity)
        chosen = choose_moves(problem, capacity)
        assert bound is not None
        assert bound.makespan_ns <= chosen.makespan_ns <= bound.makespan_ns * 1.15
        for rule in MOVE_RULES.values():
            moved = rule(problem, capacity)
            if int(problem.live_without(moved[problem.unit]).max()) <= capacity:
                assert chosen.makespan_ns <= problem.run(moved, capacity).makespan_ns


def test_no_choice_of_a_small_case_beats_the_bound() -> None:
    rng = np.random.default_rng(3)
    for _ in range(6):
        steps = 10
        storages = []
        for index in range(6):
            uses = tuple(sorted({int(step) for step in rng.integers(0, steps, 2)}))
            kept = bool(rng.integers(2))
            span = (0, steps) if kept else (uses[0], uses[-1] + 1)
            storages.append(Storage(index, int(rng.integers(1, 5)) * MIB, *span, uses, uses[:1], persistent=kept))
        problem = problem_of(storages, rng.integers(10, 2 * MIB, steps).tolist())
        capacity = int(problem.live.max() * 0.75)
        every = [
            np.array([number >> unit & 1 for unit in range(problem.units)], dtype=bool)
            for number in range(1 << problem.units)
        ]
        fitting = [
            problem.run(moved, capacity).makespan_ns
            for moved in every
            if int(problem.live_without(moved[problem.unit]).max()) <= capacity
        ]
        bound = move_bound(problem, capacity)
        if not fitting:
            continue
        assert bound is not None
        assert bound.makespan_ns <= min(fitting)
        assert choose_moves(problem, capacity, bound).makespan_ns <= min(fitting) * 1.02


def test_what_is_written_once_is_copied_out_once() -> None:
    steps = 9
    storages = [
        Storage(0, MIB, 0, steps, (0, 4, 8), (0,), persistent=False),
        Storage(1, MIB, 2, 3, (2,), (2,), persistent=False),
        Storage(2, MIB, 6, 7, (6,), (6,), persistent=False),
    ]
    problem = problem_of(storages, [MIB] * steps)
    chosen = choose_moves(problem, MIB)
    assert [gap.dirty for gap in chosen.gaps] == [True, False]
