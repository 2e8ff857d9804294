"""Shapes of a plot as vectors, for pictures that are scaled: rectangles of slices, areas and lines of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen, QPolygonF

from memplan.core.arrays import Floats, Int64s
from memplan.gui.theme import qt_colour

MOST_SHAPES = 20_000
"""Shapes of one lane or map; of more, those that are narrowest on the screen are left out."""
_LEAST_PX = 0.2


def draw_boxes(
    painter: QPainter, left: Floats, right: Floats, top: Floats, bottom: Floats, colours: NDArray[np.uint32]
) -> None:
    """A filled rectangle each, in pixels; none is narrower than can be seen."""
    keep = np.arange(len(left))
    if len(keep) > MOST_SHAPES:
        keep = np.sort(np.argpartition(left - right, MOST_SHAPES)[:MOST_SHAPES])
    painter.setPen(Qt.PenStyle.NoPen)
    last = -1
    for row in keep.tolist():
        if int(colours[row]) != last:
            last = int(colours[row])
            painter.setBrush(qt_colour(last))
        width = max(float(right[row] - left[row]), _LEAST_PX)
        painter.drawRect(QRectF(float(left[row]), float(top[row]), width, float(bottom[row] - top[row])))
    painter.setBrush(Qt.BrushStyle.NoBrush)


def draw_area(painter: QPainter, x0: float, low: Floats, high: Floats, colour: int) -> None:
    """What lies between two rows of heights, one a column of a pixel, from column `x0` on."""
    columns = np.arange(len(low), dtype=np.float64)
    points = [QPointF(x0 + x + side, y) for x, y in zip(columns, high, strict=True) for side in (0, 1)]
    points += [QPointF(x0 + x + side, y) for x, y in zip(columns[::-1], low[::-1], strict=True) for side in (1, 0)]
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(qt_colour(colour))
    painter.drawPolygon(QPolygonF(points))
    painter.setBrush(Qt.BrushStyle.NoBrush)


def draw_steps(painter: QPainter, x: Floats, y: Floats, known: NDArray[np.bool_], end: float, colour: int) -> None:
    """A line that keeps each height until the next column, and the last one until `end`; none where not `known`."""
    pen = QPen(qt_colour(colour))
    pen.setWidthF(1.5)
    painter.setPen(pen)
    points: list[QPointF] = []
    for place in range(len(x)):
        if not known[place]:
            painter.drawPolyline(QPolygonF(points))
            points = []
            continue
        until = float(x[place + 1]) if place + 1 < len(x) else end
        points += [QPointF(float(x[place]), float(y[place])), QPointF(until, float(y[place]))]
    painter.drawPolyline(QPolygonF(points))


def visible_steps(time_ns: Int64s, values: Int64s, first: int, last: int) -> tuple[Int64s, Int64s]:
    """The points of a step function that can be seen between two moments, the one in force at first included."""
    low = max(int(np.searchsorted(time_ns, first, side="right")) - 1, 0)
    high = int(np.searchsorted(time_ns, last))
    step = max((high - low) // MOST_SHAPES, 1)
    return time_ns[low:high:step], values[low:high:step]
