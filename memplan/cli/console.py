"""What commands say besides their report: exit codes, and errors, notes and progress on standard error."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memplan.core.progress import Progress
from memplan.core.visible_text import visible_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

YES, NO, BAD_INPUT = 0, 1, 2
"""Exit codes: the answer is yes; it is no (does not fit, deviates); the input can't be used."""
_TOLD_S = 0.05
"""Seconds from which on the time of a part of the work is worth a line."""


_logger = logging.getLogger("memplan")


@contextmanager
def messages_shown() -> Iterator[None]:
    """Show on standard error what memplan logs meanwhile, from warnings on unless an option chooses another level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("memplan: %(message)s"))
    before = _logger.level, _logger.propagate
    _logger.addHandler(handler)
    _logger.setLevel(logging.WARNING)
    _logger.propagate = False
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.level, _logger.propagate = before


class _OneLine(logging.Formatter):
    """One line a record, whatever names in it hold: a line break of theirs would pass for a record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_text(super().format(record))


def keep_standard_output() -> None:
    """
    Keep standard output for what memplan itself writes: what native libraries print there goes to standard error.

    A solver's stray line between the rows of a table, or within an assistant's protocol, can't be read. What the
    output's encoding lacks (rules of tables in ASCII, a lone surrogate of a file's name) is written as its escape.
    """
    try:
        sys.stdout.flush()
        shown = sys.stdout.fileno()
        own = os.dup(shown)
        os.dup2(sys.stderr.fileno(), shown)
    except (AttributeError, OSError, ValueError):  # no such file behind one of them, or it is closed
        return
    line_by_line = 1 if os.isatty(own) else -1
    sys.stdout = os.fdopen(own, "w", line_by_line, encoding=sys.stdout.encoding, errors="backslashreplace")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """
    A `Progress` that shows a bar on standard error once the work has taken over a second.

    Where standard error is no terminal, it prints a line every few seconds instead. Each kind of work is logged with
    its time.
    """
    started = begun = time.monotonic()
    next_line = started + 5
    shown = _logger.isEnabledFor(logging.WARNING)
    terminal = sys.stderr.isatty()
    under_way = ""
    bar: Bar | None = None

    def report(done: int, total: int, what: str) -> None:
        nonlocal bar, next_line, begun, under_way
        now = time.monotonic()
        if what != under_way:
            _tell_time(under_way, now - begun)
            begun, under_way = now, what
        if not shown:
            return
        if terminal:
            if bar is None and now - started > 1:
                bar = _started_bar()
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done, total=total or None, description=what)
        elif now > next_line:
            next_line = now + 5
            _logger.warning("%s %d/%d", what, done, total)

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()
        _tell_time(under_way, time.monotonic() - begun)


def _tell_time(what: str, seconds: float) -> None:
    if what and seconds >= _TOLD_S:
        _logger.info("%s: %.2f s", what, seconds)


def _started_bar() -> Bar:
    """A bar of one task; what draws it is loaded once there is something to show."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=None)
    bar.start()
    return bar
