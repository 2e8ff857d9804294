"""Counters of a track as filled columns: in the image of the timeline, and as an area of a vector picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QPainter

from memplan.gui.model.timeline.counter_text import highest
from memplan.gui.views.vector_shapes import draw_area
from memplan.traces.profile import CounterSeries

_ABOVE_PX = 4
"""What stays free above the highest value."""


def draw_counters(
    painter: QPainter,
    counters: Sequence[CounterSeries],
    edges: NDArray[np.int64],
    place: tuple[float, float, float],
    colour: Callable[[str], int],
) -> None:
    """
    Draw the highest values between `edges` as areas, one series over the other, to one scale.

    `place` is their left side, top and height in pixels.
    """
    left, y, height = place
    top = max((highest(series) for series in counters), default=0)
    if top <= 0:
        return
    for name, series in _named(counters):
        tall = counter_columns(series, edges) / top * (height - _ABOVE_PX)
        foot = np.full(len(tall), y + height)
        draw_area(painter, left, foot, foot - tall, colour(name))


def _named(counters: Sequence[CounterSeries]) -> list[tuple[str, CounterSeries]]:
    """
    Every series with what its colour goes by: those of one track differ also where they have one name.

    One alone has none: its track says what it counts, and colours are for what is told apart.
    """
    if len(counters) == 1:
        return [("", counters[0])]
    return [(f"{series.name}{place or ''}", series) for place, series in enumerate(counters)]


def paint_counters(
    pixels: NDArray[np.uint32],
    counters: Sequence[CounterSeries],
    rows: tuple[int, int],
    edges: NDArray[np.int64],
    colour: Callable[[str], int],
) -> None:
    """Paint the highest values between `edges` into `rows` (first, last) of `pixels`, one series over the other."""
    first, last = rows
    top = max((highest(series) for series in counters), default=0)
    if top <= 0:
        return
    shown = slice(max(first, 0), min(last, pixels.shape[0]))
    for name, series in _named(counters):
        tall = np.rint(counter_columns(series, edges) / top * (last - first - _ABOVE_PX)).astype(np.int64)
        below = (last - np.arange(shown.start, shown.stop))[:, None] <= tall[None, :]
        pixels[shown][below] = colour(name)


def counter_columns(series: CounterSeries, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Highest value of `series` between neighbouring `edges`; a sample holds until the next one."""
    if not len(series.time_ns):
        return np.zeros(len(edges) - 1)
    first = np.searchsorted(series.time_ns, edges[:-1], side="right") - 1
    last = np.searchsorted(series.time_ns, edges[1:], side="left")
    values = np.where(np.isfinite(series.values), series.values, 0.0)
    bounds = np.clip(np.stack([first, np.maximum(last, first + 1)], axis=1), 0, len(values)).ravel()
    padded = np.append(values, 0.0)
    tops = np.maximum.reduceat(padded, bounds)[::2]
    return np.where(last <= 0, 0.0, tops)
