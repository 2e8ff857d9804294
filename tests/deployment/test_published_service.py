"""The service model against public services: no row is met exactly, and how far off they are is what the page says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.service_levels import goal_rows, prompt_rows, rate_rows
from memplan.serving.constants import step_interval

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_times_follow_the_rate_of_a_public_service() -> None:
    """Of the release with the faster host (Turbo) all medians are inside the interval of its engine's steps."""
    low, high = step_interval("vllm-ascend")
    rows = [row for row in rate_rows() if "Turbo" in row.name]
    assert len(rows) == 6
    assert all(low <= row.measured / row.predicted <= high for row in rows)
    tokens = [row for row in rows if row.what == "a token, ms"]
    assert [row.predicted for row in tokens] == sorted(row.predicted for row in tokens)


def test_the_page_says_what_is_predicted(shared_data: Path) -> None:
    text = PAGE.read_text("utf-8")
    for row in (*rate_rows(), *goal_rows(shared_data), *prompt_rows(shared_data)):
        assert f"{row.measured:,.4g} | {row.predicted:,.4g} | {row.error:+.0%} |" in text
