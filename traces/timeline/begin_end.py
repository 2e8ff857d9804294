"""Slices that a trace tells by two events: where they begin (`B`) and where they end (`E`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from memplan.traces.timeline.events import SliceRows

BEGIN_MARK, END_MARK = -2, -3
"""What stands for a duration in rows that are one end of a slice."""


def joined_slices(rows: SliceRows) -> tuple[SliceRows, int]:
    """
    `rows` with the two ends of each slice as one row, in the place of its begin, and how many ends belong to nothing.

    An end closes the slice of its thread that was opened last, in order of time and, of one time, of the file.
    """
    if not (rows.duration_ns < 0).any():
        return rows, 0
    halves = np.flatnonzero(rows.duration_ns < 0)
    halves = halves[np.lexsort((halves, rows.start_ns[halves], rows.thread[halves]))]
    duration = rows.duration_ns.copy()
    opened: list[int] = []
    thread, stray = -1, 0
    columns = (halves.tolist(), rows.thread[halves].tolist(), rows.start_ns[halves].tolist())
    for row, of, time in zip(*columns, strict=True):
        if of != thread:
            stray += len(opened)
            thread, opened = of, []
        if duration[row] == BEGIN_MARK:
            opened.append(row)
        elif opened:
            begun = opened.pop()
            duration[begun] = time - int(rows.start_ns[begun])
        else:
            stray += 1
    stray += len(opened)
    whole = replace(rows, duration_ns=duration)
    kept = duration >= 0
    return type(rows)(*(getattr(whole, name)[kept] for name in type(rows).__dataclass_fields__)), stray


def stray_note(count: int) -> str:
    """What to say of ends of slices that have no other end."""
    return f"{count} events of phases 'B' and 'E' have no other end and are not shown"
