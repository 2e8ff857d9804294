from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from memplan.core.errors import CancelledError, InputError
from memplan.core.once import Once
from memplan.core.progress import Progress, silent


class Stoppable:
    """Progress of a job that can be cancelled, and what it was told."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.told: list[str] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.stop.is_set():
            raise CancelledError("cancelled")
        self.told.append(what)


class Slow:
    """Work that goes on, reporting, until it is let go; counts how often it began."""

    def __init__(self) -> None:
        self.begun = 0
        self.working = threading.Event()
        self.finish = threading.Event()

    def __call__(self, progress: Progress) -> str:
        self.begun += 1
        self.working.set()
        while not self.finish.wait(0.002):
            progress(1, 2, f"attempt {self.begun}")
        return f"done by attempt {self.begun}"


def test_many_threads_that_ask_at_once_compute_it_once() -> None:
    calls = []

    def compute(_: Progress) -> object:
        calls.append(1)
        time.sleep(0.02)
        return object()

    value, start = Once(compute), threading.Barrier(16)

    def ask(_: int) -> object:
        start.wait()
        return value()

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert len(calls) == 1
    assert len(set(map(id, found))) == 1


def test_an_error_is_raised_to_everyone_and_the_work_not_tried_again() -> None:
    calls = []

    def compute(_: Progress) -> None:
        calls.append(1)
        raise InputError("is damaged", path="file")

    value = Once(compute)
    for _ in range(3):
        with pytest.raises(InputError, match="is damaged"):
            value()
    assert len(calls) == 1


def test_a_cancelled_computation_is_begun_anew_by_the_next_who_asks() -> None:
    work, first = Slow(), Stoppable()
    value = Once(work)
    first.stop.set()
    with pytest.raises(CancelledError):
        value(first)
    work.finish.set()
    assert value() == "done by attempt 2"


@contextmanager
def two_who_ask(work: Slow) -> Iterator[tuple[Stoppable, Future[str], Stoppable, Future[str]]]:
    """One that computes a value and one that waits for it: their progress and what they will get."""
    computing, waiting, value = Stoppable(), Stoppable(), Once(work)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(value, computing)
        assert work.working.wait(5)
        second = pool.submit(value, waiting)
        while not waiting.told:
            time.sleep(0.002)
        yield computing, first, waiting, second


def test_to_cancel_the_one_that_computes_leaves_the_one_that_waits_its_value() -> None:
    work = Slow()
    with two_who_ask(work) as (computing, first, waiting, second):
        computing.stop.set()
        with pytest.raises(CancelledError):
            first.result(5)
        while work.begun < 2:
            time.sleep(0.002)
        work.finish.set()
        assert second.result(5) == "done by attempt 2"
    assert "attempt 1" in waiting.told  # how far the other's work has come is told to whoever waits


def test_to_cancel_the_one_that_waits_leaves_the_one_that_computes_alone() -> None:
    work = Slow()
    with two_who_ask(work) as (_, first, waiting, second):
        waiting.stop.set()
        with pytest.raises(CancelledError):
            second.result(5)
        assert not first.done()
        work.finish.set()
        assert first.result(5) == "done by attempt 1"


def test_one_that_waits_for_silent_work_can_be_cancelled() -> None:
    begun, finish = threading.Event(), threading.Event()

    def compute(_: Progress) -> int:
        begun.set()
        assert finish.wait(5)
        return 1

    value, waiting = Once(compute), Stoppable()
    waiting.stop.set()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(value, silent)
        assert begun.wait(5)
        with pytest.raises(CancelledError):
            value(waiting)
        finish.set()
        assert first.result(5) == 1


def test_a_value_that_asks_for_itself_is_told_so() -> None:
    value: Once[int] = Once(lambda _: value())
    with pytest.raises(RuntimeError, match="asks for itself"):
        value()
