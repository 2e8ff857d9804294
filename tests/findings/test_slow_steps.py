"""A rank that is slow in some steps only is named, and what only looks like it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.findings import Diagnosis
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


@pytest.mark.parametrize("steps", [(2,), (4,), (1, 3)])
def test_a_rank_that_is_slow_in_some_steps_is_named(steps: tuple[int, ...], tmp_path: Path) -> None:
    """Went wrong once: slow in one step of five, it was told as waiting of the others, for whom nobody knew."""
    found = of_slow_rank(tmp_path, in_some(slower(0.2), *steps))
    told = found.findings[0]
    assert told.kind == "rank.slow"
    assert told.rank == SLOW
    assert told.cost_ns == pytest.approx(0.2 * computing_ns(program_of(PLAN, ranks=RANKS)) * len(steps), rel=0.1)
    if len(steps) == 1:
        assert "in 1 of 5 steps (+20" in str(told.title)


def test_one_that_is_slow_in_all_steps_is_told_once(tmp_path: Path) -> None:
    (told,) = named(of_slow_rank(tmp_path, slower(0.3)), "rank.slow")
    assert "of 5 steps" not in str(told.title)


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
