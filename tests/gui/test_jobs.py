"""One way to run work: on workers or at once, of several questions the latest answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from memplan.core.errors import CancelledError, InputError
from memplan.core.progress import Progress
from memplan.gui.model.document import make_document
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline import timeline_tracks
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, TrackContent
from memplan.gui.work.jobs import Jobs
from memplan.gui.work.loader import DocumentLoader
from tests.small_plans import layered_plan

pytestmark = pytest.mark.gui


class Owner:
    """Asks, and keeps what it is told."""

    def __init__(self) -> None:
        self.answers: list[object] = []


def test_only_the_latest_answer_is_given_and_the_work_before_it_stops(qtbot: QtBot) -> None:
    jobs, owner, started, stopped = Jobs(), Owner(), threading.Event(), threading.Event()

    def endless(progress: Progress) -> None:
        started.set()
        try:
            while not stopped.wait(0.002):
                progress(0, 0, "on it")
        except CancelledError:
            stopped.set()
            raise

    jobs.latest(owner, "first", endless, owner.answers.append)
    assert started.wait(5)
    jobs.latest(owner, "second", lambda _: 2, owner.answers.append)
    assert jobs.waiting(owner)
    qtbot.waitUntil(lambda: not jobs.running, timeout=5_000)
    assert stopped.is_set()
    assert owner.answers == [2]
    assert not jobs.waiting(owner)


def test_an_answer_that_is_there_before_it_was_dropped_is_not_given(qtbot: QtBot) -> None:
    jobs, owner, ready = Jobs(), Owner(), threading.Event()

    def work(_: Progress) -> int:
        ready.set()
        return 1

    jobs.latest(owner, "first", work, owner.answers.append)
    assert ready.wait(5)
    jobs.drop(owner)
    qtbot.waitUntil(lambda: not jobs.running, timeout=5_000)
    assert owner.answers == []


def test_questions_of_one_owner_and_the_same_of_several_do_not_replace_each_other(qtbot: QtBot) -> None:
    jobs, one, other = Jobs(), Owner(), Owner()
    for owner in (one, other):
        jobs.latest(owner, "where", lambda _: "here", owner.answers.append, question="where")
        jobs.latest(owner, "when", lambda _: "now", owner.answers.append, question="when")
    qtbot.waitUntil(lambda: not jobs.running, timeout=5_000)
    assert sorted(map(str, one.answers)) == sorted(map(str, other.answers)) == ["here", "now"]


def test_work_that_was_cancelled_before_its_turn_is_not_begun(qtbot: QtBot) -> None:
    jobs, gate, begun = Jobs(threads=1), threading.Event(), []
    jobs.start("in the way", lambda _: gate.wait(5), lambda _: None)
    job = jobs.start("next", lambda _: begun.append(1), lambda _: None)
    assert job is not None
    job.cancel()
    gate.set()
    qtbot.waitUntil(lambda: not jobs.running, timeout=5_000)
    assert begun == []


def test_a_widget_that_is_gone_is_told_nothing(qtbot: QtBot) -> None:
    jobs, widget, gate = Jobs(), QWidget(), threading.Event()
    told: list[object] = []
    jobs.latest(widget, "late", lambda _: gate.wait(5), told.append)
    widget.deleteLater()
    qtbot.waitUntil(lambda: not _there(widget), timeout=5_000)
    gate.set()
    qtbot.waitUntil(lambda: not jobs.running, timeout=5_000)
    assert told == []


def _there(widget: QWidget) -> bool:
    from shiboken6 import isValid

    return bool(isValid(widget))


@pytest.mark.parametrize("background", [True, False])
def test_an_error_goes_to_who_asked_or_to_the_window(qtbot: QtBot, background: bool) -> None:
    jobs = Jobs(background=background)
    lines: list[str] = []
    jobs.failed.connect(lines.append)

    def fail(_: Progress) -> None:
        raise InputError("no good")

    own: list[str] = []
    jobs.latest(jobs, "asked", fail, own.append, failed=lambda line: own.append(f"own: {line}"))
    jobs.latest(jobs, "asked", fail, own.append, question="other")
    qtbot.waitUntil(lambda: bool(own and lines), timeout=5_000)
    assert (own, lines) == (["own: no good"], ["no good"])


def test_after_the_stop_nothing_is_begun(qtbot: QtBot) -> None:
    jobs = Jobs()
    begun: list[Any] = []
    assert jobs.stop()
    jobs.latest(jobs, "late", begun.append, begun.append)
    assert jobs.start("late", begun.append, begun.append) is None
    assert begun == []
    assert not jobs.running


def test_what_a_worker_read_of_tracks_is_handed_over_not_shared(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Went wrong once: workers wrote what the window iterated: a dictionary changed its size."""
    session = Session(make_document(layered_plan(3)))
    jobs = Jobs()
    loader = DocumentLoader(jobs)
    keepers = []
    keep = session.tracks.keep

    def kept(track: TimelineTrack, content: TrackContent) -> None:
        keepers.append(threading.current_thread())
        keep(track, content)

    monkeypatch.setattr(session.tracks, "keep", kept)
    with qtbot.waitSignal(loader.tracks_read, timeout=10_000):
        loader.every_track(session)
    assert keepers == [threading.main_thread()] * len(session.tracks.all)
    assert all(session.tracks.loaded(track) for track in session.tracks.all)


def test_to_read_a_track_changes_nothing_of_what_is_shown() -> None:
    tracks = Session(make_document(layered_plan(3))).tracks
    track = tracks.all[0]
    content = tracks.read(track)
    assert content.lanes is not None
    assert not tracks.loaded(track)
    tracks.keep(track, content)
    assert tracks.lanes(track) is content.lanes


def test_a_track_that_can_not_be_read_is_one_when_the_window_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, compiled: bool) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(timeline_tracks, "build_lanes", fail)
    tracks = Session(make_document(layered_plan(3))).tracks
    track = tracks.all[0]
    content = tracks.read(track)
    assert tracks.unreadable == {}
    tracks.keep(track, content)
    assert "Input/output error" in str(tracks.unreadable[track.key])


def test_reports_that_nobody_could_tell_apart_are_not_shown(qtbot: QtBot) -> None:
    """Went wrong once: 3,000 tracks were 3,000 layouts of the status bar, one after the other."""
    jobs, shown = Jobs(), []
    jobs.changed.connect(lambda: shown.append(True))

    def work(progress: Progress) -> None:
        for number in range(3_000):
            progress(number, 3_000, "tracks")

    jobs.start("many", work, lambda _: None)
    qtbot.waitUntil(lambda: not jobs.running, timeout=10_000)
    assert len(shown) < 300
