"""
A report: what a command or a page found, kept apart from how it is shown.

Functions that find something return a `Report` of plain numbers; renderers turn numbers into text. Bytes are `int`,
times `int` nanoseconds, rates bytes per second, shares parts of 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.core.sentence import Sentence, Text
from memplan.core.units import (
    UNKNOWN,
    format_bytes,
    format_change,
    format_decimal,
    format_duration,
    format_rate,
    format_share,
)

if TYPE_CHECKING:
    from memplan.schema import Source


class Quantity(Enum):
    """What a number counts; the value is what its unit adds to the name of a column in files."""

    TEXT = ""
    NUMBER = "number"
    COUNT = "count"
    BYTES = "bytes"
    DURATION = "ns"
    RATE = "bytes_per_second"
    FLOP_RATE = "flop_per_second"
    SHARE = "share"
    CHANGE = "change"


_PLAIN = frozenset({Quantity.TEXT, Quantity.NUMBER, Quantity.COUNT})


@dataclass(frozen=True, slots=True)
class Quantified:
    """A number in a column whose rows are of different quantities; `signed` ones show a plus."""

    value: float | None
    quantity: Quantity
    signed: bool = False


ReportCell = Text | int | float | Quantified | None
"""A value of a table; `None` is unknown and shows as a dash."""


CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""
Characters by which a name could steer the terminal that shows it, and lone surrogates, which no encoding holds; lines
end with the one that is left out.
"""


def cell_text(value: ReportCell, quantity: Quantity = Quantity.TEXT, digits: int | None = None) -> str:
    """
    `value` as text; `digits` are those behind the point of numbers and percentages.

    `None` is a dash. Text in a column of numbers stands as it is.
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, Quantified):
        text = cell_text(value.value, value.quantity, digits)
        return f"+{text}" if value.signed and value.value is not None and value.value > 0 else text
    if isinstance(value, str | Sentence):
        return str(value)
    return _numbers(value, quantity, digits)


def _numbers(value: float, quantity: Quantity, digits: int | None) -> str:
    if quantity is Quantity.BYTES:
        return format_bytes(round(value))
    if quantity is Quantity.DURATION:
        return format_duration(value)
    if quantity is Quantity.RATE:
        return format_rate(value)
    if quantity is Quantity.FLOP_RATE:
        return format_decimal(value, "FLOP/s")
    if quantity is Quantity.SHARE:
        return format_share(value, 1 if digits is None else digits)
    if quantity is Quantity.CHANGE:
        return format_change(value, 1 if digits is None else digits)
    if quantity is Quantity.TEXT:
        return str(value)
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table: its title, and what its numbers count.

    `key` is its name in files, made of the title where empty. One that is not `shown` is in files only.
    """

    title: str
    quantity: Quantity = Quantity.TEXT
    digits: int | None = None
    key: str = ""
    shown: bool = True

    @property
    def right(self) -> bool:
        """Whether its cells are numbers, which stand flush right."""
        return self.quantity is not Quantity.TEXT

    @property
    def file_key(self) -> str:
        """Its name in files, with the unit that its raw numbers are in."""
        if self.key:
            return self.key
        name = re.sub(r"[^0-9a-z]+", "_", self.title.casefold()).strip("_")
        unit = self.quantity.value
        if self.quantity in _PLAIN or name.endswith(unit):
            return name
        return f"{name}_{unit}".lstrip("_")


@dataclass(frozen=True, slots=True)
class ReportTable:
    """
    Rows of a table, a cell for each of `columns`.

    `total` is how many rows there are in all where `rows` are only the first of them. `most` is how many of the rows
    a page shows; tables that programs read have all.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[ReportCell, ...], ...]
    title: str = ""
    total: int | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        """Refuse rows of another width; raises `ValueError`."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"rows of {self.title!r} have not as many cells as there are columns")

    @property
    def extent(self) -> Text:
        """How many of the rows a page lists; empty where all are."""
        listed, total = len(self.listed), len(self.rows) if self.total is None else self.total
        return "" if total <= listed else Sentence("{} of {} [row|rows]", (f"{listed:,}", f"{total:,}"))

    @property
    def listed(self) -> tuple[tuple[ReportCell, ...], ...]:
        """The rows that a page shows."""
        return self.rows[: self.most]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number or word with its name, and what there is to say of it."""

    label: Text
    value: ReportCell
    quantity: Quantity = Quantity.TEXT
    remark: Text = ""
    digits: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Names with their values."""

    items: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """
    A small chart: `svg` for pages (coloured by `currentColor` and the page's `--accent`), `text` for everywhere else.

    Either may be empty; then that renderer leaves the drawing out, or a page shows the text as it stands. `words` are
    the sentences that `svg` holds in English, for pages in other languages; where `said`, it is in the page's already.
    """

    svg: str = ""
    text: str = ""
    title: Text = ""
    words: tuple[Sentence, ...] = ()
    said: bool = False


Part = ReportTable | Figures | Drawing | Text
"""What a section is made of; a `Text` is a paragraph."""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """
    A heading, which may be empty, and what is below it.

    `pictures` draws what only pages show, before the parts; a page leaves out a section that has neither.
    """

    title: Text
    parts: tuple[Part, ...]
    pictures: Callable[[], tuple[Drawing, ...]] | None = None

    @property
    def pages_only(self) -> bool:
        """Whether nothing but a page can show any of it."""
        if not self.parts:
            return self.pictures is not None
        return all(isinstance(part, Drawing) and not part.text for part in self.parts)


def section(title: Text, *parts: Part) -> ReportSection:
    """A section of `parts`."""
    return ReportSection(title, parts)


def found_table(table: ReportTable) -> Part:
    """`table` of the changes that were found to fit, or that there are none."""
    return table if table.rows else "nothing that was tried fits"


class Severity(Enum):
    """How much a remark matters: something to know, something to mind, something that is wrong."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence beside the figures."""

    text: Text
    severity: Severity = Severity.NOTE


@dataclass(frozen=True, slots=True)
class Report:
    """
    What was found: a title, the answer in a sentence, sections, remarks, and what the figures rest on.

    `answer` is whether it is good news (the exit code); what is no `verdict` is neither good nor bad. `document` makes
    what `--json` prints where a command has a document of its own; without one the sections are written out. `written`
    are files that were made beside the report.
    """

    title: Text
    headline: Text = ""
    sections: tuple[ReportSection, ...] = ()
    notes: tuple[Remark, ...] = ()
    sources: tuple[Source, ...] = ()
    answer: bool = True
    verdict: bool = True
    document: Callable[[], Any] | None = None
    written: tuple[Path, ...] = ()


def source_text(source: Source) -> str:
    """What a figure rests on, in one line."""
    return f"{source.value} ({source.note})" if source.note else str(source.value)
