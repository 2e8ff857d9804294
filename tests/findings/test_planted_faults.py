"""Faults that were planted in simulated jobs are found, and clean jobs are left in peace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.findings import Finding, diagnose
from memplan.schema import Bound, Plan
from memplan.simulator import FAULTS, chosen_fault, planted_ns, simulate_job
from tests.small_plans import layered_plan

PLAN: Plan = layered_plan(60, op_ns=80_000)


def _found(folder: Path, fault: str | None, seed: int = 3) -> list[Finding]:
    chosen = None if fault is None else chosen_fault(fault)
    simulate_job(PLAN, folder, fault=chosen, ranks=4, steps=4, seed=seed)
    found = diagnose(memplan.open_profile(folder), plan=PLAN).findings
    return [one for one in found if one.cost_ns or one.cost_bytes]


def test_a_clean_job_has_no_findings(tmp_path: Path) -> None:
    assert _found(tmp_path / "clean", None) == []


@pytest.mark.parametrize(
    "fault",
    ["slow-rank", "exposed-transfer", "bubble", "aicpu", "format-conversion", "dataloader", "garbage", "clock-drop",
     "between-steps", "leaked-tensor", "fragmented-pool", "outside-memory"],
)  # fmt: skip
def test_a_planted_fault_is_the_first_finding(tmp_path: Path, fault: str) -> None:
    first = _found(tmp_path / "run", f"{fault}:strong")[0]
    assert first.kind in FAULTS[fault].findings
    assert first.remedies


def test_the_cost_of_a_slow_rank_is_what_the_job_loses(tmp_path: Path) -> None:
    first = _found(tmp_path / "run", "slow-rank:0.2")[0]
    truth = planted_ns(PLAN, chosen_fault("slow-rank:0.2"), ranks=4, steps=4, seed=3)
    assert first.rank == 1
    assert first.cost_ns == pytest.approx(truth, rel=0.1)
    assert {rank for rank, _ in first.waits_ns} == {0, 2, 3}


def test_a_job_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_job(PLAN, tmp_path / name, ranks=2, steps=2, seed=seed)
    table = "rank_1_ascend_pt/ASCEND_PROFILER_OUTPUT/kernel_details.csv"
    texts = [(tmp_path / name / table).read_bytes() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("text", ["nothing", "slow-rank:huge", "slow-rank:-1", "aicpu:9"])
def test_faults_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        chosen_fault(text)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PLAN.save(tmp_path / "plan.json")
    job = tmp_path / "job"
    plan = str(tmp_path / "plan.json")
    assert main(["simulate", plan, str(job), "--fault", "dataloader:strong", "--ranks", "2", "--steps", "3"]) == 0
    capsys.readouterr()
    assert main(["diagnose", str(job), "--plan", plan, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["kind"] == "idle.dataloader"
    assert told["findings"][0]["remedies"]
    page = tmp_path / "report.html"
    assert main(["diagnose", str(job), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_trace_without_a_kernel_table_is_taken_apart_too(tmp_path: Path) -> None:
    simulate_job(PLAN, tmp_path / "run", fault=chosen_fault("dataloader:strong"), ranks=1, steps=3, seed=3)
    whole = diagnose(memplan.open_profile(tmp_path / "run", cache=tmp_path / "cache")).job.ranks[0]
    (tmp_path / "run/rank_0_ascend_pt/ASCEND_PROFILER_OUTPUT/kernel_details.csv").unlink()
    found = diagnose(memplan.open_profile(tmp_path / "run", cache=tmp_path / "cache"))
    assert found.findings[0].kind == "idle.dataloader"
    steps = found.job.ranks[0].steps
    assert [step.computing_ns for step in steps] == [step.computing_ns for step in whole.steps]


def test_a_fault_that_would_change_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan without products has none that a slow rank could take longer for."""
    plan = layered_plan(20, op_ns=80_000)
    vectors = replace(plan, ops=tuple(replace(op, type="Add") for op in plan.ops))
    with pytest.raises(InputError, match="changes nothing in a job of this plan"):
        simulate_job(vectors, tmp_path / "job", fault=chosen_fault("slow-rank-cube"))


@pytest.mark.parametrize("op_ns", [300, 2_000, 20_000])
def test_jobs_of_short_steps_are_clean_too(tmp_path: Path, op_ns: int) -> None:
    """Went wrong once: pauses of a host that were a tenth of such a step."""
    plan = layered_plan(60, op_ns=op_ns)
    for background in (False, True):
        job = simulate_job(plan, tmp_path / f"{background}", ranks=2, steps=4, seed=11, background=background)
        assert not [one for one in diagnose(memplan.open_profile(job), plan=plan).findings if one.cost_ns]


def test_gradients_leave_before_the_op_that_leaves_too_little_to_hide_them(tmp_path: Path) -> None:
    """An update of a large embedding takes half of the step."""
    plan = layered_plan(20, op_ns=80_000)
    ops = [replace(op, duration_ns=1_500_000) if op.index == len(plan.ops) - 2 else op for op in plan.ops]
    long = replace(plan, ops=tuple(ops))
    found = diagnose(memplan.open_profile(simulate_job(long, tmp_path / "job", ranks=4, steps=4, seed=5)), plan=long)
    assert not [one for one in found.findings if one.kind.startswith("communication.") and one.cost_ns]


def test_planned_kernels_scatter_alike_with_a_fault_and_without(tmp_path: Path) -> None:
    """Went wrong once: what a fault cost held the scatter of a few long kernels, up to half of it."""
    plan = layered_plan(4, op_ns=4_000_000)
    lengths = []
    for place, fault in enumerate((None, chosen_fault("aicpu-mixed:weak"))):
        job = simulate_job(plan, tmp_path / str(place), ranks=2, steps=3, seed=7, fault=fault, background=True)
        kernels = memplan.open_profile(job).rank(1).kernels()
        assert kernels is not None
        planned = [row for row, core in enumerate(kernels.core) if core not in ("AI_CPU", "COMMUNICATION")]
        lengths.append(kernels.duration_ns[planned].tolist())
    # Clocks drift, by which lengths differ in their last digit.
    assert lengths[0] == pytest.approx(lengths[1], abs=2)


def test_a_slow_link_is_found_where_all_messages_are_short(tmp_path: Path) -> None:
    """Steps of a millisecond, as of the sample plan: gradients in messages of 200 KB."""
    plan = layered_plan(60, op_ns=8_000)
    job = simulate_job(plan, tmp_path / "job", ranks=4, steps=3, seed=3, fault=chosen_fault("slow-link:medium"))
    assert diagnose(memplan.open_profile(job), plan=plan).findings[0].kind == "link.slow"


def test_a_fault_that_no_kernel_is_long_enough_for_is_no_crash(tmp_path: Path) -> None:
    """Went wrong once: every op of a small graph is bound by its launch."""
    plan = layered_plan(60, op_ns=300)
    ops = tuple(replace(op, bound=Bound.LAUNCH) for op in plan.ops)
    fault = chosen_fault("irregular-kernels-rare")
    assert simulate_job(replace(plan, ops=ops), tmp_path / "job", fault=fault, ranks=1, steps=2)
