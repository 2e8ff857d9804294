"""Two documents side by side in the window, driven by keys and mouse."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, QSettings, Qt
from PySide6.QtGui import QKeySequence, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QInputDialog, QWidget

from memplan.gui.model.compare.ab_choice import (
    MOST_OF_EACH,
    MOST_OF_ONE,
    READING_ORDER,
    AbChoice,
    ab_total,
    groups_of,
    listed,
)
from memplan.gui.model.compare.ab_differences import (
    AB_SHEET_HEADER,
    AbAmount,
    AbDifferences,
    AbGroup,
    AbLedger,
    AmountUnit,
    compared,
)
from memplan.gui.model.compare.viewport_link import AlignBy
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, SliceRef
from memplan.gui.model.slices.slice_text import selected_line
from memplan.gui.views.canvas import GUTTER_PX
from memplan.gui.views.compare.ab_differences_view import AbDifferencesView
from memplan.gui.views.compare.side_by_side_view import CURVE, MAP, NO_MEMORY, SideBySideView
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE, VIEW
from tests.gui.conftest import PLAN, PROFILE, slower

pytestmark = pytest.mark.gui


def settle() -> None:
    """Let the window lay itself out and paint."""
    for _ in range(4):
        QApplication.processEvents()


def press(window: MainWindow, name: str = "side-by-side") -> None:
    """Do a command by its key; offscreen, where the window isn't active, by its action."""
    window.commands.refresh()
    action = window.commands.actions[name]
    count: list[int] = []
    connection = action.triggered.connect(lambda *_: count.append(1))
    QTest.keySequence(window, action.shortcut())
    if not count:
        action.trigger()
    action.triggered.disconnect(connection)
    settle()


def wheel(view: QWidget, steps: int, at: QPoint, modifiers: Qt.KeyboardModifier) -> None:
    """Turn the wheel over `view`."""
    event = QWheelEvent(
        QPointF(at),
        QPointF(view.mapToGlobal(at)),
        QPoint(),
        QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(view, event)


def shown(session: Session) -> tuple[float, float]:
    return session.viewport.start, session.viewport.end


def second_view(window: MainWindow) -> SideBySideView:
    view = window.side_by_side.view
    assert view is not None
    return view


def table(window: MainWindow) -> AbDifferencesView:
    view = window.side_by_side.table
    assert view is not None
    return view


def is_off(window: MainWindow) -> bool:
    """Whether nothing of a side by side is left."""
    side_by_side = window.side_by_side
    return (
        not side_by_side.on
        and (side_by_side.view, side_by_side.table, side_by_side.model) == (None, None, None)
        and not {VIEW, TABLE} & {*window.docks.views, *window.docks}
        and not window.commands.actions["side-by-side"].isChecked()
        and side_by_side.bar.isHidden()
        and side_by_side.split.count() == 1
    )


def close_tab(window: MainWindow, index: int) -> None:
    window.tabs.tabCloseRequested.emit(index)
    settle()


def choose_tab(window: MainWindow, index: int) -> None:
    QTest.mouseClick(window.tabs, Qt.MouseButton.LeftButton, pos=window.tabs.tabRect(index).center())
    settle()


@pytest.fixture
def two(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    """The slower run as tab 0, and the sample as tab 1, which is shown."""
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.resize(1500, 920)
    window.show()
    window.opener.open_request(Request(None, slower(tmp_path)))
    window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    settle()
    yield window
    window.close()


@pytest.fixture
def both(two: MainWindow) -> MainWindow:
    """The sample as A, the slower run as B."""
    press(two)
    return two


# -- beginning and moving ----------------------------------------------------------------------------------------


def test_the_other_document_stands_at_the_right_of_the_shown_one(both: MainWindow) -> None:
    view = second_view(both)
    assert view.session is both.documents.opened[0].session
    assert both.timeline.session is both.documents.opened[1].session
    left, right = both.timeline.mapToGlobal(QPoint(0, 0)), view.timeline.mapToGlobal(QPoint(0, 0))
    assert right.x() >= left.x() + both.timeline.width()
    assert right.y() == left.y()  # the rulers are level
    assert abs(view.timeline.width() - both.timeline.width()) <= 2
    assert both.side_by_side.strip.name.whole == "llama_train.plan.json + llama_train_profile"
    assert view.strip.name.whole == "slower"
    assert [both.tabs.tabText(index)[:4] for index in range(2)] == ["B · ", "A · "]
    assert both.docks[TABLE].isVisible()
    assert both.commands.actions["side-by-side"].isChecked()
    press(both)
    assert is_off(both)
    assert both.timeline.isVisible()
    assert both.tabs.tabText(0) == "slower"


def test_either_timeline_leads(both: MainWindow) -> None:
    first, second = both.session, second_view(both).session
    offset = both.side_by_side.model.link.offset  # type: ignore[union-attr]
    control = Qt.KeyboardModifier.ControlModifier
    wheel(both.timeline, 5, QPoint(GUTTER_PX + 100, 80), control)
    assert first.viewport.span < first.viewport.bounds[1] / 2
    assert shown(second) == pytest.approx([time + offset for time in shown(first)])
    before = shown(first)
    wheel(second_view(both).timeline, 3, QPoint(GUTTER_PX + 30, 80), control)
    assert shown(first) != before
    assert shown(first) == pytest.approx([time - offset for time in shown(second)])
    second_view(both).timeline.setFocus()
    QTest.keyClick(second_view(both).timeline, Qt.Key.Key_D)
    QTest.mouseMove(both.timeline, QPoint(GUTTER_PX + 60, 90))
    assert shown(first) == pytest.approx([time - offset for time in shown(second)])


def test_unlinked_each_moves_for_itself_and_linked_again_they_go_on_from_there(both: MainWindow) -> None:
    first, second = both.session, second_view(both).session
    link = both.side_by_side.bar.link
    assert link.isChecked()
    first.viewport.show(100_000.0, 200_000.0)
    QTest.mouseClick(link, Qt.MouseButton.LeftButton)
    assert not link.isChecked()
    assert "itself" in both.side_by_side.bar.offset.whole
    before = shown(second)
    first.viewport.show(300_000.0, 400_000.0)
    assert shown(second) == before
    QTest.mouseClick(link, Qt.MouseButton.LeftButton)
    assert link.isChecked()
    assert shown(second) == pytest.approx(before)  # what stood side by side stays so
    first.viewport.pan(1_000.0)
    assert shown(second) == pytest.approx([time + 1_000.0 for time in before])
    assert "−" in both.side_by_side.bar.offset.whole


def test_the_alignment_is_chosen_from_a_menu(both: MainWindow) -> None:
    bar, model = both.side_by_side.bar, both.side_by_side.model
    assert model is not None
    bar.align_menu.aboutToShow.emit()
    assert not bar.alignments[AlignBy.SELECTED].isEnabled()
    assert bar.alignments[AlignBy.CLOCK].isEnabled()  # both ran at the same time
    track = next(track for track in model.first.tracks.all if track.kind == "stream")
    for session, index in ((model.first, 3), (model.second, 9)):
        session.tracks.load(session.tracks.track(track.key))
        session.select(SliceRef(track.key, index))
    bar.align_menu.aboutToShow.emit()
    bar.alignments[AlignBy.SELECTED].trigger()
    one, other = model.first.selected_span(), model.second.selected_span()
    assert one is not None
    assert other is not None
    assert model.link.offset == other[0] - one[0]
    bar.alignments[AlignBy.BEGINNINGS].trigger()
    assert model.link.offset == 0.0
    assert bar.offset.whole == "time in B = time in A"
    model.link.on = False
    bar.alignments[AlignBy.STEPS].trigger()
    assert model.link.on
    assert bar.link.isChecked()


def test_an_alignment_that_is_not_to_be_had_is_said(two: MainWindow) -> None:
    two.opener.open_request(Request(PLAN), new_tab=True)
    two.documents.close(0)
    press(two)
    offset = two.side_by_side.model.link.offset  # type: ignore[union-attr]
    two.side_by_side.align(AlignBy.CLOCK)
    assert "not known of both" in two.statusBar().currentMessage()
    assert two.side_by_side.model.link.offset == offset  # type: ignore[union-attr]


def test_one_below_the_other_a_moment_is_in_one_column(both: MainWindow) -> None:
    QTest.mouseClick(both.side_by_side.bar.stack, Qt.MouseButton.LeftButton)
    settle()
    upper, lower = both.timeline, second_view(both).timeline
    assert upper.width() == lower.width()
    assert lower.mapToGlobal(QPoint(0, 0)).y() >= upper.mapToGlobal(QPoint(0, 0)).y() + upper.height()
    assert lower.mapToGlobal(QPoint(0, 0)).x() == upper.mapToGlobal(QPoint(0, 0)).x()
    press(both)
    press(both)
    assert both.side_by_side.split.orientation() is Qt.Orientation.Vertical  # as it was left


def test_the_memory_of_b_is_shown_under_its_timeline(both: MainWindow) -> None:
    view, bar = second_view(both), both.side_by_side.bar
    for what in (CURVE, MAP, CURVE, NO_MEMORY):
        bar.memories[what].trigger()
        settle()
        assert view.shown == what
        assert bar.memories[what].isChecked()
        assert view.split.count() == (1 if what == NO_MEMORY else 2)
        if view.memory is not None:
            assert view.memory.session is view.session
            assert view.memory.isVisible()


def test_a_key_acts_on_the_track_under_the_mouse(both: MainWindow) -> None:
    timeline = second_view(both).timeline
    placed, top = next((placed, top) for placed, top in timeline.visible() if placed.track is not None)
    QTest.mouseMove(both.timeline, QPoint(5, 5))
    QTest.mouseMove(timeline, QPoint(40, timeline.ruler_px + top + 6))
    settle()
    press(both, "pin-track")
    assert placed.track is not None
    assert timeline.session.tracks.pinned == [placed.track.key]
    assert both.session.tracks.pinned == []


# -- the table ---------------------------------------------------------------------------------------------------


def click_row(view: AbDifferencesView, row: int) -> None:
    index = view.sorted.index(row, 1)
    view.table.scrollTo(index)
    QTest.mouseClick(view.table.viewport(), Qt.MouseButton.LeftButton, pos=view.table.visualRect(index).center())
    settle()


def test_a_click_on_a_difference_shows_it_in_both(both: MainWindow) -> None:
    view = table(both)
    rows = [view.difference_at(view.sorted.index(row, 0)) for row in range(view.sorted.rowCount())]
    assert rows[0].group is AbGroup.TYPE
    assert rows[0].name == "MatMul"
    kernel = next(number for number, item in enumerate(rows) if item.group is AbGroup.KERNEL)
    both.session.tracks.fold_all(True)
    click_row(view, kernel)
    name = rows[kernel].name.rsplit("/", 1)[-1]
    for timeline in (both.timeline, second_view(both).timeline):
        selected = timeline.session.selected
        assert isinstance(selected, SliceRef)
        assert selected_line(timeline.session).startswith(name)
        assert selected.track in {placed.track.key for placed, _ in timeline.visible() if placed.track is not None}
        start, end = timeline.session.selected_span() or (0.0, 0.0)
        assert timeline.session.viewport.start < start < end < timeline.session.viewport.end
    assert second_view(both).strip.selected.whole.startswith(name)
    assert both.side_by_side.strip.selected.whole.startswith(name)
    press(both, "back")
    assert shown(second_view(both).session) == pytest.approx(shown(both.session))


def test_the_largest_difference_of_each_group_comes_first(both: MainWindow) -> None:
    view = table(both)
    for column in range(8):
        for click in (1, 2):
            header = view.table.horizontalHeader()
            at = QPoint(header.sectionViewportPosition(column) + 8, header.height() // 2)
            QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=at)
            found = [view.row_at(view.sorted.index(row, 0)) for row in range(view.sorted.rowCount())]
            groups = [str(row.cells[0]) for row in found]
            order = [group.value for group in READING_ORDER if group.value in groups]
            if view.sorted.sortOrder() is Qt.SortOrder.AscendingOrder:
                assert list(dict.fromkeys(groups)) == order, (column, click)
            for group in order:
                keys = [row.sort_keys[column] for row in found if str(row.cells[0]) == group]
                falls = view.sorted.sortOrder() is Qt.SortOrder.DescendingOrder
                assert keys == sorted(keys, reverse=falls), (column, click)  # type: ignore[type-var]


def test_the_list_is_cut_down_by_group_measure_and_name(both: MainWindow, tmp_path: Path) -> None:
    view = table(both)
    whole = view.sorted.rowCount()
    at = view.group.findData(AbGroup.TYPE)
    QTest.keyClick(view.group, Qt.Key.Key_Down)  # as a user does, with a real key
    assert view.choice.group is groups_of(view.differences)[0]  # type: ignore[arg-type]
    view.choose_group(AbGroup.TYPE)
    assert view.group.currentIndex() == at
    assert view.sorted.rowCount() == 1
    assert "Op type: A 750.494 µs, B 809.100 µs (+7.8%)" in view.headline.text()
    QTest.mouseClick(view.changed_only, Qt.MouseButton.LeftButton, pos=QPoint(8, view.changed_only.height() // 2))
    assert view.sorted.rowCount() > 5
    QTest.keyClicks(view.name, "matm")
    assert [view.difference_at(view.sorted.index(0, 0)).name] == ["MatMul"]
    sheet = view.sheet()
    assert sheet.header == AB_SHEET_HEADER
    assert [row[:3] for row in sheet.rows if row[1] == "MatMul"] == [("Op type", "MatMul", "ns")]
    view.name.clear()
    view.choose_group(None)
    view.measure.setCurrentIndex(view.measure.findData(AmountUnit.BYTES))
    view.measure.activated.emit(view.measure.currentIndex())
    assert {item.measure for item in view.listed.found} == {AmountUnit.BYTES}
    view.name.setText("no such thing")
    assert view.sorted.rowCount() == 0
    assert "nothing" in view.headline.text()
    assert whole > 1


def test_the_table_is_saved_as_it_is_chosen(both: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "differences.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), ""))
    both.exports.save_view(TABLE)
    lines = list(csv.reader(target.read_text(encoding="utf-8").splitlines()))
    assert tuple(lines[0]) == AB_SHEET_HEADER
    assert len(lines) - 1 == len(table(both).listed.found)
    target = tmp_path / "b.csv"
    both.exports.save_view(VIEW)
    assert target.read_text(encoding="utf-8").startswith("group,track")


def many(count: int) -> AbDifferences:
    """`count` kernels that differ, one that doesn't, and a peak that one document doesn't tell of."""
    first = {f"k{index}": AbAmount(1, 10) for index in range(count + 1)}
    second = {f"k{index}": AbAmount(1, 10 + index) for index in range(count + 1)}
    return compared(
        [
            AbLedger(AbGroup.KERNEL, AmountUnit.TIME, first, second),
            AbLedger(AbGroup.MEMORY, AmountUnit.BYTES, {"HBM": AbAmount(None, 7)}, None, adds_up=False),
        ]
    )


def test_the_largest_are_listed_and_the_rest_is_counted() -> None:
    found = many(5_000)
    chosen = listed(found, AbChoice())
    kernels = [item for item in chosen.found if item.group is AbGroup.KERNEL]
    assert [item.name for item in kernels] == [f"k{index}" for index in range(5_000, 5_000 - MOST_OF_EACH, -1)]
    assert chosen.found[-1].name == "HBM"  # what can't be compared isn't hidden
    assert chosen.left_out == 5_000 - MOST_OF_EACH
    assert len(listed(found, AbChoice(AbGroup.KERNEL)).found) == MOST_OF_ONE
    assert len(listed(found, AbChoice(AbGroup.KERNEL, changed=False), all_of_them=True).found) == 5_001
    assert [item.name for item in listed(found, AbChoice(name=" K4999 ")).found] == ["k4999"]
    assert groups_of(found) == (AbGroup.KERNEL, AbGroup.MEMORY)
    assert set(READING_ORDER) == set(AbGroup)


def test_a_sum_is_given_where_there_is_one() -> None:
    found = many(3)
    assert ab_total(found, AbChoice(AbGroup.KERNEL)) == (AbGroup.KERNEL, 40, 46)
    assert ab_total(found, AbChoice(AbGroup.MEMORY)) is None
    assert ab_total(found, AbChoice()) is None


def test_what_is_selected_is_named_in_a_line(session: Session) -> None:
    assert selected_line(session) == ""
    session.select(OpRef(0))
    plan = session.document.plan
    assert plan is not None
    assert selected_line(session).startswith(plan.ops[0].name.rsplit("/", 1)[-1])
    track = next(track for track in session.tracks.all if track.kind == "stream")
    session.select(SliceRef(track.key, 0))
    assert selected_line(session) == ""  # its track isn't read yet


# -- documents that come and go ----------------------------------------------------------------------------------


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


def test_more_is_opened_into_a_while_b_stays(qtbot: Any, two: MainWindow) -> None:
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


def test_one_run_opened_twice_differs_in_nothing(qtbot: Any, two: MainWindow) -> None:
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


# -- choosing the second -----------------------------------------------------------------------------------------


def answer(monkeypatch: pytest.MonkeyPatch, text: str, sure: bool = True) -> list[list[str]]:
    """Answer the question which document it is to be; returns what was offered."""
    offered: list[list[str]] = []

    def reply(*arguments: Any, **_: Any) -> tuple[str, bool]:
        offered.append(list(arguments[3]))
        return next((name for name in arguments[3] if text in name), ""), sure

    monkeypatch.setattr(QInputDialog, "getItem", reply)
    return offered


def test_one_of_several_is_chosen(two: MainWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    two.opener.open_request(Request(PLAN), new_tab=True)
    offered = answer(monkeypatch, "slower")
    press(two)
    assert offered[0][:2] == ["1: slower", "2: llama_train.plan.json + llama_train_profile"]
    assert second_view(two).session is two.documents.opened[0].session
    press(two)
    answer(monkeypatch, "slower", sure=False)
    press(two)
    assert is_off(two)


def test_a_single_document_gets_company(window: MainWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = window.session
    answer(monkeypatch, "profile directory")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: "")
    press(window)
    assert is_off(window)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_, **__: str(slower(tmp_path)))
    press(window)
    assert window.session is first
    assert second_view(window).session is window.documents.opened[1].session
    assert window.tabs.count() == 2
    close_tab(window, 1)
    assert is_off(window)
    answer(monkeypatch, "plan or graph")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(PLAN), ""))
    press(window)
    assert second_view(window).session.document.plan is not None
    assert any(item.group is AbGroup.PLANNED_TYPE for item in table(window).differences.found)  # type: ignore[union-attr]


def test_an_empty_window_has_nothing_to_set_beside(qtbot: Any) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    press(window)
    window.side_by_side.toggle()
    assert is_off(window)
    assert "Open a document" in window.statusBar().currentMessage()
    window.close()


# -- work in the background --------------------------------------------------------------------------------------


@pytest.fixture
def busy(qtbot: Any, tmp_path: Path) -> Iterator[MainWindow]:
    """A window that works on other threads, with two documents."""
    window = MainWindow(open_session(Request(None, slower(tmp_path))))
    qtbot.addWidget(window)
    window.resize(1500, 920)
    window.show()
    window.documents.show(Request(), open_session(Request(PLAN, PROFILE)), new_tab=True)
    yield window
    window.close()


def wait(qtbot: Any, holds: Callable[[], bool]) -> None:
    qtbot.waitUntil(holds, timeout=10_000)


def test_rows_and_differences_of_b_are_read_by_workers(qtbot: Any, busy: MainWindow) -> None:
    press(busy)
    view = second_view(busy)
    wait(
        qtbot,
        lambda: all(view.session.tracks.loaded(p.track) for p, _ in view.timeline.visible() if p.track is not None),
    )
    wait(qtbot, lambda: table(busy).sorted.rowCount() > 1)
    click_row(table(busy), 0)
    wait(qtbot, lambda: selected_line(view.session) != "" and selected_line(busy.session) != "")
    assert busy.session.viewport.start + busy.side_by_side.model.link.offset == view.session.viewport.start  # type: ignore[union-attr]


def test_ending_it_while_workers_are_at_it(qtbot: Any, busy: MainWindow) -> None:
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


def test_the_last_row_clicked_wins(qtbot: Any, busy: MainWindow) -> None:
    press(busy)
    wait(qtbot, lambda: table(busy).sorted.rowCount() > 3 and busy.side_by_side.model is not None)
    view = table(busy)
    wanted = view.difference_at(view.sorted.index(3, 0))
    for row in range(4):
        view.jump(view.sorted.index(row, 0))
    wait(qtbot, lambda: not busy.jobs.running)
    settle()
    assert selected_line(busy.session).startswith(wanted.name.rsplit("/", 1)[-1])


def test_a_second_that_can_not_be_read_is_a_line(
    qtbot: Any, busy: MainWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


def test_a_profile_deleted_while_it_is_compared(qtbot: Any, busy: MainWindow, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "slower")
    press(busy)
    wait(qtbot, lambda: not busy.jobs.running)
    settle()
    assert table(busy).headline.text() != "Comparing A and B …"


def test_the_next_start_shows_the_stretch_each_document_had(qtbot: Any, tmp_path: Path) -> None:
    store = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    window = MainWindow(settings=store, background=False)
    qtbot.addWidget(window)
    window.show()
    window.opener.open_request(Request(None, slower(tmp_path)))
    window.opener.open_request(Request(PLAN, PROFILE), new_tab=True)
    press(window)
    window.side_by_side.model.link.align(0.0, 50_000.0)  # type: ignore[union-attr]
    window.session.viewport.show_all()
    window.close()
    for item, kept in zip(window.documents.opened, window.settings.open_at_start, strict=True):
        low, high = item.session.viewport.bounds
        assert kept[1] is not None
        assert low <= kept[1][0] < kept[1][1] <= high
    assert QKeySequence("Ctrl+B") == window.commands.actions["side-by-side"].shortcut()


def test_two_ranks_of_one_run(qtbot: Any, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert window.side_by_side.model.link.offset == first.origin_ns - second.origin_ns  # type: ignore[union-attr]
    view = table(window)
    for row in range(0, view.sorted.rowCount(), 25):
        click_row(view, row)
    window.close()
