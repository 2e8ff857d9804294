"""The time axis of a view: which moment a column is, the ruler above, and what is marked on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QPointF, QRect, QRectF
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import say
from memplan.gui.model.palette import Palette
from memplan.gui.model.ruler import Tick, event_ticks, time_ticks
from memplan.gui.model.session.session import Session
from memplan.gui.views.painted_widget import PaintedWidget

GUTTER_PX = 210
RULER_PX = 26
_MOST_PLACES = 2000
"""Places of one thing that are marked."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the columns show: from `whole_ns + fraction` on the profile's clock, `width` pixels of `ns_per_px`."""

    whole_ns: int
    fraction: float
    ns_per_px: float
    width: int


class TimeAxis(PaintedWidget):
    """A widget whose columns are moments: `GUTTER_PX` of labels at the left, then the viewport of its session."""

    ruler_px = RULER_PX
    strip_px = 0  # what lies between the ruler and the plot, part of `ruler_px`

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(palette, parent)
        self.session = session

    @property
    def plot(self) -> QRect:
        """The part of the widget whose columns are moments."""
        return QRect(GUTTER_PX, self.ruler_px, max(self.width() - GUTTER_PX, 1), max(self.height() - self.ruler_px, 1))

    @property
    def ns_per_px(self) -> float:
        """Nanoseconds per logical pixel."""
        return self.session.viewport.span / self.plot.width()

    def time_at(self, x: float) -> float:
        """The moment at widget column `x`, in nanoseconds from the origin."""
        return self.session.viewport.start + (x - GUTTER_PX) * self.ns_per_px

    def x_of(self, time: float) -> float:
        """Widget column of a moment."""
        return GUTTER_PX + (time - self.session.viewport.start) / self.ns_per_px

    def whole_start(self) -> tuple[int, float]:
        """The viewport's start on the profile's clock: whole nanoseconds, and the rest."""
        start = self.session.viewport.start
        whole = int(np.floor(start))
        return self.session.origin_ns + whole, start - whole

    def stretch(self) -> Stretch:
        """What is shown now: asked for once where many things are placed on it."""
        return Stretch(*self.whole_start(), self.ns_per_px, self.plot.width())

    def paint_ruler(self, painter: QPainter) -> None:
        """The length of what is shown, and its round moments with their texts."""
        bottom = self.ruler_px - self.strip_px
        self.block(painter, QRectF(0, 0, self.width(), self.ruler_px), self.colours.role("window"))
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        painter.setPen(self.pen("faint"))
        painter.drawText(8, bottom - 9, f"⟷ {say(self.session.length_text(self.session.viewport.span))}")
        free = float(GUTTER_PX - 1)
        for tick in self.ticks():
            x = self.x_of(tick.value)
            painter.setPen(self.pen("line"))
            painter.drawLine(QPointF(x, bottom - 6), QPointF(x, bottom))
            end = x + 4 + metrics.horizontalAdvance(tick.text)
            if free <= x and end < self.width():
                painter.setPen(self.pen("text"))
                painter.drawText(QPointF(x + 4, bottom - 9), tick.text)
                free = end
        painter.setPen(self.pen("line"))
        painter.drawLine(0, bottom - 1, self.width(), bottom - 1)
        self.paint_ruler_marks(painter, bottom)

    def ticks(self) -> list[Tick]:
        """The round moments of the ruler, which lines in the plot lead down."""
        ticks = event_ticks if self.session.counted else time_ticks
        return ticks(self.session.viewport.start, self.session.viewport.end, max(self.plot.width() // 130, 2))

    def paint_ruler_marks(self, painter: QPainter, bottom: int) -> None:
        """Paint what is marked on the ruler, which ends at row `bottom`."""

    def paint_marks(self, painter: QPainter, plot: QRect) -> None:
        """The selected time range, marked places, markers and the cursor, over the plot."""
        viewport, warning = self.session.viewport, self.colours.role("warning")
        if viewport.selected_range is not None:
            left, right = (self.x_of(time) for time in viewport.selected_range)
            area = QRectF(left, plot.top(), max(right - left, 1.0), plot.height())
            self.block(painter, area, self.colours.role("selection"), 40)
            painter.setPen(self.pen("selection"))
            painter.drawLine(QPointF(left, plot.top()), QPointF(left, plot.bottom()))
            painter.drawLine(QPointF(right, plot.top()), QPointF(right, plot.bottom()))
        for start, end in self.session.marked_spans()[:_MOST_PLACES]:
            left, right = (self.x_of(float(time - self.session.origin_ns)) for time in (start, end))
            if right < plot.left() or left > plot.right():
                continue
            self.block(painter, QRectF(left, plot.top(), max(right - left, 1.0), plot.height()), warning, 45)
            painter.setPen(self.pen("warning"))
            for x in (left, right):
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
        for marker in self.session.markers:
            x = self.x_of(marker)
            painter.setPen(self.pen("warning", 1.5))
            painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            self.add_tag(x + 3, plot.bottom() - 5, self.session.marker_name(marker), self.pen("warning"))
        if viewport.cursor is not None:
            painter.setPen(self.pen("faint", 1.0, 160))
            x = self.x_of(viewport.cursor)
            painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
