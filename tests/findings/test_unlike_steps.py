"""Steps that are unlike the others, transfers that once take long, and kernels that share the memory with transfers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from benchmarks.planted import cost_of, faults_of, off_by
from memplan.findings import diagnose
from memplan.simulator import FAULTS, chosen_fault, simulate_job
from memplan.simulator.job_program import Doing, Item, RankProgram, computing_ns
from tests.findings.planted_runs import PLAN, diagnosed, named

STEPS = 5
SLOW, OTHERS = frozenset({2}), frozenset({0, 1, 3, 4})


@pytest.mark.parametrize(
    "kind", ["slow-step", "prompts-among-tokens", "captured-again", "kernels-beside-transfers", "moved-anew"]
)
def test_what_shows_in_some_steps_or_beside_transfers_is_told_first(kind: str, tmp_path: Path) -> None:
    chosen = chosen_fault(f"{kind}:0.2")
    job = simulate_job(PLAN, tmp_path / "job", fault=chosen, ranks=4, steps=STEPS, seed=7)
    found = faults_of(diagnose(memplan.open_profile(job), plan=PLAN).findings)
    told = [one for one in found if one.kind in FAULTS[kind].findings]
    assert found[0].kind in FAULTS[kind].findings
    assert found[0].places
    cost = cost_of(PLAN, chosen, ranks=4, steps=STEPS, seed=7)
    assert off_by(cost, chosen, told) == pytest.approx(0, abs=0.15)


def slow_in(program: RankProgram, factor: float) -> RankProgram:
    """`program` with all kernels `factor` times as long in one step."""
    found: list[Item] = []
    for item in program:
        if item.doing is Doing.KERNEL:
            longer = replace(item, duration_ns=round(item.duration_ns * factor), only=SLOW)
            found += [replace(item, only=OTHERS), longer]
        else:
            found.append(item)
    return tuple(found)


def test_a_step_that_is_slow_on_all_ranks_is_no_slow_rank(tmp_path: Path) -> None:
    """Went wrong once: nothing was told, for each kernel was held against what most of its step took longer."""
    found = diagnosed(tmp_path / "job", lambda program: slow_in(program, 1.3), ranks=3, steps=STEPS)
    (*_, last) = slow = named(found, "step.slow")
    assert len(slow) == 3
    assert not named(found, "rank.slow")
    assert [place.step for place in last.places] == [3]
    assert "1 of 5 steps" in str(last.title)


def test_one_that_is_slow_alone_is_a_slow_rank(tmp_path: Path) -> None:
    found = diagnosed(tmp_path / "job", lambda program: slow_in(program, 1.3), ranks=3, steps=STEPS, only=1)
    assert [one.rank for one in named(found, "rank.slow")] == [1]
    assert not named(found, "step.slow")


def test_kernels_that_other_steps_lack_are_named_by_type(tmp_path: Path) -> None:
    def evaluated(program: RankProgram) -> RankProgram:
        work = Item(Doing.KERNEL, "Evaluated", "TopKV2", computing_ns(program) // 4, core="AI_CORE", only=SLOW)
        return (*program[:5], *(replace(work, name=f"Evaluated_{place}") for place in range(6)), *program[5:])

    (told, *_) = named(diagnosed(tmp_path / "job", evaluated, steps=STEPS), "step.more")
    assert [one.label for one in told.evidence] == ["TopKV2"]
    assert [place.step for place in told.places] == [3]


def test_a_late_host_after_a_read_value_is_the_hosts(tmp_path: Path) -> None:
    """Went wrong once: whatever began within 50 us after a call that waits for the device was that call's."""

    def change(program: RankProgram) -> RankProgram:
        read = Item(Doing.SYNCHRONISE, "aten::item", "", 0)
        ahead = [replace(program[0], name=f"short_{place}", duration_ns=8_000) for place in range(2)]
        late = Item(Doing.HOST, "logging.handlers:emit", "", 2_000_000)
        return (*program[:10], read, *ahead, late, *program[10:])

    found = diagnosed(tmp_path / "job", change, steps=STEPS)
    assert found.findings[0].kind == "idle.host"


def test_what_moves_slowly_in_every_step_is_not_irregular(tmp_path: Path) -> None:
    job = simulate_job(PLAN, tmp_path / "job", fault=chosen_fault("contended-transfers"), ranks=2, steps=STEPS, seed=7)
    kinds = {one.kind for one in diagnose(memplan.open_profile(job), plan=PLAN).findings}
    assert "communication.contention" in kinds
    assert "communication.irregular" not in kinds
