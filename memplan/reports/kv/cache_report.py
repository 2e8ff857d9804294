"""The imported profiles in the user's cache directory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from memplan.core.units import format_bytes
from memplan.reports.report import Column, Quantity, Report, ReportTable, section
from memplan.traces.timeline.store import Entry

_ENTRIES = (Column("imported"), Column("size", Quantity.BYTES), Column("from"))


def cache_report(folder: Path, entries: Sequence[Entry]) -> Report:
    """What is kept in `folder`."""
    rows = tuple(
        (datetime.fromtimestamp(item.created).strftime("%Y-%m-%d %H:%M"), item.size, ", ".join(item.sources))
        for item in entries
    )
    total = format_bytes(sum(entry.size for entry in entries))
    return Report(
        title=f"{len(entries)} imported profiles, {total}, in {folder}",
        sections=(section("", ReportTable(_ENTRIES, rows)),) if rows else (),
        document=lambda: {
            "folder": str(folder),
            "entries": [
                {"sources": list(item.sources), "bytes": item.size, "created": int(item.created)} for item in entries
            ],
        },
    )
