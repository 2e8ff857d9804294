"""
Samples of a memory curve as they are read, in bounded memory however long the recording was.

A recording of hours holds tens of millions of samples. Beyond `MOST_SAMPLES` of a curve, of every 2^k samples in a row
the first, the last and those with the lowest and the highest value of each quantity are kept: real samples at their
own times, so peaks and troughs stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.distinct import running_count
from memplan.core.sentence import Sentence
from memplan.traces.profile import MemoryCurve

MOST_SAMPLES = 1 << 20
"""Samples of a curve that are kept; 32 MB."""
_ABSENT = -1
_HIGHEST = np.iinfo(np.int64).max


class CurveSamples:
    """The samples of one curve: time and quantities by column, -1 for a quantity that a sample leaves out."""

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self._most = most
        self._parts: list[tuple[Int64s, ...]] = []
        self._kept = 0
        self.seen = 0
        """Samples added so far."""
        self.bucket = 1
        """Samples in a row of which the outermost are kept; 1 as long as all are."""

    def add(self, *columns: Int64s) -> None:
        """Add the samples that come next in the file: times, and each quantity that they tell."""
        numbers = np.arange(self.seen, self.seen + len(columns[0]), dtype=np.int64)
        self._parts.append((numbers, *columns))
        self.seen += len(numbers)
        self._kept += len(numbers)
        if self._kept > self._most:
            self._thin()

    def columns(self) -> Sequence[Int64s]:
        """What is kept, by column, in the order in which it was added."""
        return self._joined()[1:]

    def _joined(self) -> tuple[Int64s, ...]:
        if len(self._parts) > 1:
            self._parts = [tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))]
        return self._parts[0]

    def _thin(self) -> None:
        """Widen the buckets until half of what may be kept is left."""
        kept = self._joined()
        if self.bucket > 1:
            kept = _outermost(kept, self.bucket)
        while len(kept[0]) > self._most // 2:
            self.bucket *= 2
            kept = _outermost(kept, self.bucket)
        self._parts = [kept]
        self._kept = len(kept[0])


def _outermost(columns: tuple[Int64s, ...], bucket: int) -> tuple[Int64s, ...]:
    """Of each bucket of samples the first, the last, and the lowest and highest of every column."""
    numbers = columns[0] // bucket
    fresh = np.diff(numbers, prepend=-1) != 0
    starts = np.flatnonzero(fresh)
    place = running_count(fresh) - 1
    keep = fresh.copy()
    keep[np.append(starts[1:], len(numbers)) - 1] = True
    for column in columns[1:]:
        lowest = np.minimum.reduceat(np.where(column == _ABSENT, _HIGHEST, column), starts)
        highest = np.maximum.reduceat(column, starts)
        for level in (lowest, highest):
            keep |= _first_of_each(column == level[place], place)
    return tuple(column[keep] for column in columns)


def _first_of_each(hit: Bools, place: Int64s) -> Bools:
    """The first row of each bucket that is hit."""
    rows = np.flatnonzero(hit)
    first = np.zeros(len(hit), dtype=np.bool_)
    first[rows[np.diff(place[rows], prepend=-1) != 0]] = True
    return first


def bounded(curve: MemoryCurve) -> tuple[MemoryCurve, int]:
    """The curve with at most `MOST_SAMPLES` samples, and the samples in a row of which the outermost are kept."""
    if len(curve.time_ns) <= MOST_SAMPLES:
        return curve, 1
    quantities = (curve.allocated, curve.reserved, curve.active)
    samples = CurveSamples()
    samples.add(curve.time_ns, *(column for column in quantities if column is not None))
    time, *rest = samples.columns()
    told = iter(rest)
    allocated, reserved, active = (None if column is None else next(told) for column in quantities)
    return MemoryCurve(curve.component, curve.device, time, allocated, reserved, active), samples.bucket


def thinned_note(component: str, seen: int, bucket: int) -> Sentence:
    """What to say of a curve of which not every sample is kept."""
    return Sentence(
        "{:,} [sample|samples] of {} are more than are kept: of every {} in a row the first, the last, the "
        "lowest and the highest",
        (seen, component, bucket),
    )
