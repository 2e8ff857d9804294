"""Sections and tables of the benchmarks' pages, and how shares are written in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def section(title: str, about: str) -> Iterator[str]:
    """The start of a section: its heading, and a paragraph on what is below."""
    yield f"## {title}"
    yield ""
    yield about
    yield ""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"
    yield ""


def percent(share: float | None) -> str:
    """A share as text."""
    return "-" if share is None else f"{share:.1%}"
