"""The strip of the whole run, the filter of tracks, the ticks of differences, and the plan's own clock."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from memplan.gui.model.compare.deviations import deviation_moments
from memplan.gui.model.document import on_own_clock
from memplan.gui.model.palette import load_palette
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import Session
from memplan.gui.window.main_window import MainWindow
from tests.gui.conftest import PROFILE, pixels
from tests.gui.two_documents import settle

pytestmark = pytest.mark.gui


def test_a_click_on_the_strip_goes_there_and_a_drag_takes_the_view_along(window: MainWindow) -> None:
    viewport, strip = window.session.viewport, window.timeline.strip
    low, high = viewport.bounds
    viewport.show(low, low + (high - low) / 10)
    settle()
    x = strip.width() // 2
    QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(x, 10))
    middle = (viewport.start + viewport.end) / 2
    assert middle == pytest.approx(strip.time_at(x), abs=(high - low) / strip.width())
    assert viewport.end - viewport.start == pytest.approx((high - low) / 10)
    grip = strip.handle().center().toPoint()
    QTest.mousePress(strip, Qt.MouseButton.LeftButton, pos=grip)
    before = viewport.start
    QTest.mouseMove(strip, grip + QPoint(30, 0))
    QTest.mouseMove(strip, grip + QPoint(60, 0))
    settle()
    QTest.mouseRelease(strip, Qt.MouseButton.LeftButton, pos=grip + QPoint(60, 0))
    assert viewport.start - before == pytest.approx(60 / strip.width() * (high - low), rel=0.1)
    QTest.mouseDClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(5, 5))
    assert (viewport.start, viewport.end) == pytest.approx(viewport.bounds)


def test_the_strip_shows_the_whole_run_whatever_is_visible(window: MainWindow) -> None:
    strip, viewport = window.timeline.strip, window.session.viewport
    assert [track.label for track in strip.shown()] == ["Planned stream 0", "Stream 0"]
    strip.grab()
    assert strip._pixels is not None
    whole = strip._pixels.copy()
    viewport.show(viewport.start, viewport.start + viewport.span / 50)
    settle()
    strip.grab()
    assert (strip._pixels == whole).all()
    ground = load_palette().role("ground")
    assert (whole != ground).mean() > 0.3


def test_the_costliest_differences_are_ticked(window: MainWindow) -> None:
    session = window.session
    moments = deviation_moments(session.document)
    assert 10 < len(moments) <= 50
    assert (np.diff(moments) >= 0).all()
    measured = load_palette().role("measured") & 0xFFFFFF
    image = pixels(window.timeline.grab().toImage()) & 0xFFFFFF
    ticked = np.flatnonzero((image[:26] == measured).any(axis=0))
    columns = {round(window.timeline.x_of(moment)) for moment in moments.tolist()}
    assert all(np.abs(ticked - column).min() <= 1 for column in columns)
    strip = pixels(window.timeline.strip.grab().toImage()) & 0xFFFFFF
    assert (strip[-3:] == measured).any()


def test_a_profile_alone_has_no_ticks() -> None:
    assert not len(deviation_moments(open_session(Request(None, PROFILE)).document))


@pytest.mark.parametrize(("text", "kept"), [("stream", 2), ("^ascend", 1), ("(", 0), ("PLANNED", 1), ("no such", 0)])
def test_tracks_are_filtered_by_name(window: MainWindow, text: str, kept: int) -> None:
    QTest.keyClicks(window.timeline.filter, text)
    settle()
    shown = [placed.track for placed in window.timeline.placed if placed.track is not None]
    headers = {placed.group for placed in window.timeline.placed if placed.track is None}
    assert len(shown) == kept
    assert headers == {track.group for track in shown}, "a group without tracks has no header"
    window.timeline.grab()
    window.timeline.filter.setFocus()
    window.commands.run("clear")
    assert len([placed for placed in window.timeline.placed if placed.track is not None]) > 5


def test_a_filter_is_its_documents_own(two: MainWindow) -> None:
    timeline = two.timeline
    timeline.filter.setText("stream")
    two.documents.select(0)
    settle()
    assert timeline.filter.text() == ""
    two.documents.select(1)
    settle()
    assert timeline.filter.text() == "stream"
    assert {placed.track.label for placed in timeline.placed if placed.track} == {"Planned stream 0", "Stream 0"}


def test_on_its_own_clock_the_plan_is_as_long_as_planned(session: Session) -> None:
    document = session.document
    own = on_own_clock(document, True)
    plan = own.plan
    assert plan is not None
    planned = Session(own).tracks
    track = next(track for track in planned.all if track.planned is not None)
    assert track.planned is not None
    assert track.planned.measured_ns is None, "nothing is hatched: bars don't stand at their kernels"
    slices = track.planned.slices
    length = int(slices.start_ns[-1] + slices.duration_ns[-1] - slices.start_ns[0])
    assert length == document.planned_step_ns
    assert on_own_clock(own, False).axis is document.axis
    alone = open_session(Request(None, PROFILE)).document
    assert on_own_clock(alone, True) is alone


def test_the_clock_is_turned_by_key_and_what_was_looked_at_stays(window: MainWindow, qtbot: QtBot) -> None:
    window.show_page("plan")
    viewport = window.session.viewport
    viewport.show(100_000.0, 300_000.0)
    window.timeline.setFocus()
    window.commands.run("own-clock")
    settle()
    assert window.session.document.own_clock
    assert window.commands.actions["own-clock"].isChecked()
    assert window.pages.current == "plan"
    assert (window.session.viewport.start, window.session.viewport.end) == pytest.approx((100_000.0, 300_000.0))
    window.commands.run("own-clock")
    assert not window.session.document.own_clock
