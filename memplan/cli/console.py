"""How commands speak: tables or JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from memplan.core.progress import Progress

YES, NO, BAD_INPUT = 0, 1, 2
"""Exit codes: the answer is yes; it is no (does not fit, deviates); the input can't be used."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def print_error(text: str) -> None:
    """One line on standard error."""
    print(f"memplan: {text}", file=sys.stderr)


def print_json(document: Any) -> None:
    """`document` as JSON on standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()
) -> None:
    """A table on standard output; columns whose numbers are in `right` are right-aligned, `None` prints as a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=160)
    # A title inside the table would be wrapped to the table's width.
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)


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
