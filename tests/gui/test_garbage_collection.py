"""Python looks for reference cycles when nobody waits for the window."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator, Mapping

import pytest
from pytestqt.qtbot import QtBot

from memplan.core.progress import Progress
from memplan.gui.application import application
from memplan.gui.work.garbage_collection import GarbageCollection
from memplan.gui.work.jobs import Jobs

pytestmark = pytest.mark.gui


class Holder:
    """Holds itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def watched(qtbot: QtBot) -> Iterator[tuple[Jobs, GarbageCollection, list[int]]]:
    """Jobs, their garbage collection, and the generations that were collected since."""
    jobs = Jobs()
    collection = GarbageCollection(jobs)
    generations: list[int] = []

    def note(phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    gc.callbacks.append(note)
    yield jobs, collection, generations
    gc.callbacks.remove(note)
    collection.stop()


def test_no_full_collection_runs_while_a_job_makes_many_objects(
    qtbot: QtBot, watched: tuple[Jobs, GarbageCollection, list[int]]
) -> None:
    """Went wrong once: the diagnosis of a large trace made two million objects; the window stood still for 0.2 s."""
    jobs, _, generations = watched
    made: list[object] = []

    def work(_: Progress) -> list[list[int]]:
        return [[number] for number in range(400_000)]

    jobs.start("many", work, made.append)
    qtbot.waitUntil(lambda: bool(made) and not jobs.running, timeout=20_000)
    assert generations
    assert 2 not in generations


def test_what_a_dropped_document_held_goes_once_nothing_runs(
    qtbot: QtBot, watched: tuple[Jobs, GarbageCollection, list[int]]
) -> None:
    jobs, collection, _ = watched
    made: list[Holder] = []
    jobs.start("one", lambda _: Holder(), made.append)
    qtbot.waitUntil(lambda: bool(made) and not jobs.running, timeout=5_000)
    there = weakref.ref(made.pop())
    gc.collect()
    assert there() is not None, "set aside, not looked at"
    collection.dropped()
    qtbot.waitUntil(lambda: there() is None, timeout=5_000)


def test_collecting_is_pythons_own_again_when_the_window_is_gone(qtbot: QtBot) -> None:
    # Windows of other tests that are still to be closed may have set it.
    before = (700, 10, 10)
    gc.set_threshold(*before)
    collection = GarbageCollection(Jobs())
    assert gc.get_threshold() != before
    collection.stop()
    collection.stop()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_workers_give_way_to_the_window_within_a_millisecond(qtbot: QtBot) -> None:
    """Went wrong once: Qt gives up the interpreter at many calls of a frame, and each time waited 5 ms for it again."""
    application()
    assert sys.getswitchinterval() < 0.001
