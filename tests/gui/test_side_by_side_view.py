"""Two documents side by side in the window: chosen, aligned, moved by keys and mouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QToolButton
from pytestqt.qtbot import QtBot

from memplan.gui.model.compare.ab_differences import (
    AbGroup,
)
from memplan.gui.model.compare.viewport_link import AlignBy
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.session import SliceRef
from memplan.gui.views.compare.side_by_side_view import CURVE, MAP, NO_MEMORY
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.window.main_window import MainWindow
from memplan.gui.window.side_by_side_controller import TABLE
from tests.gui.conftest import PLAN, slower
from tests.gui.two_documents import (
    answer,
    close_tab,
    is_off,
    press,
    second_view,
    settle,
    shown,
    table,
    wheel,
)

pytestmark = pytest.mark.gui


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


def test_words_of_a_menu_lie_clear_of_its_mark(two: MainWindow) -> None:
    """Went wrong once: the style's mark lay under the last letter."""
    press(two)
    for button in two.side_by_side.bar.findChildren(QToolButton):
        if button.menu() is not None:
            assert button.text().endswith(" ▾")
            assert button.width() >= button.fontMetrics().horizontalAdvance(button.text())


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
    assert any(item.group is AbGroup.PLANNED_TYPE for item in table(window).differences.found)


def test_an_empty_window_has_nothing_to_set_beside(qtbot: QtBot) -> None:
    window = MainWindow(background=False)
    qtbot.addWidget(window)
    window.show()
    press(window)
    window.side_by_side.toggle()
    assert is_off(window)
    assert "Open a document" in window.statusBar().currentMessage()
    window.close()


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
    offset = both.side_by_side.model.link.offset
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
    offset = two.side_by_side.model.link.offset
    two.side_by_side.align(AlignBy.CLOCK)
    assert "not known of both" in two.statusBar().currentMessage()
    assert two.side_by_side.model.link.offset == offset


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
