"""Planned and measured memory over time on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen, QWheelEvent
from PySide6.QtWidgets import QWidget

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_signed
from memplan.gui.i18n import say, tr
from memplan.gui.model.memory.memory_curves import TierCurves
from memplan.gui.model.memory.step_curve import StepCurve
from memplan.gui.model.palette import Palette, tinted
from memplan.gui.model.ruler import byte_ticks
from memplan.gui.model.session.session import Session
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.tables.time_sheets import curves_sheet
from memplan.gui.theme import qt_colour
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.memory.memory_map_view import ShowTier, tier_entries
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.vector_shapes import draw_area, draw_steps, visible_steps
from memplan.gui.views.view import MenuEntry, ViewServices


class CurveView(TimeCanvas):
    """
    The session's memory curves: the planned one as a line over areas by kind, measured ones and fragmentation as lines.

    Bytes run from zero to a little above the highest value, or above the capacity when `show_capacity` is set.
    """

    by_loops = True

    def __init__(
        self,
        session: Session,
        palette: Palette,
        parent: QWidget | None = None,
        show_tier: ShowTier = Session.show_tier,
    ) -> None:
        super().__init__(session, palette, parent)
        self._show_tier = show_tier
        self.show_capacity = False
        self.hidden: set[str] = set()
        self._legend: list[tuple[float, str]] = []
        self._legend_first = 0
        self.session_changed()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.parent, services.loader.show_tier)

    def menu_entries(self) -> Sequence[MenuEntry | None]:
        """The curves to turn on and off, and the tiers to choose from."""
        curves: list[MenuEntry | None] = [
            MenuEntry(say(curve.title), partial(self.toggle, curve.name), checked=curve.name not in self.hidden)
            for curve, _ in self.all_lines()
        ]
        return [*curves, None, *tier_entries(self.session, self._show_tier)]

    def session_changed(self) -> None:
        """Another session: its first measured curve, which is the one compared with the plan where there is a plan."""
        event = self.session.tier_changed
        self._listening.append((event, event.connect(self.refresh)))
        compared = [curve.name for curve in self.curves.measured[:1]]
        self.hidden = {curve.name for curve, _ in self.all_lines()} - set(compared)

    @property
    def curves(self) -> TierCurves:
        """What is drawn: the session's."""
        return self.session.curves

    def layer_colour(self, name: str) -> int:
        """The colour of the area `name`: that of the kind of tensor, thinned, so that lines stand out."""
        return tinted(self.colours.kind(name), self.colours.role("ground"))

    def legend(self) -> list[tuple[StepCurve, int]]:
        """What the legend lists, each with its colour."""
        planned = self.curves.planned
        return [*([(planned, self.colours.role("planned"))] if planned is not None else []), *self.all_lines()]

    # -- what is shown -------------------------------------------------------------------------------------------

    def lines_shown(self) -> list[tuple[StepCurve, int]]:
        """Lines beside the planned one that are shown, each with its colour."""
        return [(curve, colour) for curve, colour in self.all_lines() if curve.name not in self.hidden]

    def all_lines(self) -> list[tuple[StepCurve, int]]:
        """
        The measured curve that is compared, fragmentation, and the other measured curves.

        Each has its colour, which stays the same while others are hidden.
        """
        palette = (self.colours.role("measured"), *self.colours.colours[2:])
        curves = self.curves
        lines = [(curve, palette[index % len(palette)]) for index, curve in enumerate(curves.measured)]
        if curves.unused is not None:
            lines.insert(1, (curves.unused, self.colours.role("warning")))
        return lines

    def toggle(self, name: str) -> None:
        """Show the line `name`, or hide it."""
        self.hidden.symmetric_difference_update({name})
        self.refresh()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Over the names: go through those that there is no room for."""
        if event.position().x() >= GUTTER_PX or event.modifiers() != Qt.KeyboardModifier.NoModifier:
            super().wheelEvent(event)
            return
        self._legend_first = max(self._legend_first - (1 if event.angleDelta().y() > 0 else -1), 0)
        self.update()
        event.accept()

    def clicked(self, position: QPointF) -> None:
        """Turn a curve on or off by a click on its name."""
        if position.x() < GUTTER_PX:
            for top, name in self._legend:
                if top <= position.y() < top + self.small_metrics.height() + 2:
                    self.toggle(name)

    @property
    def highest(self) -> float:
        """Bytes at the top of the view."""
        curves = self.curves
        values = [float(curve.peak[1]) for curve, _ in self.lines_shown() if len(curve.values)]
        if curves.planned is not None and len(curves.planned.values):
            values.append(float(curves.planned.peak[1]))
        if self.show_capacity and curves.capacity is not None:
            values.append(float(curves.capacity))
        return max([*values, 1.0]) * 1.2

    def y_of(self, value: float) -> float:
        """Widget row of a number of bytes."""
        return self.plot.bottom() + 1 - value / self.highest * self.plot.height()

    def columns(self, curve: StepCurve, count: int, ns_per_px: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lowest and highest value of `curve` in each of `count` columns of `ns_per_px`."""
        from memplan.gui.model.raster import columns_of_steps

        whole, fraction = self.whole_start()
        lowest, highest = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        columns_of_steps(curve.time_ns, curve.values, whole, fraction, ns_per_px, lowest, highest)
        return lowest, highest

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """Areas by kind, then the lines."""
        curves = self.curves
        if curves.planned is None and not curves.measured:
            return
        from memplan.gui.model.raster import paint_line, paint_stack  # compiled: not imported for an empty window

        rows, count = pixels.shape
        per_px = self.highest / rows
        for tick in byte_ticks(0, self.highest, max(self.plot.height() // 36, 2)):
            row = rows - 1 - int(tick.value / per_px)
            if 0 <= row < rows:
                pixels[row] = self.colours.role("grid")
        if curves.layers:
            heights = np.stack([self.columns(curve, count, ns_per_px)[1] for curve in curves.layers.values()])
            tints = np.array([self.layer_colour(kind) for kind in curves.layers], dtype=np.uint32)
            paint_stack(pixels, heights, 0.0, per_px, tints)
        thick = max(round(2 * scale), 1)
        for curve, colour in reversed(self.lines_shown()):
            paint_line(pixels, *self.columns(curve, count, ns_per_px), 0.0, per_px, colour, thick)
        if curves.planned is not None:
            line = self.colours.role("planned")
            paint_line(pixels, *self.columns(curves.planned, count, ns_per_px), 0.0, per_px, line, thick)

    def paint_vectors(self, painter: QPainter) -> None:
        """Areas and lines as shapes."""
        curves, count = self.curves, self.plot.width()
        whole, _ = self.whole_start()
        until = whole + int(count * self.ns_per_px) + 1
        foot = np.zeros(count)
        for name, curve in curves.layers.items():
            head = foot + np.maximum(self.columns(curve, count, self.ns_per_px)[1], 0)
            low, high = (self.plot.bottom() + 1 - values / self.highest * self.plot.height() for values in (foot, head))
            draw_area(painter, GUTTER_PX, low, high, self.layer_colour(name))
            foot = head
        planned = [(curves.planned, self.colours.role("planned"))] if curves.planned is not None else []
        for curve, colour in [*reversed(self.lines_shown()), *planned]:
            time, values = visible_steps(curve.time_ns, curve.values, whole, until)
            x = GUTTER_PX + (time - whole) / self.ns_per_px
            y = self.plot.bottom() + 1 - values / self.highest * self.plot.height()
            draw_steps(painter, x, y, values >= 0, float(self.width()), colour)

    def paint_over(self, painter: QPainter) -> None:
        """Peaks and the capacity."""
        curves = self.curves
        if curves.planned is None and not curves.measured:
            painter.setFont(self.text_font)
            painter.setPen(self.pen("faint"))
            text = tr("Neither plan nor profile holds a memory curve")
            painter.drawText(self.plot, int(Qt.AlignmentFlag.AlignCenter), text)
            return
        capacity = self._capacity_y()
        if capacity is not None:
            painter.setPen(self.pen("warning"))
            painter.drawLine(QPointF(GUTTER_PX, capacity), QPointF(self.width(), capacity))
        if curves.planned is not None and len(curves.planned.values):
            self._paint_peak(painter, curves.planned, self.colours.role("planned"), before=bool(curves.measured))
        for curve, colour in self.lines_shown()[:1]:
            self._paint_peak(painter, curve, colour)
        if capacity is not None and curves.capacity is not None:
            text = f"{tr('capacity')} {format_bytes(curves.capacity)}"
            self.add_tag(GUTTER_PX + 6, capacity + 13, text, self.pen("warning"))

    def sheet(self) -> Sheet:
        """Every point of the planned curve and of the lines shown."""
        planned = self.curves.planned
        return curves_sheet([*([planned] if planned is not None else []), *(curve for curve, _ in self.lines_shown())])

    def _capacity_y(self) -> float | None:
        """Widget row of the capacity, where it is within the view."""
        capacity = self.curves.capacity
        return self.y_of(capacity) if capacity is not None and capacity <= self.highest else None

    def _peak_baseline(self, y: float) -> float:
        """Where the text of a peak at row `y` stands: over it, and over the capacity too where that would strike it."""
        metrics, capacity = self.small_metrics, self._capacity_y()
        least = self.plot.top() + metrics.ascent() + 2.0
        baseline = max(y - 6, least)
        if capacity is not None and baseline - metrics.ascent() - 1 < capacity < baseline + metrics.descent() + 1:
            baseline = max(capacity - metrics.descent() - 2, least)
        return baseline

    def _paint_peak(self, painter: QPainter, curve: StepCurve, colour: int, *, before: bool = False) -> None:
        """A dot at the peak and its text after it, or before it so that the texts of two peaks keep apart."""
        time, value = curve.peak
        x, y = self.x_of(float(time - self.session.origin_ns)), self.y_of(value)
        if not GUTTER_PX <= x <= self.width():
            return
        pen = QPen(qt_colour(colour))
        painter.setPen(pen)
        painter.setBrush(qt_colour(colour))
        painter.drawEllipse(QPointF(x, y), 3.5, 3.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        text = f"{say(curve.title)} {tr('peak')} {format_bytes(value)}"
        width = self.small_metrics.horizontalAdvance(text)
        left = max(x - 9 - width, GUTTER_PX + 4.0) if before else min(x + 9, self.width() - width - 6.0)
        self.add_tag(left, self._peak_baseline(y), text, pen)

    def paint_gutter(self, painter: QPainter) -> None:
        """Title, legend with the values at the cursor, and bytes."""
        painter.setFont(self.text_font)
        painter.setPen(self.pen("text"))
        painter.drawText(QPointF(8, self.ruler_px + 16), f"{tr('Memory')} · {self.session.tier.value}")
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        legend = self.legend()
        clock = self._cursor_ns()
        room = GUTTER_PX - (96 if clock is not None else 34)
        y = self.ruler_px + 36
        self._legend = []
        taken: list[tuple[float, float]] = []
        rows = max(int(self.height() - y - metrics.descent()) // (metrics.height() + 2) + 1, 1)
        further = len(legend) > rows
        self._legend_first = min(self._legend_first, max(len(legend) - rows + 1, 0)) if further else 0
        shown_rows = legend[self._legend_first : self._legend_first + rows - 1] if further else legend
        if further:
            left_out = len(legend) - len(shown_rows)
            painter.setPen(self.pen("faint"))
            line = self.ruler_px + 36 + len(shown_rows) * (metrics.height() + 2)
            painter.drawText(QPointF(26, line), say(Sentence("{} more: turn the wheel here", (str(left_out),))))
        for curve, colour in shown_rows:
            shown = curve.name not in self.hidden
            if shown:
                self.block(painter, QRectF(10, y - 6, 12, 3), colour)
            else:
                painter.setPen(self.pen("line"))
                painter.drawRect(QRectF(10, y - 6, 12, 3))
            painter.setPen(self.pen("text" if shown else "faint"))
            label = metrics.elidedText(say(curve.title), Qt.TextElideMode.ElideRight, room)
            painter.drawText(QPointF(26, y), label)
            value = curve.at(clock) if clock is not None else None
            if value is not None:
                text = format_bytes(value)
                painter.drawText(QPointF(GUTTER_PX - metrics.horizontalAdvance(text) - 8, y), text)
            self._legend.append((y - metrics.ascent(), curve.name))
            taken.append((y, 26.0 + metrics.horizontalAdvance(label)))
            y += metrics.height() + 2
        bottom = y if further else self.height() + metrics.height()
        first, last = self.ruler_px + 36 - 2 * metrics.height(), y - metrics.ascent() + 2
        for tick in byte_ticks(0, self.highest, max(self.plot.height() // 36, 2)) if legend else ():
            row = self.y_of(tick.value)
            width = metrics.horizontalAdvance(tick.text)
            painter.setPen(self.pen("faint"))
            if (
                self.plot.top() + 8 < row
                and not any(abs(row + 4 - y) < metrics.height() and GUTTER_PX - width - 14 < end for y, end in taken)
                and abs(row - bottom) > metrics.height()
                and (clock is None or not first < row < last)
            ):  # values stand there
                painter.drawText(QPointF(GUTTER_PX - width - 8, row + (4 if tick.value else -1)), tick.text)

    def cursor_moved(self) -> None:
        """The values beside the plot are those at the cursor."""
        self.update()

    def _cursor_ns(self) -> int | None:
        """Where the cursor is on the profile's clock, whichever view the mouse is over."""
        cursor = self.session.viewport.cursor
        return self.session.origin_ns + int(np.floor(cursor)) if cursor is not None else None

    def paint_top(self, painter: QPainter) -> None:
        """Values at the cursor, beside the mouse."""
        if self.mouse is None or self.mouse.x() < GUTTER_PX:
            return
        self.paint_hover(painter, self.lines(self.time_at(self.mouse.x())))

    def lines(self, time: float) -> list[str]:
        """Every curve's value at `time`, and planned minus measured."""
        clock = self.session.origin_ns + int(np.floor(time))
        curves = self.curves
        lines = [say(self.session.length_text(time))]
        planned = curves.planned.at(clock) if curves.planned is not None else None
        if planned is not None:
            lines.append(f"{tr('planned')}: {format_bytes(planned)}")
        for curve, _ in self.lines_shown():
            value = curve.at(clock)
            if value is None:
                continue
            extra = ""
            if curve is next(iter(curves.measured), None) and planned is not None:
                extra = f"  ({tr('planned − measured')} {signed_bytes(planned - value)})"
            lines.append(f"{say(curve.title)}: {format_bytes(value)}{extra}")
        return lines if len(lines) > 1 else []


def signed_bytes(value: int) -> str:
    """A difference of bytes with its sign."""
    return format_signed(format_bytes, value)
