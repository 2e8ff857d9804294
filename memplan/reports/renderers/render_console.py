"""Reports as text for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence

from memplan.core.sentence import Sentence
from memplan.reports.report import CONTROLS, Drawing, Figures, Part, Report, ReportTable, cell_text, source_text

_WIDTH = 160
"""Columns of a line where the output is no terminal."""
_LEAST = 12
"""Columns that a cell of text keeps however narrow the terminal is."""
_APART = "   "
_BOLD, _PLAIN = "\033[1m", "\033[0m"


def print_report(report: Report) -> None:
    """Print `report` on standard output, in bold and as wide as the terminal where it is one."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    sys.stdout.write(_text(report, width, bold=terminal and "NO_COLOR" not in os.environ))


def render_console(report: Report) -> str:
    """`report` as plain text."""
    return _text(report, _WIDTH, bold=False)


def _text(report: Report, width: int, *, bold: bool) -> str:
    return "".join(
        f"{_BOLD}{CONTROLS.sub('?', line)}{_PLAIN}\n" if bold and strong else f"{CONTROLS.sub('?', line)}\n"
        for line, strong in _lines(report, width)
    )


def _lines(report: Report, width: int) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each is a title. Paragraphs are wrapped by the terminal: lines are to be found by grep."""
    if report.title:
        yield " ".join(str(report.title).splitlines()), True
    if report.headline:
        yield " ".join(str(report.headline).splitlines()), False
    if report.sections and (report.title or report.headline):
        yield "", False
    apart = True
    for item in report.sections:
        if item.pages_only:
            continue
        if item.title:
            # Tables end with an empty line of their own.
            if not apart:
                yield "", False
            yield str(item.title), True
        for part in item.parts:
            if isinstance(part, ReportTable) and part.title:
                yield part.title, True
            yield from ((line, False) for line in _part(part, width))
            apart = not isinstance(part, str | Sentence)
    if not apart and (report.sources or report.notes):
        yield "", False
    for source in report.sources:
        yield f"rests on: {source_text(source)}", False
    for note in report.notes:
        yield f"{note.severity.value}: {note.text}", False
    for path in report.written:
        yield f"written to {path}", False


def _part(part: Part, width: int) -> Iterator[str]:
    if isinstance(part, str | Sentence):
        yield str(part)
    elif isinstance(part, ReportTable):
        shown = [(place, column) for place, column in enumerate(part.columns) if column.shown]
        rows = [
            [cell_text(row[place], column.quantity, column.digits) for place, column in shown] for row in part.listed
        ]
        head = [column.title for _, column in shown]
        yield from _grid([head, *rows], [column.right for _, column in shown], width, ruled=True)
        yield ""
        if part.extent:
            yield f"{part.extent}\n"
    elif isinstance(part, Figures):
        rows = [
            [str(item.label), cell_text(item.value, item.quantity, item.digits), str(item.remark)]
            for item in part.items
        ]
        yield from _grid(rows, [False, True, False], width, ruled=False)
        # Set apart from what follows, as tables are.
        yield ""
    elif isinstance(part, Drawing) and part.text:
        if part.title:
            yield str(part.title)
        yield f"{part.text}\n"


def _grid(rows: Sequence[Sequence[str]], right: Sequence[bool], width: int, *, ruled: bool) -> Iterator[str]:
    """Cells in columns, no wider than `width` where that leaves room to read; the first row is a head if `ruled`."""
    split = [[cell.splitlines() or [""] for cell in row] for row in rows]
    natural = [max((_columns(line) for row in split for line in row[place]), default=0) for place in range(len(right))]
    widths = _fitted(natural, right, width - len(_APART) * len(right) + 1)
    if ruled:
        yield ""
    for number, row in enumerate(split):
        folded = [
            [part for line in cell for part in _folded(line, room)] for cell, room in zip(row, widths, strict=True)
        ]
        for height in range(max(map(len, folded), default=0)):
            cells = [lines[height] if height < len(lines) else "" for lines in folded]
            padded = (_padded(cell, room, flush) for cell, room, flush in zip(cells, widths, right, strict=True))
            yield f" {_APART.join(padded)}".rstrip()
        if ruled and not number:
            yield "─" * (sum(widths) + len(_APART) * (len(widths) - 1) + 2)


def _fitted(natural: Sequence[int], right: Sequence[bool], room: int) -> list[int]:
    """Widths of columns that add up to `room`, if they can: the widest of text give way, numbers never."""
    widths = list(natural)
    while sum(widths) > room:
        text = [place for place, flush in enumerate(right) if not flush and widths[place] > _LEAST]
        if not text:
            break
        widest = max(text, key=lambda place: widths[place])
        others = [widths[place] for place in text if widths[place] < widths[widest]]
        floor = max([_LEAST, *others])
        widths[widest] = max(widths[widest] - (sum(widths) - room), min(floor, widths[widest] - 1))
    return widths


def _columns(text: str) -> int:
    """Columns of a terminal that `text` takes: two for the characters of East Asian scripts."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def _padded(text: str, width: int, right: bool) -> str:
    blank = " " * (width - _columns(text))
    return f"{blank}{text}" if right else f"{text}{blank}"


def _folded(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, broken at spaces where there are some."""
    if _columns(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if _columns(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while _columns(word) > width:
            # No letter is wider than two columns.
            cut = width if word[:width].isascii() else max(width // 2, 1)
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line or not lines else lines
