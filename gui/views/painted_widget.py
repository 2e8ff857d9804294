"""A widget that is painted with the colours of the theme: its fonts and pens, small texts, and a box of text."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QWidget

from memplan.gui.model.palette import Palette
from memplan.gui.theme import qt_colour
from memplan.gui.views.tags import Tags


class PaintedWidget(QWidget):
    """What paints itself in the colours of `palette`."""

    covered_px = 0  # what a scroll bar takes at the right edge

    def __init__(self, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.colours = palette
        self.text_font = QFont(self.font())
        self.text_font.setPixelSize(12)
        self.small_font = QFont(self.font())
        self.small_font.setPixelSize(11)
        self.small_metrics = QFontMetrics(self.small_font)
        self._pens: dict[tuple[str, float, int], QPen] = {}
        self._tags = Tags()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self._pens.clear()
        self.update()

    def block(self, painter: QPainter, rectangle: QRectF, colour: int, alpha: int = 255) -> None:
        """A filled rectangle; `QPainter.fillRect` is avoided because it leaks references to None."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(qt_colour(colour, alpha))
        painter.drawRect(rectangle)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def pen(self, role: str, width: float = 1.0, alpha: int = 255) -> QPen:
        """A pen in the theme's colour for `role`."""
        kept = self._pens.get((role, width, alpha))
        if kept is None:
            kept = self._pens[role, width, alpha] = QPen(qt_colour(self.colours.role(role), alpha))
            kept.setWidthF(width)
        return kept

    def add_tag(self, x: float, baseline: float, text: str, pen: QPen) -> None:
        """A small text to be read over whatever the frame holds; below others of it that it would hide."""
        metrics = self.small_metrics
        width = metrics.horizontalAdvance(text) + 4
        self._tags.add(QRectF(x - 2, baseline - metrics.ascent(), width, metrics.height()), text, pen)

    def paint_tags(self, painter: QPainter) -> None:
        """The small texts of this frame, over all that could strike them."""
        painter.setFont(self.small_font)
        self._tags.paint(painter, self.small_metrics.ascent(), qt_colour(self.colours.role("ground"), 215))

    def paint_box(self, painter: QPainter, beside: QPointF, lines: Sequence[str]) -> None:
        """A box of text right of and below a place, kept inside the widget."""
        painter.setFont(self.text_font)
        metrics = QFontMetrics(self.text_font)
        longest = max(self.width() - self.covered_px - 60, 120)
        shown = [metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, min(longest, 640)) for line in lines]
        width = max(metrics.horizontalAdvance(line) for line in shown) + 16
        height = metrics.height() * len(shown) + 10
        x = max(min(beside.x() + 14, self.width() - self.covered_px - width - 4), 2)
        y = beside.y() + 16
        if y + height > self.height():
            y = max(beside.y() - height - 8, 2)
        painter.setPen(self.pen("line"))
        painter.setBrush(qt_colour(self.colours.role("window"), 245))
        painter.drawRoundedRect(QRectF(x, y, width, height), 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for row, line in enumerate(shown):
            painter.setPen(self.pen("text" if row == 0 else "faint"))
            painter.drawText(QPointF(x + 8, y + 5 + metrics.ascent() + row * metrics.height()), line)
