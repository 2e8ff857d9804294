"""Small texts over a picture, such as that of a peak: none lies over another, and no line strikes one."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen

_ROWS_BELOW = 6
"""Rows that a text moves down at most to keep clear of others."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A small text in `area` of a picture."""

    area: QRectF
    text: str
    pen: QPen


class Tags:
    """The small texts of one frame, painted after everything that could strike them."""

    def __init__(self) -> None:
        self.placed: list[Tag] = []

    def clear(self) -> None:
        """Begin another frame."""
        self.placed.clear()

    def add(self, area: QRectF, text: str, pen: QPen) -> None:
        """A text in `area`, or below others that it would hide there."""
        for _ in range(_ROWS_BELOW):
            if not any(area.intersects(tag.area) for tag in self.placed):
                break
            area.translate(0, area.height() + 1)
        self.placed.append(Tag(area, text, pen))

    def paint(self, painter: QPainter, ascent: int, ground: QColor) -> None:
        """Every text on a plate of the colour `ground`, with the painter's font."""
        for tag in self.placed:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(ground)
            painter.drawRect(tag.area)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(tag.pen)
            painter.drawText(QPointF(tag.area.left() + 2, tag.area.top() + ascent), tag.text)
