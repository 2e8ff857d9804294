"""Planning in the window: peak, moves and step time follow what is set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.core.progress import Progress
from memplan.core.units import parse_bytes
from memplan.gui.model.planning.plan_answer import PlanAnswer, hbm_stops, size_words, tried_plan
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.views.planning.hbm_slider import HbmSlider
from memplan.gui.views.planning.planning_view import PlanningView
from memplan.gui.window.main_window import MainWindow
from memplan.requests.plan_request import PlanRequest
from memplan.schema import Tier
from tests.gui.conftest import PROFILE, SAMPLES
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


@pytest.fixture
def planning(qtbot: QtBot) -> Iterator[PlanningView]:
    """The page of a window without a document, on a small graph."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    QTest.mouseClick(window.rail.buttons["planning"], Qt.MouseButton.LeftButton)
    settle()
    view = window.docks.view(PlanningView)
    view.form.show_source(SAMPLES / "cnn.mindir")
    settle()
    yield view
    window.close()


def test_a_graph_is_planned_when_the_page_is_opened(planning: PlanningView) -> None:
    assert planning.found is not None
    assert planning.found.plan.origin.graph
    assert not planning.form.context.isVisible(), "a graph knows its own step"
    told = {str(tile.figure.title): str(tile.figure.value) for tile in planning.head.tiles}
    assert told["Verdict"] == "fits"
    assert told["Moves"] == "none"
    assert planning.map.session is planning.found.session


def test_less_memory_moves_more_and_takes_longer(planning: PlanningView) -> None:
    free = planning.found
    assert free is not None
    planning.hbm.slider.setFocus()
    seen = [free]
    for _ in range(12):
        QTest.keyClick(planning.hbm.slider, Qt.Key.Key_Left)
        settle()
        assert planning.found is not None
        seen.append(planning.found)
    sizes = [planning.found.plan.tier(Tier.HBM) for planning.found in seen[1:]]
    assert all(use is not None and use.capacity is not None for use in sizes)
    capacities = [use.capacity for use in sizes if use is not None and use.capacity is not None]
    assert capacities == sorted(capacities, reverse=True)
    fitting = [(item, size) for item, size in zip(seen[1:], capacities, strict=True) if item.plan.fits]
    assert len(fitting) >= 4
    assert all(item.peak <= size for item, size in fitting)
    assert fitting[-1][0].plan.transfers
    assert (fitting[-1][0].step_ns or 0) > (free.step_ns or 0)
    told = {str(tile.figure.title): tile.figure for tile in planning.head.tiles}
    assert told["Verdict"].warns == (not seen[-1].plan.fits)
    assert planning.tried.rowCount() == len({item.request for item in seen})
    row = planning.tried.visualItemRect(planning.tried.item(0, 0)).center()
    QTest.mouseClick(planning.tried.viewport(), Qt.MouseButton.LeftButton, pos=row)
    assert planning.found is free
    assert planning.hbm.value is None


def test_what_was_planned_is_not_planned_again(planning: PlanningView, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "memplan.gui.views.planning.planning_view.tried_plan",
        lambda request, quick, progress, loops: asked.append(request),
    )
    first = planning.found
    planning.evaluate()
    assert planning.found is first
    assert not asked


def test_the_first_plan_that_fits_is_shown_until_the_best_one_is_found(
    planning: PlanningView, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[bool, str]] = []
    steps: list[int | None] = []

    def noted(request: PlanRequest, quick: bool, progress: Progress, loops: DrawingLoops) -> PlanAnswer:
        said.append((quick, planning.said.text()))
        answer = tried_plan(request, quick, progress, loops=loops)
        steps.append(answer.step_ns)
        return answer

    monkeypatch.setattr("memplan.gui.views.planning.planning_view.tried_plan", noted)
    free = planning.found
    assert free is not None
    planning.hbm.slider.setValue(planning.hbm.slider.maximum() - 5)
    settle()
    assert said == [(True, "planning …"), (False, "The first plan that fits; looking for a faster one …")]
    assert planning.found is not None
    assert planning.found.step_ns == steps[1]
    assert (steps[1] or 0) <= (steps[0] or 0)
    assert planning.said.text() == ""
    assert planning.tried.rowCount() == 2
    said.clear()
    shown = planning.found
    planning.hbm.slider.setValue(planning.hbm.slider.maximum() - 1)  # all that it needs: nothing moves
    settle()
    assert [quick for quick, _ in said] == [True], "the quick answer is the best one where nothing moves"
    assert planning.found is not shown


def test_a_size_is_typed_and_one_that_is_none_is_taken_back(planning: PlanningView) -> None:
    planning.hbm.field.setFocus()
    QTest.keyClicks(planning.hbm.field, "1MiB")
    QTest.keyClick(planning.hbm.field, Qt.Key.Key_Return)
    settle()
    assert planning.found is not None
    assert planning.found.request.hbm == "1MiB"
    assert "--hbm 1MiB" in planning.command_line
    QTest.mouseClick(planning.buttons["copy"], Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == planning.command_line
    planning.hbm.field.selectAll()
    QTest.keyClicks(planning.hbm.field, "lots")
    QTest.keyClick(planning.hbm.field, Qt.Key.Key_Return)
    assert planning.hbm.field.text() == "1.00 MiB"
    assert planning.found.request.hbm == "1MiB"


def test_a_plan_is_opened_as_a_document(planning: PlanningView) -> None:
    window = planning.window()
    assert isinstance(window, MainWindow)
    QTest.mouseClick(planning.buttons["open"], Qt.MouseButton.LeftButton)
    settle()
    assert planning.found is not None
    assert window.session is planning.found.session
    assert window.pages.current == "overview"
    assert window.documents.current.request.step == planning.found.request
    assert not window.problems.errors


def test_a_plan_is_made_like_the_open_run_and_compared_with_it(qtbot: QtBot) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1280, 720)
    window.show()
    window.opener.open_request(Request(None, PROFILE))
    QTest.mouseClick(window.rail.buttons["planning"], Qt.MouseButton.LeftButton)
    settle()
    view = window.docks.view(PlanningView)
    assert view.buttons["compare"].isVisible()
    view.form.show_source(SAMPLES / "llama_train.mindir")
    settle()
    QTest.mouseClick(view.buttons["compare"], Qt.MouseButton.LeftButton)
    settle()
    document = window.session.document
    assert document.comparison is not None
    assert document.comparison.summary.coverage > 0.9
    assert window.pages.current == "plan"
    window.close()


def test_planning_is_cancelled_and_only_the_last_question_is_answered(qtbot: QtBot, tmp_path: Path) -> None:
    window = MainWindow()
    qtbot.addWidget(window)
    window.show()
    window.show_page("planning")
    qtbot.waitUntil(lambda: window.docks.find(PlanningView) is not None)
    view = window.docks.view(PlanningView)
    qtbot.waitUntil(lambda: view._asked is not None, timeout=20_000)
    assert view.buttons["cancel"].isVisible()
    QTest.mouseClick(view.buttons["cancel"], Qt.MouseButton.LeftButton)
    assert view.said.text() == "cancelled"
    shutil.copy(SAMPLES / "cnn.mindir", tmp_path / "other.mindir")
    view.form.show_source(SAMPLES / "cnn.mindir")
    view.form.show_source(tmp_path / "other.mindir")
    qtbot.waitUntil(lambda: view.found is not None, timeout=20_000)
    assert view.found is not None
    assert view.found.request.source == tmp_path / "other.mindir"
    assert [item.request.source.name for item in view._answers.values()] == ["other.mindir"]
    window.close()


def test_what_cannot_be_planned_is_said_in_place(planning: PlanningView, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = planning.found
    planning.form.show_source(tmp_path / "config.json")
    settle()
    assert planning.found is before
    assert planning.said.text()
    assert planning._said[1] == "warning"


@pytest.mark.parametrize("need", [4096, 1_258_496, 7_579_136, 11 << 30, 800 << 30])
def test_stops_are_sizes_that_a_command_line_takes(need: int) -> None:
    *sizes, last = hbm_stops(need)
    assert last is None
    assert sizes == sorted(set(sizes))
    assert all(size is not None and parse_bytes(size_words(size) or "") == size for size in sizes)
    assert need <= (sizes[-1] or 0) < need * 1.001 + 1024


def test_the_slider_rests_until_the_need_is_known(qtbot: QtBot) -> None:
    slider = HbmSlider()
    qtbot.addWidget(slider)
    slider.show()
    for value in (50, 99):
        slider.slider.setValue(value)
        assert slider.value is None
    slider.set_need(8 << 20)
    slider.slider.setValue(0)
    assert (slider.value or 0) < 4 << 20
    slider.set_need(None)
    slider.slider.setValue(9)
    assert slider.value is None
