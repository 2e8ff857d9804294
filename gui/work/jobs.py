"""Work off the interface's thread: started, watched, cancelled, and its outcome brought back to the interface."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal, Slot
from shiboken6 import isValid

from memplan.core.errors import CancelledError, MemplanError
from memplan.core.progress import Progress, silent
from memplan.gui.i18n import tr

Work = Callable[[Progress], Any]
Finished = Callable[[Any], None]
Failed = Callable[[str], None]

_SHOWN_S = 0.03  # between two reports that are shown: of work in a thousand parts, each would lay a bar out anew


class Job(QObject):
    """
    One piece of work on a thread of the pool; it lives on the interface's thread and calls back there.

    `progressed` and `ended` are for whoever shows the job; the outcome goes to the callables given to `Jobs.start`,
    and to nobody once the job is cancelled.
    """

    progressed = Signal()
    ended = Signal()
    _reported = Signal(object, object, str)
    _outcome = Signal(str, object)

    def __init__(self, title: str, work: Work, finished: Finished, failed: Failed) -> None:
        super().__init__()
        self.title = title
        self.done, self.total, self.what = 0, 0, ""
        self._work, self._finished, self._failed = work, finished, failed
        self._stop = threading.Event()
        self._told_at = -_SHOWN_S
        self._reported.connect(self._show)
        self._outcome.connect(self._deliver)

    @property
    def cancelled(self) -> bool:
        """Whether someone asked the job to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask the work to stop at its next report of progress, or not to begin."""
        self._stop.set()

    def _report(self, done: int, total: int, what: str) -> None:
        if self._stop.is_set():
            raise CancelledError("cancelled")
        now = time.monotonic()
        if now - self._told_at >= _SHOWN_S:
            self._told_at = now
            self._tell(self._reported, done, total, what)

    def run(self) -> None:
        """Do the work on the calling thread."""
        try:
            self._report(0, 0, "")
            outcome: tuple[str, Any] = "finished", self._work(self._report)
        except CancelledError:
            outcome = "cancelled", None
        except MemplanError as error:
            outcome = "failed", error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - whatever happens in a worker becomes a line in the window
            outcome = "failed", f"{self.title}: {type(error).__name__}: {error}"
        self._tell(self._outcome, *outcome)

    @staticmethod
    def _tell(signal: Any, *values: Any) -> None:
        try:
            signal.emit(*values)
        except RuntimeError:  # the window and the job with it are gone
            return

    @Slot(object, object, str)
    def _show(self, done: int, total: int, what: str) -> None:
        self.done, self.total, self.what = done, total, what
        self.progressed.emit()

    @Slot(str, object)
    def _deliver(self, kind: str, value: Any) -> None:
        if kind == "finished" and not self.cancelled:
            self._finished(value)
        elif kind == "failed" and not self.cancelled:
            self._failed(value.said(tr) if isinstance(value, MemplanError) else value)
        self.ended.emit()


class _Runner(QRunnable):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def run(self) -> None:
        self._job.run()


class Jobs(QObject):
    """
    The jobs of one window, and the one way to run work for it; at most `threads` run at once, the others wait.

    Without `background` (for pictures) work is done at once, on the thread that asks. `failed` has the line of whatever
    went wrong and nobody else was told of.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, parent: QObject | None = None, *, background: bool = True, threads: int = 2) -> None:
        super().__init__(parent)
        self.background = background
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(threads)
        self._stopped = False
        self._latest: dict[tuple[object, str], Job] = {}
        self.running: list[Job] = []

    def start(self, title: str, work: Work, done: Finished, failed: Failed | None = None) -> Job | None:
        """
        Do `work`; its result goes to `done`, its error's line to `failed` (by default the signal), both on this thread.

        Returns the job, or `None` where there is none: without `background` the work is done already, and after `stop`
        none is done any more, though a window that closes may still ask for it while it goes.
        """
        failed = failed or self.failed.emit
        if self._stopped:
            return None
        if not self.background:
            try:
                done(work(silent))
            except MemplanError as error:
                failed(error.said(tr))
            return None
        job = Job(title, work, done, failed)
        job.ended.connect(self._ended)
        job.progressed.connect(self.changed)
        self.running.append(job)
        self._pool.start(_Runner(job))
        self.changed.emit()
        return job

    def latest(
        self,
        owner: object,
        title: str,
        work: Work,
        done: Finished,
        *,
        question: str = "",
        failed: Failed | None = None,
    ) -> None:
        """
        Do `work` as `start` does, in place of what `owner` asked last; only the latest answer is given to it.

        What it asked before is cancelled. An owner with several questions names each. The answer to a widget that is
        gone meanwhile is given to nobody.
        """
        self.drop(owner, question)

        def deliver(value: Any) -> None:
            if _there(owner):
                self._latest.pop((owner, question), None)
                done(value)

        def refuse(line: str) -> None:
            if _there(owner):
                self._latest.pop((owner, question), None)
                (failed or self.failed.emit)(line)

        job = self.start(title, work, deliver, refuse)
        if job is not None:
            self._latest[owner, question] = job

    def drop(self, owner: object, question: str = "") -> None:
        """Cancel what `owner` asked last, if it waits for an answer."""
        job = self._latest.pop((owner, question), None)
        if job is not None:
            job.cancel()

    def waiting(self, owner: object, question: str = "") -> bool:
        """Whether `owner` waits for an answer to what it asked `latest`."""
        return (owner, question) in self._latest

    @Slot()
    def _ended(self) -> None:
        job = self.sender()
        self.running = [other for other in self.running if other is not job]
        self._latest = {asked: other for asked, other in self._latest.items() if other is not job}
        self.changed.emit()

    def stop(self, milliseconds: int = 5000) -> bool:
        """Cancel everything for good and wait for the threads to end; false if some did not in time."""
        self._stopped = True
        for job in self.running:
            job.cancel()
        self._pool.clear()
        return bool(self._pool.waitForDone(milliseconds))


def _there(owner: object) -> bool:
    """Whether `owner` is still there: of a widget, Qt's half may be gone."""
    return not isinstance(owner, QObject) or isValid(owner)
