"""A rank that is slow in some steps only is named, and what only looks like it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from benchmarks.planted import cost_of
from memplan.align import place_in_words
from memplan.findings import Diagnosis, diagnose
from memplan.simulator import chosen_fault, simulate_job
from memplan.simulator.job_program import Doing, Item, RankProgram, computing_ns, program_of, scaled_kernels
from tests.findings.planted_runs import PLAN, diagnosed, kernels, named

RANKS, STEPS, SLOW = 4, 5, 2


def in_some(change: Callable[[RankProgram], RankProgram], *steps: int) -> Callable[[RankProgram], RankProgram]:
    """`change` in these steps only, from 0 on."""
    chosen, others = frozenset(steps), frozenset(range(STEPS)) - frozenset(steps)

    def apply(program: RankProgram) -> RankProgram:
        return (
            *(replace(item, only=others) for item in program),
            *(replace(item, only=chosen) for item in change(program)),
        )

    return apply


def slower(share: float) -> Callable[[RankProgram], RankProgram]:
    return lambda program: scaled_kernels(program, 1 + share)


def of_slow_rank(folder: Path, change: Callable[[RankProgram], RankProgram]) -> Diagnosis:
    return diagnosed(folder / "job", change, ranks=RANKS, steps=STEPS, only=SLOW)


@pytest.mark.parametrize("steps", [(2,), (4,), (1, 3), (1, 2, 3)])
def test_a_rank_that_is_slow_in_some_steps_is_named(steps: tuple[int, ...], tmp_path: Path) -> None:
    """
    Went wrong once: slow in one step of five, it was told as waiting of the others, for whom nobody knew; slow in most,
    it was told without the steps.
    """
    found = of_slow_rank(tmp_path, in_some(slower(0.2), *steps))
    told = found.findings[0]
    assert told.kind == "rank.slow"
    assert told.rank == SLOW
    assert told.cost_ns == pytest.approx(0.2 * computing_ns(program_of(PLAN, ranks=RANKS)) * len(steps), rel=0.1)
    assert [place.step for place in told.places[1:]] == [step + 1 for step in steps]
    assert [item.value for item in told.evidence if str(item.label).startswith("step ")] == pytest.approx(
        [told.cost_ns / len(steps)] * len(steps), rel=0.1
    )
    if len(steps) == 1:
        assert "in 1 of 5 steps (+20" in str(told.title)


def test_one_that_is_slow_in_all_steps_is_told_once(tmp_path: Path) -> None:
    (told,) = named(of_slow_rank(tmp_path, slower(0.3)), "rank.slow")
    assert "of 5 steps" not in str(told.title)
    assert len(told.places) == 1


def test_a_few_kernels_that_once_take_long_are_no_slow_rank(tmp_path: Path) -> None:
    def change(program: RankProgram) -> RankProgram:
        places = [place for place, item in enumerate(program) if item.doing is Doing.KERNEL][10:13]
        return tuple(
            replace(item, duration_ns=item.duration_ns * 8) if place in places else item
            for place, item in enumerate(program)
        )

    found = of_slow_rank(tmp_path, in_some(change, 2))
    assert not named(found, "rank.slow")
    assert named(found, "kernel.irregular")


def test_more_work_in_one_step_is_no_slow_rank(tmp_path: Path) -> None:
    more: tuple[Item, ...] = kernels(["Sort"] * 12, 100_000)
    found = of_slow_rank(tmp_path, in_some(lambda program: (*program, *more), 3))
    assert not named(found, "rank.slow")


@pytest.mark.parametrize(("ranks", "steps"), [(2, 3), (2, 5), (3, 4)])
def test_ranks_that_take_turns_are_not_slow(ranks: int, steps: int, tmp_path: Path) -> None:
    """Went wrong once: of two ranks in three steps one is longest in two; it was called slow, and so was the other."""
    fault = chosen_fault("uneven-sequences:strong")
    job = simulate_job(PLAN, tmp_path / "job", fault=fault, ranks=ranks, steps=steps, seed=7)
    found = diagnose(memplan.open_profile(job))
    assert not named(found, "rank.slow")
    (told,) = named(found, "rank.uneven")
    cost = cost_of(PLAN, fault, ranks=ranks, steps=steps, seed=7)
    assert told.cost_ns == pytest.approx(cost, rel=0.1)


def test_a_slow_rank_is_slow_though_another_stands_out_once(tmp_path: Path) -> None:
    found = diagnosed(
        tmp_path / "job", slower(0.2), ranks=RANKS, steps=STEPS, only=SLOW, others=in_some(slower(0.4), 1)
    )
    assert named(found, "rank.slow")[0].rank == SLOW


@pytest.mark.parametrize("kind", ["host-gaps", "synchronisation", "garbage", "dispatch"])
def test_a_gap_says_its_step_and_what_comes_after_it_in_the_words_of_the_plan(kind: str, tmp_path: Path) -> None:
    job = simulate_job(PLAN, tmp_path / "job", fault=chosen_fault(f"{kind}:strong"), ranks=2, steps=3, seed=7)
    told = diagnose(memplan.open_profile(job), plan=PLAN).findings[0]
    planned = {place_in_words(op) for op in PLAN.ops}
    assert told.kind.startswith("idle.")
    assert {place.step for place in told.places} <= {1, 2, 3}
    assert {name for place in told.places for name in place.ops} <= planned
    assert all(place.ops for place in told.places)


@pytest.mark.parametrize(("runs", "told"), [(1, False), (2, True)])
def test_a_long_kernel_that_is_slow_once_is_chance(runs: int, told: bool, tmp_path: Path) -> None:
    """Went wrong once: the head of a short decode step that once took nearly twice as long was what cost most."""
    program = program_of(PLAN, ranks=1)
    head = kernels(["MatMul"], computing_ns(program) // 4, told=True)

    def change(program: RankProgram) -> RankProgram:
        return (*program, *(replace(item, duration_ns=item.duration_ns * 9 // 5) for item in head))

    def usual(program: RankProgram) -> RankProgram:
        return (*program, *head)

    def plant(program: RankProgram) -> RankProgram:
        slow = frozenset(range(1, 1 + runs))
        rest = frozenset(range(STEPS)) - slow
        return (
            *(replace(item, only=rest) for item in usual(program)),
            *(replace(item, only=slow) for item in change(program)),
        )

    found = diagnosed(tmp_path / "job", plant, steps=STEPS)
    assert bool(named(found, "kernel.irregular")) is told
