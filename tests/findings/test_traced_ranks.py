"""Ranks without a kernel table, ranks of which only a part was kept: what their traces tell all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import memplan
from memplan.findings import diagnose
from memplan.findings.diagnosis import Diagnosis
from memplan.simulator.job_program import Doing, Item
from tests.findings.planted_runs import PLAN, after_each, simulated, unchanged
from tests.findings.test_critical_path import US

ALEXNET = "profiles/mindspore-alexnet-2023"


def _diagnosis(path: Path) -> Diagnosis:
    return diagnose(memplan.open_profile(path))


def test_iterations_of_msprof_are_steps(shared_data: Path) -> None:
    facts = _diagnosis(shared_data / ALEXNET).job.ranks[0]
    assert [step.step for step in facts.steps] == list(range(1, 11))


def test_planes_tell_waiting_from_transfer(shared_data: Path) -> None:
    found = _diagnosis(shared_data / ALEXNET)
    (exposed,) = [one for one in found.findings if one.kind.startswith("communication.")]
    told = {item.label: item.value for item in exposed.evidence}
    assert told["exposed"] == 129_172_000 or abs(int(told["exposed"]) - 129_172_000) < 10_000  # Overlap Analysis
    assert 0 < int(told["bytes moving"]) < int(told["exposed"])
    assert int(told["bytes moving"]) + int(told["waiting for others"]) == told["exposed"]


def test_kernels_of_a_trace_are_looked_at_like_those_of_a_table(shared_data: Path) -> None:
    kinds = {one.kind: one for one in _diagnosis(shared_data / ALEXNET).findings}
    assert "20 ops run on AI CPUs" in str(kinds["kernel.aicpu"].title)  # DropoutGenMask, twice in ten iterations
    assert str(kinds["kernel.format"].evidence[0].label).startswith("Trans")


def test_a_trace_tells_what_its_kernel_table_tells(tmp_path: Path) -> None:
    convert = Item(Doing.KERNEL, "Default/net-Net/TransData-op7", "TransData", 200 * US, core="AI_VECTOR_CORE")
    job = simulated(tmp_path / "run", lambda own: after_each(own, (convert,), 6), steps=2)
    cache = tmp_path / "cache"
    whole = diagnose(memplan.open_profile(job, cache=cache), plan=PLAN)
    (job / "rank_0_ascend_pt/ASCEND_PROFILER_OUTPUT/kernel_details.csv").unlink()
    traced = diagnose(memplan.open_profile(job, cache=cache), plan=PLAN)
    costs = [next(one.cost_ns for one in found.findings if one.kind == "kernel.format") for found in (whole, traced)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
    assert traced.job.path is not None
    assert whole.job.path is not None
    assert traced.job.path.length_ns == pytest.approx(whole.job.path.length_ns, rel=0.01)


def test_ranks_of_which_different_parts_were_kept_are_not_compared(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/gpt3-2023-handcut")
    assert not [one for one in found.findings if one.kind.startswith("rank.")]


def test_where_no_pipe_is_counted_nothing_is_said_of_pipes(shared_data: Path) -> None:
    found = _diagnosis(shared_data / "profiles/gpt3-2023-handcut")  # counts bandwidths of L0
    assert "kernel.limits" not in {one.kind for one in found.findings}


def test_steps_of_an_excerpt_of_a_kernel_table_are_told_by_the_profilers_sums(tmp_path: Path) -> None:
    """Went wrong once: exposed communication was 4 % of a step where its profiler says 50 %."""
    job = simulated(tmp_path / "run", unchanged, ranks=2, steps=2)
    cache = tmp_path / "cache"
    before = diagnose(memplan.open_profile(job, cache=cache)).job.ranks
    for table in job.rglob("kernel_details.csv"):
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        table.write_text("".join(lines[: len(lines) // 5]), encoding="utf-8")
    after = diagnose(memplan.open_profile(job, cache=cache)).job.ranks
    for rank, facts in after.items():
        assert before[rank].case.kept_share is None
        assert facts.case.kept_share is not None
        assert 0 < facts.case.kept_share < 0.5
        for whole, excerpt in zip(before[rank].steps, facts.steps, strict=True):
            assert excerpt.idle_total_ns == pytest.approx(whole.idle_total_ns, rel=0.02)
            assert excerpt.exposed_ns == pytest.approx(whole.exposed_ns, rel=0.02)
