"""The service model against public services: no row is met exactly, and how far off they are is what the page says."""

from __future__ import annotations

from pathlib import Path

from benchmarks.service_levels import goal_rows, prompt_rows, rate_rows
from memplan.serving.constants import step_interval

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_times_follow_the_rate_of_a_public_service() -> None:
    """Times a token at rates that a run of 200 requests gets used to; first tokens came sooner than of other hosts."""
    low, high = step_interval("vllm-ascend")
    rows = list(rate_rows())
    tokens = [row for row in rows if row.what == "a token, ms"]
    assert len(tokens) == 6
    usual = [row for row in tokens if "16 requests" not in row.name]
    assert all(low <= row.measured / row.predicted <= high for row in usual)
    for engine in ("Turbo", "v0.7.3, "):
        found = [row.predicted for row in tokens if engine in row.name]
        assert found == sorted(found)
    assert all(row.error > 0.3 for row in rows if row.what != "a token, ms")


def test_the_page_says_what_is_predicted(shared_data: Path) -> None:
    text = PAGE.read_text("utf-8")
    for row in (*rate_rows(), *goal_rows(shared_data), *prompt_rows(shared_data)):
        assert f"{row.measured:,.4g} | {row.predicted:,.4g} | {row.error:+.0%} |" in text
