"""The report of a job of many ranks: what many have is told once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import memplan
from memplan.findings import Diagnosis, diagnose
from memplan.reports import render_report
from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
from memplan.reports.report import Report, ReportTable
from memplan.simulator import chosen_fault, simulate_job
from tests.small_plans import layered_plan


def _ranks_and_costs(report: Report) -> list[tuple[object, object]]:
    (table,) = (part for part in report.sections[0].parts if isinstance(part, ReportTable))
    return [(row[1], row[3]) for row in table.listed]


def test_what_many_ranks_have_is_one_row(tmp_path: Path) -> None:
    simulate_job(layered_plan(10), tmp_path / "run", fault=chosen_fault("dataloader:strong"), ranks=1, steps=2)
    found = diagnose(memplan.open_profile(tmp_path / "run"))
    first = found.findings[0]

    def of(count: int) -> Diagnosis:
        same = [replace(first, rank=rank, cost_ns=1000 - rank) for rank in range(count)]
        return replace(found, findings=[*same, replace(first, kind="other", rank=3, cost_ns=5)])

    told = _ranks_and_costs(diagnosis_report(of(1024), "job"))
    assert [(str(ranks), cost) for ranks, cost in told] == [("0 and 1,023 more", 1000), ("3", 5)]
    told = _ranks_and_costs(diagnosis_report(of(8), "job"))
    assert [str(ranks) for ranks, _ in told] == ["0 and 7 more", "3"], "eight rows of one kind hide what else there is"
    assert [rank for rank, _ in _ranks_and_costs(diagnosis_report(of(4), "job"))] == [0, 1, 2, 3, 3]


def test_of_many_steps_those_of_ranks_that_findings_name_are_drawn(tmp_path: Path) -> None:
    plan = layered_plan(10, op_ns=8_000_000)
    simulate_job(plan, tmp_path / "run", fault=chosen_fault("slow-rank:strong"), ranks=12, steps=3, seed=3)
    page = render_report(diagnosis_report(diagnose(memplan.open_profile(tmp_path / "run")), "job"), "html")
    assert "32 of 36, those of the dearest findings first" in page
    labels = re.findall(r">(rank \d+), step", page)
    assert labels[:3] == ["rank 1"] * 3
    assert "device memory while it was recorded" in page
    assert "Rates of links in GB/s" in page
