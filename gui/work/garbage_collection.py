"""When Python looks for reference cycles: never over all objects while work is done for the window."""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

from memplan.gui.work.jobs import Jobs

_YOUNG, _MIDDLE, _OLD = 5_000, 10, 10
_NEVER = 1 << 30
_IDLE_MS = 500
_MOST_KEPT = 50


class GarbageCollection(QObject):
    """
    Keeps full collections out of the way of `jobs`; `dropped` has one made at the next quiet moment.

    A full collection visits every object with the interpreter's lock held: 0.2 s for the two million that a diagnosis
    of a large trace makes, several times while it makes them, and the window stands still. So while jobs run, only
    young objects are looked at, and what is there when they end is set aside as long-lived (`gc.freeze`). It is
    looked through again when a document was dropped, or every so many jobs, once nothing runs.
    """

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._working = False
        self._due = False
        self._kept = 0
        self._before = gc.get_threshold()
        gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_IDLE_MS)
        self._quiet.timeout.connect(self._collect)
        jobs.changed.connect(self._follow)
        self._following = True

    def dropped(self) -> None:
        """A document is gone: have what only its own cycles hold collected once nothing runs."""
        self._due = True
        if not self._working and self._following:
            self._quiet.start()

    def stop(self) -> None:
        """Leave collecting to Python again, as it was before."""
        if not self._following:
            return
        self._following = False
        self._quiet.stop()
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def _follow(self) -> None:
        working = bool(self._jobs.running)
        if working == self._working or not self._following:
            return
        self._working = working
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER if working else _OLD)
        if working:
            self._quiet.stop()
            return
        gc.freeze()
        self._kept += 1
        if self._due or self._kept >= _MOST_KEPT:
            self._quiet.start()

    def _collect(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._due, self._kept = False, 0
