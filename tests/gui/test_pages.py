"""Pages by task: what a document opens on, what leads where, and what each page remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QSettings, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.gui.model.overview.step_bars import step_bars
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import FindingRef, Session
from memplan.gui.views.compare.deviations_view import DeviationsView
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.overview.overview_view import OverviewView
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PLAN, PROFILE
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

_ROOM_PX = 40
"""What taller letters of another language may take from a dock."""


@pytest.fixture(scope="module")
def read() -> Session:
    """The sample, read once; a test that changes it puts it back on its page."""
    return open_session(Request(PLAN, PROFILE))


@pytest.fixture
def opened(qtbot: QtBot, read: Session) -> Iterator[MainWindow]:
    """A window that the sample was opened in."""
    read.page = "overview"
    read.select(None)
    read.viewport.show(*read.viewport.bounds)
    window = MainWindow(read, background=False)
    window.resize(1400, 900)
    window.show()
    qtbot.waitExposed(window)
    settle()
    yield window
    window.close()


def overview(window: MainWindow) -> OverviewView:
    """The page that a document opens on."""
    return window.docks.view(OverviewView)


def click_row(table: Any, row: int) -> None:
    """A click on a row of a table."""
    place = table.table.visualRect(table.sorted.index(row, 0)).center()
    QTest.mouseClick(table.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    settle()


def test_a_document_opens_on_its_overview(opened: MainWindow) -> None:
    view = overview(opened)
    assert view.isVisible()
    assert not opened.timeline.isVisible()
    figures = {str(tile.figure.title): str(tile.figure.value) for tile in view.head.tiles}
    found = opened.session.document.comparison
    assert found is not None
    assert figures["Step time"] == "852.165 µs"
    assert str(view.head.tiles[0].figure.note) == "planned 738.567 µs (+15.4%)"
    assert figures["Idle"] == "11.9%"
    assert figures["Verdict"] == "off the plan"
    assert view.findings.model.rowCount() == len(opened.session.diagnosis.findings)


def test_the_bars_of_steps_add_up_to_the_steps(opened: MainWindow) -> None:
    planned, step = step_bars(opened.session)
    found = opened.session.document.comparison
    assert found is not None
    assert planned.length_ns == found.summary.planned_makespan_ns
    assert step.length_ns == found.summary.measured_makespan_ns
    boxes = overview(opened).bars.boxes(1)
    assert [name for name, _ in boxes] == ["computing", "idle"]
    idle = boxes[1][1].width() / (boxes[0][1].width() + boxes[1][1].width())
    assert idle == pytest.approx(step.parts["idle"] / step.length_ns)


def test_a_finding_is_one_click_from_its_place(opened: MainWindow) -> None:
    click_row(overview(opened).findings, 0)
    session = opened.session
    assert opened.pages.current == "timeline"
    assert session.selected == FindingRef(0)
    start, end = session.finding_spans(FindingRef(0))[0]
    viewport = session.viewport
    assert viewport.start <= start - session.origin_ns < end - session.origin_ns <= viewport.end
    finding = session.finding(FindingRef(0))
    assert finding is not None
    text = opened.docks.view(DetailsView).toPlainText()
    assert str(finding.title) in text
    assert "What to do" in text
    assert finding.remedies[0].knob in text


def test_a_finding_that_is_nowhere_is_told_beside_the_others(opened: MainWindow) -> None:
    """Went wrong: a click on one without a place did nothing that could be seen."""
    session = opened.session
    assert session.diagnosis is not None
    table = overview(opened).findings
    for row in range(table.sorted.rowCount()):
        opened.show_page("overview")
        dict(opened.docks.items())["details"].hide()
        item = table.row_at(table.sorted.index(row, 0)).item
        click_row(table, row)
        finding = session.finding(item)
        assert finding is not None
        details = opened.docks.view(DetailsView)
        assert not details.visibleRegion().isEmpty(), finding.kind
        assert str(finding.title) in details.toPlainText()
        assert (opened.pages.current == "overview") == (not session.finding_spans(item))


def test_the_keyboard_reads_findings_without_leaving_the_page(opened: MainWindow) -> None:
    table = overview(opened).findings.table
    table.setCurrentIndex(overview(opened).findings.sorted.index(0, 0))
    QTest.keyClick(table, Qt.Key.Key_Down)
    assert opened.pages.current == "overview"
    assert opened.session.selected == FindingRef(1)
    QTest.keyClick(table, Qt.Key.Key_Up)
    QTest.keyClick(table, Qt.Key.Key_Return)
    settle()
    assert opened.pages.current == "timeline"


def test_a_bar_leads_to_its_step(opened: MainWindow) -> None:
    bars = overview(opened).bars
    box = bars.boxes(1)[0][1]
    QTest.mouseClick(bars, Qt.MouseButton.LeftButton, pos=box.center().toPoint())
    settle()
    assert opened.pages.current == "timeline"
    step = step_bars(opened.session)[1]
    assert step.span_ns is not None
    selected = opened.session.viewport.selected_range
    assert selected == tuple(float(time - opened.session.origin_ns) for time in step.span_ns)


def test_a_figure_leads_to_what_explains_it(opened: MainWindow) -> None:
    tiles = {str(tile.figure.title): tile for tile in overview(opened).head.tiles}
    QTest.mouseClick(tiles["Memory peak"], Qt.MouseButton.LeftButton)
    assert opened.pages.current == "memory"
    opened.show_page("overview")
    tiles["Verdict"].setFocus()
    QTest.keyClick(tiles["Verdict"], Qt.Key.Key_Return)
    assert opened.pages.current == "plan"


def test_pages_have_the_whole_window_and_keys(opened: MainWindow) -> None:
    for number, name in enumerate(opened.pages.pages, 1):
        if not opened.rail.buttons[name].isVisible():
            continue
        action = opened.commands.actions[f"page-{name}"]
        assert action.shortcut().toString() == f"Ctrl+{number}"
        action.trigger()
        settle()
        assert opened.pages.current == name
        assert opened.rail.buttons[name].isChecked()
        shown = {dock for dock in opened.docks if opened.docks[dock].isVisible()}
        assert shown == set(opened.pages.pages[name].docks)


def test_a_view_that_is_asked_for_comes_with_its_page(opened: MainWindow) -> None:
    opened.docks.bring("map")
    assert opened.pages.current == "memory"
    opened.docks.bring("deviations")
    assert opened.pages.current == "plan"
    opened.commands.run("find")
    assert opened.pages.current == "plan", "the timeline is there too"
    opened.show_page("overview")
    opened.commands.run("find")
    assert opened.pages.current == "timeline"


def test_pages_remember_their_docks(opened: MainWindow) -> None:
    opened.show_page("memory")
    opened.docks["curve"].hide()
    opened.show_page("timeline")
    assert opened.docks["curve"].isVisible(), "another page has docks of its own"
    opened.show_page("memory")
    assert not opened.docks["curve"].isVisible()
    opened.commands.run("reset-layout")
    assert opened.docks["curve"].isVisible()


def test_pages_remember_their_docks_over_a_restart(read: Session, qtbot: QtBot, tmp_path: Path) -> None:
    store = QSettings(str(tmp_path / "kept.ini"), QSettings.Format.IniFormat)
    read.page = "timeline"
    first = MainWindow(read, settings=store, background=False)
    qtbot.addWidget(first)
    first.show()
    first.docks["curve"].hide()
    first.close()
    second = MainWindow(read, settings=store, background=False)
    qtbot.addWidget(second)
    second.show()
    settle()
    assert not second.docks["curve"].isVisible()
    second.show_page("memory")
    assert second.docks["curve"].isVisible()
    second.close()


def test_an_empty_window_offers_what_needs_no_document(qtbot: QtBot) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    settle()
    assert window.welcome.isVisible()
    assert [name for name, button in window.rail.buttons.items() if button.isVisible()] == [
        "overview",
        "planning",
        "kv",
    ]
    QTest.mouseClick(window.rail.buttons["kv"], Qt.MouseButton.LeftButton)
    settle()
    assert window.pages.current == "kv"
    assert not window.welcome.isVisible()
    window.close()


def test_a_plan_alone_opens_on_what_it_predicts(qtbot: QtBot) -> None:
    window = MainWindow(open_session(Request(PLAN)), background=False)
    qtbot.addWidget(window)
    window.show()
    settle()
    view = overview(window)
    assert [str(tile.figure.title) for tile in view.head.tiles] == ["Step time", "Memory peak", "Verdict"]
    assert view.add.isVisible(), "findings need a run: a button adds one"
    assert not view.findings.isVisible()
    window.close()


def test_the_figures_of_a_plan_alone_are_as_high_as_their_text(qtbot: QtBot) -> None:
    """Went wrong once: the tiles took the room of the findings that a plan alone does not have."""
    window = MainWindow(open_session(Request(PLAN)), background=False)
    qtbot.addWidget(window)
    window.resize(1280, 1200)
    window.show()
    settle()
    assert all(tile.height() <= tile.sizeHint().height() + 24 for tile in overview(window).head.tiles)


def test_views_of_memory_share_the_height_of_a_large_window(qtbot: QtBot, read: Session) -> None:
    """Went wrong once: on 3840x2160 two thirds of the page were an empty timeline."""
    read.page = "overview"
    window = MainWindow(read, background=False)
    qtbot.addWidget(window)
    window.resize(3840, 2160)
    window.show()
    window.show_page("memory")
    settle()
    assert window.docks["map"].height() > 0.35 * window.height()
    window.close()


def test_a_view_behind_another_one_comes_to_the_front(opened: MainWindow) -> None:
    """Went wrong once: the command of a view that was behind a tab closed it."""
    opened.show_page("memory")
    settle()
    behind = opened.docks["alive"]
    assert behind.isVisible()
    assert behind.visibleRegion().isEmpty()
    opened.commands.run("dock-alive")
    settle()
    assert not behind.visibleRegion().isEmpty()
    opened.commands.run("dock-alive")
    assert behind.isHidden(), "in front it is closed"


def test_another_language_leaves_every_view_in_its_place(opened: MainWindow) -> None:
    """Went wrong once: docks of the old language took the places that were meant for those of the new one."""
    opened.show_page("memory")
    settle()
    before = {name: opened.docks[name].geometry() for name in ("map", "curve", "details")}
    for code in ("zh", "en", "zh", "en"):
        opened.set_language(code)
        settle()
    for name, geometry in before.items():
        now = opened.docks[name].geometry()
        assert (now.topLeft() - geometry.topLeft()).manhattanLength() <= _ROOM_PX, name
        assert abs(now.height() - geometry.height()) <= _ROOM_PX, name
        assert abs(now.width() - geometry.width()) <= _ROOM_PX, name


def test_the_first_window_fits_the_screen(qtbot: QtBot) -> None:
    """Went wrong once: 1500 x 920 on a screen of 1280 x 720."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    room = window.screen().availableSize()
    assert window.width() <= room.width()
    assert window.height() <= room.height()


def test_leaving_side_by_side_leaves_the_views_in_front_as_they_were(two: MainWindow) -> None:
    """Went wrong once: "Moves" was in front afterwards, whatever had been there."""
    two.show_page("timeline")
    settle()
    two.docks.bring("curve")
    two.commands.run("side-by-side")
    settle()
    two.commands.run("side-by-side")
    settle()
    assert two.docks["curve"].isVisible()
    assert not two.docks["curve"].visibleRegion().isEmpty()


def test_a_click_on_the_rail_turns_the_page(opened: MainWindow) -> None:
    QTest.mouseClick(opened.rail.buttons["memory"], Qt.MouseButton.LeftButton, pos=QPoint(20, 20))
    assert opened.pages.current == "memory"
    assert [name for name, button in opened.rail.buttons.items() if button.isChecked()] == ["memory"]


def test_what_needs_a_plan_is_left_out_without_one(qtbot: QtBot) -> None:
    window = MainWindow(open_session(Request(None, PROFILE)), background=False)
    qtbot.addWidget(window)
    window.resize(1400, 900)
    window.show()
    window.show_page("memory")
    settle()
    assert not window.docks["arcs"].isVisible()
    assert not window.docks["alive"].isVisible()
    assert window.docks["map"].isVisible(), "the blocks of the run"
    assert window.docks["curve"].isVisible()
    window.show_page("kernels")
    settle()
    assert window.docks["kernel"].isVisible()
    assert "roofline" not in window.docks or not window.docks["roofline"].isVisible(), "it draws planned ops"
    window.show_page("plan")
    settle()
    view = window.docks.view(DeviationsView)
    assert view.isVisible()
    assert [name for name, button in view.ways.items() if button.isVisible()] == ["open-file", "plan-model"]
    window.opener.open_request(Request(PLAN, PROFILE))
    settle()
    window.show_page("memory")
    settle()
    assert not window.docks["arcs"].isHidden(), "with a plan it is there"
    window.close()
