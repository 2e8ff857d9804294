"""What HTML reports ask for beyond themselves: nothing; how they look in a browser, where there is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from memplan.findings import diagnose
from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
from memplan.reports.renderers.render_html import render_html
from memplan.simulator import chosen_fault, simulate_job
from memplan.traces import open_profile
from tests.small_plans import layered_plan

_TOOL = Path(__file__).resolve().parents[2] / "tools/report_pictures.py"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    told = importlib.util.spec_from_file_location("report_pictures", _TOOL)
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    simulate_job(layered_plan(10), folder / "job", fault=chosen_fault("slow-rank:strong"), ranks=48, steps=2)
    found = diagnose(open_profile(folder / "job"))
    page = folder / "report.html"
    page.write_text(render_html(diagnosis_report(found, "job")), encoding="utf-8")
    return page


@pytest.mark.parametrize(
    "text",
    ['<img src="http://a/b.png">', "<script src=https://a></script>", "<style>a { background: url(b.png) }</style>",
     "<style>@import 'b.css'</style>", '<a href="file:///etc">x</a>'],
)  # fmt: skip
def test_whatever_loads_something_is_seen(pictures: ModuleType, tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(text, encoding="utf-8")
    assert pictures.outside_references(page)


def test_a_report_of_many_ranks_is_small_and_asks_for_nothing(pictures: ModuleType, page: Path) -> None:
    assert pictures.outside_references(page) == []
    assert page.stat().st_size < 3_000_000
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("<svg") >= 2


def test_a_browser_shows_it(pictures: ModuleType, page: Path, tmp_path: Path) -> None:
    program = pictures.browser()
    if program is None:
        pytest.skip("no Chromium here")
    picture = tmp_path / "page.png"
    pictures.run_browser(program, page, f"--screenshot={picture}", "--window-size=1280,800")
    assert picture.read_bytes().startswith(b"\x89PNG")
