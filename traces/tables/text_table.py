"""A table of a profile as text, whatever file it came from, and its columns as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Bools, Floats, Int64s
from memplan.traces.decimals import ABSENT, number, scaled
from memplan.traces.dictionary_array import DictionaryArray, take_rows


@dataclass(frozen=True)
class TextTable:
    """Columns by header, all of one length, as text without surrounding blanks."""

    path: Path
    columns: Mapping[str, Sequence[str]]
    rows: int

    def find(self, *headers: str) -> Sequence[str] | None:
        """The first of `headers` that the table has, or `None`."""
        for header in headers:
            if header in self.columns:
                return self.columns[header]
        return None

    def text(self, *headers: str) -> Sequence[str]:
        """A column of text, empty strings where the table has none of `headers`."""
        found = self.find(*headers)
        return found if found is not None else [""] * self.rows

    def rows_where(self, kept: Bools) -> TextTable:
        """The table with those of its rows that `kept` tells."""
        rows = np.flatnonzero(kept)
        return TextTable(self.path, {name: take_rows(column, rows) for name, column in self.columns.items()}, len(rows))

    def times_ns(self, *headers: str) -> Int64s | None:
        """A column of microseconds as nanoseconds, -1 where a field is absent or no number; `None` if no header."""
        return self._converted(1000, headers)

    def whole(self, factor: int, *headers: str) -> Int64s | None:
        """A column of numbers times `factor` as whole numbers, -1 where absent; `None` if no header."""
        return self._converted(factor, headers)

    def integers(self, *headers: str) -> Int64s | None:
        """A column of whole numbers, exact to 63 bits, -1 where absent; `None` if no header."""
        return self._converted(1, headers)

    def floats(self, header: str) -> Floats:
        """A column of measured quantities, NaN where absent."""
        found = self.columns[header]
        if isinstance(found, DictionaryArray):
            return np.array([number(text) for text in found.values], dtype=np.float64)[found.codes]
        if (plain := _plain_floats(found)) is not None:
            return plain
        values = {text: number(text) for text in set(found)}
        return np.array([values[text] for text in found], dtype=np.float64)

    def has(self, *headers: str) -> bool:
        """Whether the table has a column under any of `headers`."""
        return any(header in self.columns for header in headers)

    def has_exponents(self, *headers: str) -> bool:
        """Whether a number in this column is written as `1.7E+15`, which leaves its last digits out."""
        found = self.find(*headers)
        everything = "".join(found.values if isinstance(found, DictionaryArray) else found or ())
        return "E" in everything or "e" in everything

    def _converted(self, factor: int, headers: Sequence[str]) -> Int64s | None:
        found = self.find(*headers)
        if found is None:
            return None
        if isinstance(found, DictionaryArray):
            return _whole_numbers(found.values, factor)[found.codes]
        return _whole_numbers(found, factor)


_PLAIN = b"0123456789.\n"
"""All that stands in lines of decimal numbers as times and sizes of profiles mostly are, or of nothing."""

_WHOLE_DIGITS, _FRACTION_DIGITS = 16, 12
_LARGEST_FACTOR = 2**21
"""Twice a fraction of twelve digits times this is still below 2**63."""


def _whole_numbers(texts: Sequence[str], factor: int) -> Int64s:
    """Decimal numbers times `factor`, -1 where a text is none."""
    if (plain := _plain_numbers(texts, factor)) is not None:
        return plain
    values: dict[str, int] = {}  # each distinct text is worked out once
    for text in texts:
        if text not in values:
            value = scaled(text, factor)
            values[text] = -1 if value is None else value
    return np.array([values[text] for text in texts], dtype=np.int64)


def _plain_lines(texts: Sequence[str]) -> bytes | None:
    """The texts a line each where they are digits and points alone, else `None`."""
    joined = "\n".join((*texts, "")).encode(errors="replace")
    return None if joined.translate(None, _PLAIN) else joined


def _plain_floats(texts: Sequence[str]) -> Floats | None:
    """A column of measured quantities, NaN where absent; `None` where a number is written in another way."""
    known = texts
    if _plain_lines(texts) is None:
        known = ["" if text in ABSENT else text for text in texts]
        if _plain_lines(known) is None:
            return None
    if max(map(len, known), default=0) > _WHOLE_DIGITS + 1 + _FRACTION_DIGITS:
        return None
    try:
        return np.array([float(text or "nan") for text in known], dtype=np.float64)
    except ValueError:  # two points, or lines of their own
        return None


def _plain_numbers(texts: Sequence[str], factor: int) -> Int64s | None:
    """The same of a whole column at once; `None` where a number is written in another way or is very large."""
    if factor > _LARGEST_FACTOR or (lines := _plain_lines(texts)) is None:
        return None
    # Bytes: wider numbers are made of one place at a time.
    text = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]
    points, dots = ends.copy(), np.flatnonzero(text == ord("."))
    dotted = np.searchsorted(ends, dots)
    points[dotted] = dots
    before, after = points - starts, ends[dotted] - dots - 1
    if len(ends) != len(texts) or (np.diff(dotted) == 0).any() or int(before.max(initial=0)) > _WHOLE_DIGITS:
        return None
    if not ((before[dotted] > 0) & (after > 0) & (after <= _FRACTION_DIGITS)).all():
        return None
    whole, fraction = np.zeros(len(ends), dtype=np.int64), np.zeros(len(ends), dtype=np.int64)
    for place in range(int(before.max(initial=0))):
        at = points - 1 - place
        whole += np.where(at >= starts, text[at].astype(np.int64) - ord("0"), 0) * 10**place
    places = max(int((ends - points).max(initial=0)) - 1, 0)
    for place in range(places):
        at = points + 1 + place
        digits = text[np.minimum(at, len(text) - 1)].astype(np.int64) - ord("0")
        fraction = fraction * 10 + np.where(at < ends, digits, 0)
    if int(whole.max(initial=0)) >= np.iinfo(np.int64).max // factor:
        return None
    unit = 10**places
    return np.where(ends > starts, whole * factor + (2 * fraction * factor + unit) // (2 * unit), -1)
