"""Reports as text for a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence
from memplan.reports.report import Drawing, Figures, Part, Report, ReportTable, cell_text, source_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH = 160
"""Columns of a line where the output is no terminal."""


def print_report(report: Report) -> None:
    """Print `report` on standard output, in bold and as wide as the terminal where it is one."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, highlight=False, width=_WIDTH)
    _print(report, console)


def render_console(report: Report) -> str:
    """`report` as plain text."""
    from rich.console import Console

    text = io.StringIO()
    _print(report, Console(file=text, markup=False, emoji=False, highlight=False, width=_WIDTH, force_terminal=False))
    return text.getvalue()


def _print(report: Report, console: Console) -> None:
    def line(text: object, style: str | None = None) -> None:
        # Wrapped by the terminal, if at all: lines are to be found again by grep.
        console.print(str(text), style=style, soft_wrap=True)

    if report.title:
        line(report.title, "bold")
    if report.headline:
        line(report.headline)
    if report.sections and (report.title or report.headline):
        line("")
    apart = True
    for item in report.sections:
        if item.title:
            # Tables end with an empty line of their own.
            line(item.title if apart else f"\n{item.title}", "bold")
        for part in item.parts:
            _print_part(part, console)
            apart = not isinstance(part, str | Sentence)
    if not apart and (report.sources or report.notes):
        line("")
    for source in report.sources:
        line(f"rests on: {source_text(source)}")
    for note in report.notes:
        line(f"{note.severity.value}: {note.text}")
    for path in report.written:
        line(f"written to {path}")


def _print_part(part: Part, console: Console) -> None:
    if isinstance(part, str | Sentence):
        console.print(str(part), soft_wrap=True)
    elif isinstance(part, ReportTable):
        if part.title:
            console.print(part.title, style="bold", soft_wrap=True)
        console.print(_table(part))
        if part.extent:
            console.print(f"{part.extent}\n", soft_wrap=True)
    elif isinstance(part, Figures):
        console.print(_figures(part))
    elif isinstance(part, Drawing) and part.text:
        if part.title:
            console.print(part.title, soft_wrap=True)
        console.print(f"{part.text}\n", soft_wrap=True)


def _table(part: ReportTable) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [place for place, column in enumerate(part.columns) if column.shown]
    for column in part.columns:
        if column.shown:
            table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in part.listed:
        cells = ((row[place], part.columns[place]) for place in shown)
        table.add_row(*(cell_text(cell, column.quantity, column.digits) for cell, column in cells))
    return table


def _figures(part: Figures) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for item in part.items:
        table.add_row(str(item.label), cell_text(item.value, item.quantity, item.digits), str(item.remark))
    # Set apart from what follows, as tables are.
    table.add_row("", "", "")
    return table
