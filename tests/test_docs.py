"""Files and links that the pages name are there, the site has every page, and the Chinese pages keep up."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from memplan.core.options import options_of
from memplan.requests.plan_request import PlanRequest

TOP = Path(__file__).resolve().parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md"), *(TOP / "benchmarks").glob("*.md")])
FORMULAS = sorted((TOP / "docs" / "formulas").glob("*.rst"))
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


def test_the_navigation_has_every_page_once() -> None:
    groups = json.loads((TOP / "docs" / "navigation.json").read_text(encoding="utf-8"))
    named = ["README", *(name for group in groups for name in group["pages"])]
    shown = {name: [page for kind in ("md", "rst") for page in TOP.glob(f"{name}.{kind}")] for name in named}
    assert not [name for name, pages in shown.items() if not pages]
    assert Counter(page for pages in shown.values() for page in pages) == Counter(
        [*PAGES, *(TOP / "docs").rglob("*.rst")]
    )


@pytest.mark.parametrize("page", FORMULAS, ids=lambda page: page.stem)
def test_pages_of_formulas_are_made_of_modules_that_define_them(page: Path) -> None:
    """Went wrong once: modules became packages, whose pages showed no formula or were of a module that was gone."""
    named = re.findall(r"automodule:: ([\w.]+)", page.read_text(encoding="utf-8"))
    assert named
    for name in named:
        module = importlib.import_module(name)
        assert not hasattr(module, "__path__"), f"{name} is a package: name its modules"


def test_every_field_of_a_public_row_of_serving_is_described() -> None:
    """Went wrong once: what fields mean stood in one paragraph of 4,600 characters, and of eleven nowhere."""
    document = json.loads((TOP / "benchmarks" / "public_serving.json").read_text(encoding="utf-8"))
    assert set(document["fields"]) == {field for row in document["rows"] for field in row}


def test_the_page_of_models_has_every_option_of_a_step() -> None:
    """Went wrong once: a list of options on the page was as old as the day on which it was written."""
    page = (TOP / "docs" / "models.md").read_text(encoding="utf-8")
    said = set(re.findall(r"--[a-z0-9-]+", page))
    flags = (spec.flags[0].partition("/")[0] for _, spec in options_of(PlanRequest) if spec.flags)
    assert not [flag for flag in flags if flag not in said]


TRANSLATIONS = {TOP / "README.zh.md": TOP / "README.md"} | {
    page: TOP / "docs" / page.relative_to(TOP / "docs" / "zh") for page in sorted((TOP / "docs" / "zh").rglob("*.md"))
}


def code(page: Path) -> list[str]:
    return re.findall(r"^```[\w-]*\n.*?^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    """The levels of headings, in order."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+(?= )", prose, re.MULTILINE)


def linked(page: Path) -> set[Path]:
    targets = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
    return {(page.parent / target).resolve() for target in targets}


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: str(page.relative_to(TOP)))
def test_a_translation_has_the_code_the_sections_and_the_links_of_its_original(page: Path) -> None:
    english = TRANSLATIONS[page]
    assert code(page) == code(english)
    assert headings(page) == headings(english)
    chinese = {original: translation for translation, original in TRANSLATIONS.items()}
    wanted = {chinese.get(target, target) for target in linked(english) - {page}}
    assert linked(page) - {english} == wanted, "a link leads to the Chinese page where there is one"


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: str(page.relative_to(TOP)))
def test_both_languages_lead_to_each_other_at_the_top(page: Path) -> None:
    english = TRANSLATIONS[page]
    for here, there in ((page, english), (english, page)):
        top = "\n".join(here.read_text(encoding="utf-8").splitlines()[:4])
        targets = re.findall(r"\]\(([^)\s]+)\)", top)
        assert there in [(here.parent / target).resolve() for target in targets]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    words = ["--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", "docs", ".", str(tmp_path)]
    run = subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=TOP, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "memplan.plan" in (tmp_path / "docs" / "api.html").read_text(encoding="utf-8")
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["']((?:https?:)?//[^"']+)""", text)
        assert not loaded, f"{page.name} loads {loaded}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8"))
