"""What commands say besides their report: exit codes, and progress and errors on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memplan.core.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

YES, NO, BAD_INPUT = 0, 1, 2
"""Exit codes: the answer is yes; it is no (does not fit, deviates); the input can't be used."""


def print_error(text: str) -> None:
    """One line on standard error."""
    print(f"memplan: {text}", file=sys.stderr)


def keep_standard_output() -> None:
    """
    Keep standard output for what memplan itself writes: what native libraries print there goes to standard error.

    A solver's stray line between the rows of a table, or within an assistant's protocol, can't be read.
    """
    try:
        sys.stdout.flush()
        shown = sys.stdout.fileno()
        own = os.dup(shown)
        os.dup2(sys.stderr.fileno(), shown)
    except (AttributeError, OSError, ValueError):  # no such file behind one of them, or it is closed
        return
    line_by_line = 1 if os.isatty(own) else -1
    sys.stdout = os.fdopen(own, "w", line_by_line, encoding=sys.stdout.encoding, errors=sys.stdout.errors)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """
    A `Progress` that shows a bar on standard error once the work has taken over a second.

    Where standard error is no terminal, it prints a line every few seconds instead.
    """
    started = time.monotonic()
    next_line = started + 5
    terminal = sys.stderr.isatty()
    bar: Bar | None = None

    def report(done: int, total: int, what: str) -> None:
        nonlocal bar, next_line
        now = time.monotonic()
        if terminal:
            if bar is None and now - started > 1:
                bar = _started_bar()
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done, total=total or None, description=what)
        elif now > next_line:
            next_line = now + 5
            print(f"memplan: {what} {done}/{total}", file=sys.stderr)

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()


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
