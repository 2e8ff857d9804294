"""Names of others in CSV files, where spreadsheets would run them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.csv_rows import csv_rows
from memplan.core.progress import silent
from memplan.export.csv_tables import write_csv
from tests.small_plans import layered_plan

RUN = ("=1+1", '=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1")
LEFT = ("", "-", "+", "-5", "+1.5e3", "-inf", "relu=1", "layers.0/MatMul-op0", "'=1")


@pytest.mark.parametrize("text", RUN)
def test_what_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert list(csv_rows([(text, 1, None)])) == [["'" + text, 1, None]]


@pytest.mark.parametrize("text", LEFT)
def test_other_text_and_numbers_stay_as_they_are(text: str) -> None:
    assert list(csv_rows([(text, -1, -0.5)])) == [[text, -1, -0.5]]


def test_names_of_a_hostile_graph_are_text_in_an_exported_plan(tmp_path: Path) -> None:
    plan = layered_plan(2)
    ops = tuple(replace(op, name=f"=cmd|'/C calc'!A{op.index}") for op in plan.ops)
    tensors = tuple(replace(tensor, name="@SUM(1)") for tensor in plan.tensors)
    write_csv(replace(plan, ops=ops, tensors=tensors), tmp_path / "plan", silent)
    files = sorted((tmp_path / "plan").glob("*.csv"))
    cells = [cell for file in files for row in csv.reader(file.open(encoding="utf-8", newline="")) for cell in row]
    assert any("calc" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
