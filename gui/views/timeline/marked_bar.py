"""A vertical scroll bar with marks where something is to be seen, and out of sight while everything fits."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QScrollBar, QWidget

_MARK_PX = 3


class MarkedBar(QScrollBar):
    """Lies over the edge of what it scrolls; `marks` are heights of the whole, from 0 at its top to 1 at its foot."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(Qt.Orientation.Vertical, parent)
        self.marks: tuple[float, ...] = ()
        self._colour = QColor()
        self.rangeChanged.connect(lambda _, highest: self.setVisible(highest > 0))
        self.hide()

    def show_marks(self, marks: Sequence[float], colour: QColor) -> None:
        """Show other marks."""
        self.marks, self._colour = tuple(marks), colour
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """The handle, and the marks over it."""
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        for mark in self.marks:
            painter.drawRect(QRectF(2, mark * (self.height() - _MARK_PX), self.width() - 4, _MARK_PX))
        painter.end()
