"""Documents that come and go while two stand side by side, and the work of it on threads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QInputDialog
from pytestqt.qtbot import QtBot

from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.slices.slice_text import selected_line
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE
from tests.gui.conftest import PLAN, PROFILE, slower
from tests.gui.two_documents import (
    answer,
    choose_tab,
    click_row,
    close_tab,
    is_off,
    press,
    second_view,
    settle,
    shown,
    table,
)

pytestmark = pytest.mark.gui


def test_turning_to_b_ends_it(both: MainWindow) -> None:
    second, bounds = second_view(both).session, open_session(both.documents.opened[0].request).viewport.bounds
    choose_tab(both, 0)
    assert is_off(both)
    assert both.tabs.currentIndex() == 0
    assert both.tabs.tabText(0) == "slower"
    assert both.session is second
    assert second.viewport.bounds == bounds  # the link let go of it


def test_a_third_document_takes_the_place_of_a(both: MainWindow) -> None:
    second = second_view(both).session
    both.opener.open_request(Request(PLAN), new_tab=True)
    settle()
    assert both.side_by_side.model is not None
    assert both.side_by_side.model.first is both.session
    assert both.side_by_side.model.second is second
    assert both.side_by_side.strip.name.whole == PLAN.name
    assert "opened as one document" in table(both).headline.text()
    choose_tab(both, 1)
    assert both.side_by_side.model.first is both.documents.opened[1].session
    assert table(both).sorted.rowCount() > 1


def test_closing_b_ends_it(both: MainWindow) -> None:
    close_tab(both, 0)
    assert is_off(both)
    assert len(both.documents.opened) == 1


def test_closing_a_leaves_b_alone(both: MainWindow) -> None:
    second = second_view(both).session
    close_tab(both, 1)
    assert is_off(both)
    assert both.session is second
    close_tab(both, 0)
    assert both.session.document.empty
    assert not both.commands.actions["side-by-side"].isEnabled()


def test_the_cross_ends_it(both: MainWindow) -> None:
    QTest.mouseClick(both.side_by_side.bar.close_button, Qt.MouseButton.LeftButton)
    settle()
    assert is_off(both)
    assert len(both.documents.opened) == 2


def test_more_is_opened_into_a_while_b_stays(qtbot: QtBot, two: MainWindow) -> None:
    two.documents.select(0)
    press(two)  # A is a profile without its plan
    before = two.session
    two.opener.open([PLAN])
    settle()
    assert two.session is not before
    assert two.session.document.comparison is not None
    assert two.side_by_side.model is not None
    assert two.side_by_side.model.first is two.session


def test_themes_languages_and_layouts_keep_it(both: MainWindow) -> None:
    second = second_view(both).session
    dark = both.side_by_side.page.grab().toImage()
    press(both, "theme-dark")
    assert second_view(both).timeline.colours.theme == "dark"
    assert both.side_by_side.page.grab().toImage() != dark
    both.side_by_side.bar.link.click()
    both.commands.run("language-zh")
    settle()
    assert both.docks[TABLE].windowTitle() == "A 与 B 的差异"
    assert both.side_by_side.bar.link.text() == "同步移动"
    assert not both.side_by_side.bar.link.isChecked()
    assert second_view(both).session is second
    assert second_view(both).timeline.isVisible()
    assert table(both).sorted.rowCount() > 1
    both.commands.run("language-en")
    both.commands.run("theme-light")
    both.commands.run("reset-layout")
    settle()
    assert second_view(both).timeline.isVisible()
    press(both)
    assert is_off(both)


def test_one_run_opened_twice_differs_in_nothing(qtbot: QtBot, two: MainWindow) -> None:
    two.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    two.documents.close(0)
    press(two)
    assert two.side_by_side.model is not None
    assert two.side_by_side.model.link.offset == 0.0
    view = table(two)
    assert view.sorted.rowCount() == 0
    assert "differ in nothing" in view.headline.text()
    view.changed_only.click()
    click_row(view, 0)


def test_one_session_beside_itself(two: MainWindow) -> None:
    two.documents.show(Request(), two.session, new_tab=True)
    two.documents.close(0)
    press(two)
    two.session.viewport.zoom(0.1, 1_000.0)
    assert shown(second_view(two).session) == shown(two.session)
    QTest.mouseClick(two.side_by_side.bar.link, Qt.MouseButton.LeftButton)
    settle()
    press(two)
    assert is_off(two)


@pytest.fixture
def busy(qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """A window that works on other threads, with two documents."""
    window = MainWindow(open_session(Request(None, slower(tmp_path))))
    qtbot.addWidget(window)
    window.resize(1500, 920)
    window.show()
    window.documents.show(Request(), open_session(Request(PLAN, PROFILE)), new_tab=True)
    yield window
    window.close()


def wait(qtbot: QtBot, holds: Callable[[], bool]) -> None:
    qtbot.waitUntil(holds, timeout=10_000)


def test_rows_and_differences_of_b_are_read_by_workers(qtbot: QtBot, busy: MainWindow) -> None:
    press(busy)
    view = second_view(busy)
    wait(
        qtbot,
        lambda: all(view.session.tracks.loaded(p.track) for p, _ in view.timeline.visible() if p.track is not None),
    )
    wait(qtbot, lambda: table(busy).sorted.rowCount() > 1)
    click_row(table(busy), 0)
    wait(qtbot, lambda: selected_line(view.session) != "" and selected_line(busy.session) != "")
    assert busy.session.viewport.start + busy.side_by_side.model.link.offset == view.session.viewport.start


def test_ending_it_while_workers_are_at_it(qtbot: QtBot, busy: MainWindow) -> None:
    for _ in range(3):
        press(busy)
        press(busy)
    assert is_off(busy)
    press(busy)
    busy.documents.select(0)
    assert is_off(busy)
    wait(qtbot, lambda: not busy.jobs.running)
    settle()
    assert is_off(busy)
    assert busy.problems.errors == []


def test_the_last_row_clicked_wins(qtbot: QtBot, busy: MainWindow) -> None:
    press(busy)
    wait(qtbot, lambda: table(busy).sorted.rowCount() > 3 and busy.side_by_side.model is not None)
    view = table(busy)
    wanted = view.difference_at(view.sorted.index(3, 0))
    for row in range(4):
        view.jump(view.sorted.index(row, 0))
    wait(qtbot, lambda: not busy.jobs.running)
    settle()
    assert str(selected_line(busy.session)).startswith(wanted.name.rsplit("/", 1)[-1])


def test_a_second_that_can_not_be_read_is_a_line(
    qtbot: QtBot, busy: MainWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy.documents.close(0)
    answer(monkeypatch, "plan or graph")
    broken = tmp_path / "broken.plan.json"
    broken.write_text('{"format": "memplan-plan", ', encoding="utf-8")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(broken), ""))
    press(busy)
    wait(qtbot, lambda: bool(busy.problems.errors))
    assert is_off(busy)
    assert len(busy.documents.opened) == 1


def test_a_profile_deleted_while_it_is_compared(qtbot: QtBot, busy: MainWindow, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "slower")
    press(busy)
    wait(qtbot, lambda: not busy.jobs.running)
    settle()
    assert table(busy).headline.text() != "Comparing A and B …"


def test_the_next_start_shows_the_stretch_each_document_had(qtbot: QtBot, tmp_path: Path) -> None:
    store = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    window = MainWindow(settings=store, background=False)
    qtbot.addWidget(window)
    window.show()
    window.opener.open_request(Request(None, slower(tmp_path)))
    window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    press(window)
    window.side_by_side.model.link.align(0.0, 50_000.0)
    window.session.viewport.show_all()
    window.close()
    for item, kept in zip(window.documents.opened, window.settings.open_at_start, strict=True):
        low, high = item.session.viewport.bounds
        assert kept[1] is not None
        assert low <= kept[1][0] < kept[1][1] <= high
    assert QKeySequence("Ctrl+B") == window.commands.actions["side-by-side"].shortcut()


def test_two_ranks_of_one_run(qtbot: QtBot, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    window.opener.open_request(Request(None, shared_data / "profiles" / "alexnet-ddp-2rank" / "text" / "level2", 0))
    given: list[list[str]] = []

    def reply(*arguments: Any, **_: Any) -> tuple[str, bool]:
        given.append(list(arguments[3]))
        return arguments[3][0], True

    monkeypatch.setattr(QInputDialog, "getItem", reply)
    press(window)
    assert given[0][0] == "Open another rank …"
    assert given[1] == ["1"]
    assert second_view(window).strip.name.whole == "level2 · rank 1"
    assert window.side_by_side.strip.name.whole == "level2 · rank 0"
    first, second = window.session, second_view(window).session
    assert window.side_by_side.model.link.offset == first.origin_ns - second.origin_ns
    view = table(window)
    for row in range(0, view.sorted.rowCount(), 25):
        click_row(view, row)
    window.close()
