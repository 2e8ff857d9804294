"""What can be done: every remedy says what to change, why, and where that was read."""

from __future__ import annotations

import re
from pathlib import Path

from memplan.core.resources import table
from memplan.findings.finding import remedies_of

_FACTS = {"settings.environment", "path.composition"}
"""Findings that say themselves what to set, or that are no fault."""


def test_each_remedy_has_a_knob_a_reason_and_a_source() -> None:
    for kind, rows in table("memplan.findings", "remedies.json").items():
        assert rows, kind
        for row in rows:
            assert set(row) == {"framework", "knob", "text", "version", "source"}, kind
            assert all(row[key] for key in ("framework", "knob", "text", "source")), kind
            assert row["version"] or row["framework"] == "any", (kind, row["knob"])  # what ages says of which version


def test_whatever_is_found_has_a_remedy() -> None:
    rules = Path(__file__).parents[2] / "memplan/findings/rules"
    kinds = {
        kind
        for file in rules.glob("*.py")
        for kind in re.findall(r'kind="([a-z]+\.[a-z_]+)"', file.read_text(encoding="utf-8"))
    }
    assert len(kinds) > 25
    assert {kind for kind in kinds if not remedies_of(kind)} <= _FACTS
