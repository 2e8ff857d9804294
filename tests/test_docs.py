"""The pages name files and links that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), *(TOP / "benchmarks").glob("*.md")])
_SOURCES = ("memplan/", "gui/", "traces/", "models/", "tests/", "tools/", "docs/", "benchmarks/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_files_of_the_project_are_where_the_page_says(page: Path) -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|json|md))`", page.read_text(encoding="utf-8"))
    missing = [name for name in named if name.startswith(_SOURCES) and not (TOP / name).exists()]
    assert not missing
