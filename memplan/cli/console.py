"""What commands say besides their report: exit codes, and progress and errors on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from memplan.core.progress import Progress

YES, NO, BAD_INPUT = 0, 1, 2
"""Exit codes: the answer is yes; it is no (does not fit, deviates); the input can't be used."""


def print_error(text: str) -> None:
    """One line on standard error."""
    print(f"memplan: {text}", file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """
    A `Progress` that shows a bar on standard error once the work has taken over a second.

    Where standard error is no terminal, it prints a line every few seconds instead.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    bar = Bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True)
    started = time.monotonic()
    task = bar.add_task("", total=None)
    shown = False
    next_line = started + 5

    def report(done: int, total: int, what: str) -> None:
        nonlocal shown, next_line
        now = time.monotonic()
        if console.is_terminal:
            if not shown and now - started > 1:
                bar.start()
                shown = True
            bar.update(task, completed=done, total=total or None, description=what)
        elif now > next_line:
            next_line = now + 5
            print(f"memplan: {what} {done}/{total}", file=sys.stderr)

    try:
        yield report
    finally:
        if shown:
            bar.stop()
