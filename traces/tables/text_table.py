"""A table of a profile as text, whatever file it came from, and its columns as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.traces.decimals import number, scaled
from memplan.traces.dictionary_array import DictionaryArray


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
        values = {text: number(text) for text in set(found)}
        return np.array([values[text] for text in found], dtype=np.float64)

    def has(self, *headers: str) -> bool:
        """Whether the table has a column under any of `headers`."""
        return any(header in self.columns for header in headers)

    def has_exponents(self, *headers: str) -> bool:
        """Whether a number in this column is written as `1.7E+15`, which leaves its last digits out."""
        return any("E" in text or "e" in text for text in self.find(*headers) or ())

    def _converted(self, factor: int, headers: Sequence[str]) -> Int64s | None:
        found = self.find(*headers)
        if found is None:
            return None
        if isinstance(found, DictionaryArray):
            return _whole_numbers(found.values, factor)[found.codes]
        return _whole_numbers(found, factor)


_STAMPS = re.compile(r"(?:[0-9]{1,15}\.[0-9]{3}\n)*")
"""Lines of microseconds since 1970 with three decimals, as times of profiles mostly are."""


def _whole_numbers(texts: Sequence[str], factor: int) -> Int64s:
    """Decimal numbers times `factor`, -1 where a text is none; each distinct text is worked out once."""
    if factor == 1000:
        joined = "\n".join((*texts, ""))
        if _STAMPS.fullmatch(joined):
            return np.array(list(map(int, joined.replace(".", "").split("\n")[:-1])), dtype=np.int64)
    values: dict[str, int] = {}
    for text in texts:
        if text not in values:
            value = scaled(text, factor)
            values[text] = -1 if value is None else value
    return np.array([values[text] for text in texts], dtype=np.int64)
