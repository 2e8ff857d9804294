"""Values that are computed once, however many threads ask for them, and watched by whoever waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from memplan.core.errors import CancelledError
from memplan.core.progress import Progress, silent

_Value = TypeVar("_Value")

_LOOK_S = 0.05  # between two looks of a waiting thread at its own progress


class Once(Generic[_Value]):
    """
    A value that `compute` gives, called by the first thread that asks; others who ask meanwhile wait for the outcome.

    Each caller is told of the progress through its own `Progress` and may be cancelled through it: the one that
    computes stops computing, and one of those that wait begins anew; one that waits just leaves. An error of `compute`
    is kept and raised to everyone who asks, then and later. `compute` may not ask for its own value. Values
    of one owner may share `changed`, which no thread holds while it computes.

    Unlike `functools.cached_property`, which has no lock from Python 3.12 on.
    """

    def __init__(self, compute: Callable[[Progress], _Value], changed: threading.Condition | None = None) -> None:
        self._compute = compute
        self._changed = changed or threading.Condition()
        self._worker: int | None = None
        self._reported: tuple[int, int, str] | None = None
        self._values: list[_Value] = []
        self._error: Exception | None = None

    def __call__(self, progress: Progress = silent) -> _Value:
        """The value; raises the error of `compute`, or `CancelledError` where `progress` does so."""
        while not self._values:  # without the lock once it is there: a list is never emptied
            if self._claim(progress):
                return self._worked_out(progress)
        return self._values[0]

    def _claim(self, progress: Progress) -> bool:
        """Wait until there is a value (false) or until it is for this thread to compute it (true)."""
        me = threading.get_ident()
        while True:
            with self._changed:
                if self._values:
                    return False
                if self._error is not None:
                    raise self._error.with_traceback(None)
                if self._worker is None:
                    self._worker = me
                    return True
                if self._worker == me:
                    raise RuntimeError("a value that is computed once asks for itself")
                self._changed.wait(_LOOK_S)
                reported = self._reported
            progress(*(reported or (0, 0, "")))

    def _worked_out(self, progress: Progress) -> _Value:
        def report(done: int, total: int, what: str) -> None:
            self._reported = done, total, what
            progress(done, total, what)

        value: list[_Value] = []
        error: Exception | None = None
        try:
            value.append(self._compute(report))
        except CancelledError:
            raise
        except Exception as caught:
            error = caught
            raise
        finally:
            with self._changed:
                self._values.extend(value)
                self._error = error
                self._worker, self._reported = None, None
                self._changed.notify_all()
        return value[0]
