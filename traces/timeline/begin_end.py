"""Slices that a trace tells by two events: where they begin (`B`) and where they end (`E`)."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int32s, Int64s

BEGIN_MARK, END_MARK = -2, -3
"""What stands for a duration in rows that are one end of a slice."""


def joined_durations(start_ns: Int64s, duration_ns: Int64s, thread: Int32s) -> tuple[Int64s, int]:
    """
    Durations of slices with those of begins filled in, and how many ends belong to nothing; ends stay negative.

    An end closes the slice of its thread that was opened last, in order of time and, of one time, of the file.
    """
    halves = np.flatnonzero(duration_ns < 0)
    halves = halves[np.lexsort((halves, start_ns[halves], thread[halves]))]
    duration = duration_ns.copy()
    opened: list[int] = []
    current, stray = -1, 0
    for row, of, time in zip(halves.tolist(), thread[halves].tolist(), start_ns[halves].tolist(), strict=True):
        if of != current:
            stray += len(opened)
            current, opened = of, []
        if duration[row] == BEGIN_MARK:
            opened.append(row)
        elif opened:
            begun = opened.pop()
            duration[begun] = time - int(start_ns[begun])
        else:
            stray += 1
    return duration, stray + len(opened)
