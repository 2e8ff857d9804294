"""The page of public figures is what memplan predicts today: nobody edits it, and its medians follow from its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy import accuracy_rows, cells, page, parse, profile_cells

PAGE = Path(__file__).parents[1] / "benchmarks" / "accuracy.md"
_APART = 8
"""Of the serving steps, which take longest, one in eight is predicted here; the slow test predicts all."""


def test_the_page_is_made_of_its_rows() -> None:
    """Medians, coverage and header: the page is what its own rows make, to the letter."""
    text = PAGE.read_text("utf-8")
    assert "\n".join(page(*parse(text))) == text


def test_rows_are_what_is_predicted(shared_data: Path) -> None:
    shown = set(parse(PAGE.read_text("utf-8"))[0])
    assert len(shown) > 200
    for row in accuracy_rows(shared_data, serving_every=_APART):
        assert cells(row) in shown, f"{row.name}: make the page again with python -m benchmarks.accuracy"


@pytest.mark.slow
def test_every_row_and_profile_is_what_is_predicted(shared_data: Path) -> None:
    rows, profiles = parse(PAGE.read_text("utf-8"))
    assert [cells(row) for row in accuracy_rows(shared_data)] == rows
    assert list(profile_cells(shared_data)) == profiles
