"""Rows of CSV files as spreadsheets are to read them: names are text, whatever they begin with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Source: OWASP, CSV Injection."""


def csv_rows(rows: Iterable[Sequence[object]]) -> Iterator[list[object]]:
    """
    `rows` with an apostrophe before every text that a spreadsheet would run as a formula.

    Names come from graphs and profiles of others. Numbers stay numbers, as text too, and so does a lone sign.
    """
    return ([_told(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def _told(text: str) -> str:
    if not text.startswith(_FORMULA_STARTS) or len(text) == 1:
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
