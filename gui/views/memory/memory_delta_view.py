"""Planned minus measured memory over time: above the zero line the plan holds more, below it the run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QPainter

from memplan.core.arrays import Int64s
from memplan.core.units import format_duration
from memplan.gui.i18n import tr
from memplan.gui.model.ruler import byte_ticks
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.tables.time_sheets import curves_sheet
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.memory.memory_curve_view import signed_bytes
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.vector_shapes import draw_area


class MemoryDeltaView(TimeCanvas):
    """The session's difference curve as areas on both sides of zero; the larger side sets the scale of both."""

    by_loops = True

    @property
    def reach(self) -> float:
        """Bytes from the zero line to the edge of the view."""
        curve = self.session.curves.difference
        return max(float(curve.largest) if curve is not None else 0.0, 1.0) * 1.15

    def y_of(self, value: float) -> float:
        """Widget row of a signed number of bytes."""
        return self.plot.top() + self.plot.height() * (0.5 - value / self.reach / 2)

    def session_changed(self) -> None:
        """Another session or tier: another curve."""
        event = self.session.tier_changed
        self._listening.append((event, event.connect(self.refresh)))

    def _columns(self, count: int, ns_per_px: float) -> tuple[Int64s, Int64s, NDArray[np.bool_]]:
        """Lowest and highest difference in each of `count` columns, and where there is one at all."""
        from memplan.gui.model.raster import columns_of_steps  # compiled: not imported for an empty window

        curve = self.session.curves.difference
        lowest, highest = np.full(count, -1, dtype=np.int64), np.full(count, -1, dtype=np.int64)
        if curve is None:
            return lowest, highest, highest >= 0
        whole, fraction = self.whole_start()
        # The kernel reads values below zero as gaps, so that signed ones are lifted for it.
        lift = curve.largest + 1
        columns_of_steps(curve.time_ns, curve.values + lift, whole, fraction, ns_per_px, lowest, highest)
        return lowest - lift, highest - lift, highest >= 0

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """The area between zero and the curve, in the colour of whichever side holds more."""
        curve = self.session.curves.difference
        if curve is None:
            return
        rows, count = pixels.shape
        lowest, highest, known = self._columns(count, ns_per_px)
        height = rows / 2 / self.reach
        row = np.arange(rows)[:, None]
        above = rows / 2 - highest * height
        below = rows / 2 - lowest * height
        pixels[(row >= above) & (row < rows / 2) & known] = self.colours.role("planned")
        pixels[(row < below) & (row >= rows / 2) & known] = self.colours.role("measured")
        pixels[rows // 2] = self.colours.role("line")

    def paint_vectors(self, painter: QPainter) -> None:
        """The same as two areas from zero."""
        curve = self.session.curves.difference
        if curve is None:
            return
        lowest, highest, known = self._columns(self.plot.width(), self.ns_per_px)
        zero = np.full(len(known), self.y_of(0.0))
        above, below = (self.y_of(0.0) - np.where(known, value, 0) * self.plot.height() / self.reach / 2
                        for value in (np.maximum(highest, 0), np.minimum(lowest, 0)))  # fmt: skip
        draw_area(painter, GUTTER_PX, zero, above, self.colours.role("planned"))
        draw_area(painter, GUTTER_PX, zero, below, self.colours.role("measured"))
        painter.setPen(self.pen("line"))
        painter.drawLine(QPointF(GUTTER_PX, self.y_of(0.0)), QPointF(self.width(), self.y_of(0.0)))

    def paint_over(self, painter: QPainter) -> None:
        """What the sides mean, or why there is nothing."""
        painter.setFont(self.small_font)
        curve = self.session.curves.difference
        if curve is None:
            painter.setPen(self.pen("faint"))
            text = tr("Planned and measured memory are needed to show their difference")
            painter.drawText(self.plot, int(Qt.AlignmentFlag.AlignCenter), text)
            return
        painter.setPen(self.pen("planned"))
        painter.drawText(QPointF(GUTTER_PX + 8, self.plot.top() + 14), f"▲ {tr('the plan holds more')}")
        painter.setPen(self.pen("measured"))
        painter.drawText(QPointF(GUTTER_PX + 8, self.plot.bottom() - 6), f"▼ {tr('the run holds more')}")

    def paint_gutter(self, painter: QPainter) -> None:
        """Title and bytes."""
        painter.setFont(self.text_font)
        painter.setPen(self.pen("text"))
        painter.drawText(QPointF(8, self.ruler_px + 16), tr("Planned − measured"))
        if self.session.curves.difference is None:
            return
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        painter.setPen(self.pen("faint"))
        for tick in byte_ticks(0, self.reach, max(self.plot.height() // 90, 2)):
            for value in {tick.value, -tick.value}:
                row = self.y_of(value)
                text = signed_bytes(round(value)) if value else "0"
                if self.plot.top() + 26 < row < self.height() - 4:
                    painter.drawText(QPointF(GUTTER_PX - metrics.horizontalAdvance(text) - 8, row + 4), text)

    def paint_top(self, painter: QPainter) -> None:
        """The difference at the mouse."""
        curve = self.session.curves.difference
        if curve is None or self.mouse is None or self.mouse.x() < GUTTER_PX:
            return
        time = self.time_at(self.mouse.x())
        value = curve.at(self.session.origin_ns + int(np.floor(time)))
        if value is not None:
            self.paint_hover(painter, [signed_bytes(value), f"{tr('planned − measured')} @ {format_duration(time)}"])

    def sheet(self) -> Sheet:
        """Every point of the curve."""
        curve = self.session.curves.difference
        return curves_sheet([curve] if curve is not None else [])
