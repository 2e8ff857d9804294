"""Rows of the timeline and ticks of an axis: none is cut, and there are enough to read a distance from."""

from __future__ import annotations

from itertools import pairwise

import pytest
from PySide6.QtGui import QFont, QFontMetricsF
from pytestqt.qtbot import QtBot

from memplan.gui.model.ruler import event_ticks, time_ticks
from memplan.gui.model.session.session import Session
from memplan.gui.views.kernel.kernel_view import KernelView
from memplan.gui.window.main_window import MainWindow
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui

TALL_PX = 60


def on_the_timeline(qtbot: QtBot, session: Session, height: int) -> MainWindow:
    """A window of so many pixels' height that shows the timeline."""
    window = MainWindow(session, background=False)
    qtbot.addWidget(window)
    window.resize(1280, height)
    window.show()
    window.show_page("timeline")
    settle()
    return window


@pytest.mark.parametrize("height", range(300, 1000, 83))
def test_the_foot_of_the_timeline_cuts_no_row(qtbot: QtBot, session: Session, height: int) -> None:
    """Went wrong once: half a name and half a bar of the last track."""
    window = on_the_timeline(qtbot, session, height)
    timeline = window.timeline
    foot = timeline.plot.height() - timeline.foot_px
    for scrolled in (0, timeline.bar.maximum() // 3, timeline.bar.maximum()):
        timeline.bar.setValue(scrolled)
        settle()
        shown = timeline.visible()
        assert shown
        assert all(top + placed.height <= foot or foot - top >= TALL_PX for placed, top in shown[1:])
    placed, top = shown[-1]
    assert placed is timeline.placed[-1]  # scrolled to the end, the last one is there
    assert top + placed.height <= foot or len(shown) == 1


@pytest.mark.parametrize("height", [430, 560, 720])
def test_a_track_that_is_looked_for_comes_with_whole_rows_above_it(qtbot: QtBot, session: Session, height: int) -> None:
    """Went wrong once: the first row below the ruler showed the lower half of its name."""
    window = on_the_timeline(qtbot, session, height)
    timeline = window.timeline
    for track in session.tracks.all:
        timeline.show_track(track.key)
        settle()
        shown = {placed.track.key: (placed, top) for placed, top in timeline.visible() if placed.track is not None}
        assert track.key in shown
        first, top = timeline.visible()[0]
        assert top >= 0 or first.height + top >= TALL_PX


def test_an_axis_has_two_ticks_with_room_for_their_text() -> None:
    for begin in (0.0, 515_000.0, 1_234_567.0, 9.9e9):
        for span in (7.0, 3_248.0, 87_082.0, 870_815.0, 3.3e9):
            for count in range(1, 9):
                ticks = time_ticks(begin, begin + span, count)
                assert sum(begin <= tick.value <= begin + 0.85 * span for tick in ticks) >= 2, (begin, span, count)
                assert len({later.value - tick.value for tick, later in pairwise(ticks)}) == 1 or span > 1e9
                assert len(ticks) <= max(count + 1, 6)


def test_events_are_whole_however_few_they_are() -> None:
    for begin, end in ((0, 1), (3, 5), (17, 18), (0, 1_600_000)):
        ticks = event_ticks(begin, end, 2)
        assert all(tick.value == int(tick.value) for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks) >= 2


def test_a_note_above_the_maps_of_buffers_keeps_clear_of_their_titles(qtbot: QtBot, session: Session) -> None:
    """Went wrong once: the second line of how to read them touched the name of the first memory."""
    window = MainWindow(session, background=False)
    qtbot.addWidget(window)
    window.resize(1600, 1000)
    window.show()
    window.show_page("kernels")
    settle()
    maps = window.docks.view(KernelView).maps
    bold = QFont(maps.font())
    bold.setBold(True)
    metrics = QFontMetricsF(bold)
    for width in (320, 420, 560, 900):
        maps.resize(width, maps.height())
        assert maps.frame(0).top() - metrics.descent() - 3 - metrics.ascent() >= maps.how_to_read().bottom() - 0.5
