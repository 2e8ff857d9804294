"""What every view on the common time axis shares: its columns, its navigation and the parts all of them draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QHideEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QMoveEvent,
    QPaintEngine,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import say, tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.ruler import Tick, event_ticks, time_ticks
from memplan.gui.model.session.session import Session
from memplan.gui.model.viewport import ZOOM_STEP
from memplan.gui.views.tags import Tags
from memplan.gui.views.view import ViewServices

GUTTER_PX = 210
RULER_PX = 26
_PAN_SHARE = 0.15
_DRAG_PX = 4
_MOST_PLACES = 2000
"""Places of one thing that are marked."""


class TimeCanvas(QWidget):
    """
    A widget whose columns are moments: `GUTTER_PX` of labels at the left, then the viewport of its session.

    Sub-classes paint pixels in `paint_pixels` (one numpy image a frame, kept until something changes) and everything
    else in `paint_over`. Wheel with Ctrl, W, S zoom at the mouse; A, D, arrows and dragging pan; Shift and dragging
    selects a time range.
    """

    hovered = Signal(str)
    ruler_px = RULER_PX
    own_ruler = False  # whether it has a ruler also under another view of the same columns
    strip_px = 0  # what lies between the ruler and the plot, part of `ruler_px`
    covered_px = 0  # what a scroll bar takes at the right edge
    by_loops = False  # whether there is nothing to see before the session's loops are loaded

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(GUTTER_PX + 80, 60)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.colours = palette
        self.text_font = QFont(self.font())
        self.text_font.setPixelSize(12)
        self.small_font = QFont(self.font())
        self.small_font.setPixelSize(11)
        self.small_metrics = QFontMetrics(self.small_font)
        self._pens: dict[tuple[str, float, int], QPen] = {}
        self._pixels: NDArray[np.uint32] = np.zeros((1, 1), dtype=np.uint32)
        self._image: QImage | None = None
        self._tags = Tags()
        self._press: QPointF | None = None
        self._drag: str | None = None
        self._mouse: QPointF | None = None
        self._listening: list[tuple[Any, Any]] = []
        self.session = session
        self._listen()

    # -- the session ---------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Show another session."""
        self.forget()
        self.session = session
        self._listen()
        self.session_changed()
        self.refresh()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.parent)

    def forget(self) -> None:
        """Stop listening to the session, before it or the widget goes away."""
        for event, listener in self._listening:
            event.disconnect(listener)
        self._listening = []

    def _listen(self) -> None:
        session = self.session
        for event, listener in (
            (session.viewport.changed, self.refresh),
            (session.viewport.cursor_changed, self.update),
            (session.viewport.selection_changed, self.update),
            (session.markers_changed, self.update),
            (session.selected_changed, self.refresh),
            (session.loops.changed, self.refresh),
        ):
            self._listening.append((event, event.connect(listener)))

    def session_changed(self) -> None:
        """Called after another session was set, before the next paint."""

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self._pens.clear()
        self.refresh()

    def refresh(self) -> None:
        """Paint the pixels anew at the next frame; something else may lie under the mouse by then."""
        self._image = None
        if self._mouse is not None and self._press is None:
            if self._mouse.x() >= GUTTER_PX:
                self.session.viewport.cursor = self.time_at(self._mouse.x())
            self.moved(self._mouse)
        self.update()

    # -- geometry ------------------------------------------------------------------------------------------------

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

    def share_ruler(self, others: Sequence[TimeCanvas]) -> None:
        """Do without a ruler where one of the `others` of the window, of the same columns, is right above."""
        if self.own_ruler:
            return
        window = self.window()
        corner = self.mapTo(window, QPoint(0, 0))
        above = any(
            other is not self
            and other.session is self.session
            and other.isVisible()
            and (at := other.mapTo(window, QPoint(0, 0))).x() == corner.x()
            and at.y() < corner.y()
            and other.width() == self.width()
            for other in others
        )
        self.rule(not above)

    def _moved_about(self) -> None:
        """The view is elsewhere: those under it may need a ruler now, or none."""
        canvases = self.window().findChildren(TimeCanvas)  # looks at every widget of the window
        for canvas in canvases:
            canvas.share_ruler(canvases)

    def rule(self, ruled: bool) -> None:
        """Have a ruler, or none."""
        if self.ruler_px != (RULER_PX if ruled else 0):
            self.ruler_px = RULER_PX if ruled else 0
            self.refresh()

    # -- painting ------------------------------------------------------------------------------------------------

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """Paint the plot into `pixels` (device rows, device columns), which is filled with the ground colour."""

    def paint_vectors(self, painter: QPainter) -> None:
        """Paint the plot for a vector picture; as pixels where a view has no other way."""
        painter.drawImage(self.plot.topLeft(), self._frame(self.plot))

    def paint_over(self, painter: QPainter) -> None:
        """Paint labels and whatever else lies over the pixels."""

    def paint_gutter(self, painter: QPainter) -> None:
        """Paint the labels at the left."""

    def paintEvent(self, event: QPaintEvent) -> None:
        """Pixels first, then the grid's times, labels, cursor, markers and selected time range."""
        painter = QPainter(self)
        self._tags.clear()
        plot = self.plot
        engine = painter.paintEngine()
        painter.setClipRect(plot)
        if self.by_loops and not self.session.loops.loaded:
            self._paint_waiting(painter, plot)
        elif engine is not None and engine.type() is QPaintEngine.Type.SVG:
            self.block(painter, QRectF(plot), self.colours.role("ground"))
            painter.setPen(self.pen("grid"))
            for x in (self.x_of(tick.value) for tick in self._ticks()):
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            self.paint_vectors(painter)
            self.paint_over(painter)
        else:
            painter.drawImage(plot.topLeft(), self._frame(plot))
            self.paint_over(painter)
        self._paint_marks(painter, plot)
        painter.setFont(self.small_font)
        self._tags.paint(painter, self.small_metrics.ascent(), self.colour(self.colours.role("ground"), 215))
        painter.setClipping(False)
        self.block(painter, QRectF(0, 0, GUTTER_PX, self.height()), self.colours.role("gutter"))
        self.paint_gutter(painter)
        if self.ruler_px:
            self._paint_ruler(painter)
        painter.setPen(self.pen("line"))
        painter.drawLine(GUTTER_PX - 1, 0, GUTTER_PX - 1, self.height())
        self.paint_top(painter)
        painter.end()

    def _paint_waiting(self, painter: QPainter, plot: QRect) -> None:
        self.block(painter, QRectF(plot), self.colours.role("ground"))
        painter.setFont(self.small_font)
        painter.setPen(self.pen("faint"))
        painter.drawText(plot, int(Qt.AlignmentFlag.AlignCenter), tr("reading …"))

    def paint_top(self, painter: QPainter) -> None:
        """Paint what must not be covered, such as the hover text."""

    def _frame(self, plot: QRect) -> QImage:
        scale = self.devicePixelRatioF()
        rows, columns = max(round(plot.height() * scale), 1), max(round(plot.width() * scale), 1)
        if self._image is not None and self._pixels.shape == (rows, columns):
            return self._image
        if self._pixels.shape != (rows, columns):
            self._pixels = np.empty((rows, columns), dtype=np.uint32)
        self._pixels[:] = self.colours.role("ground")
        for tick in self._ticks():
            column = round((tick.value - self.session.viewport.start) / self.session.viewport.span * columns)
            if 0 <= column < columns:
                self._pixels[:, column] = self.colours.role("grid")
        self.paint_pixels(self._pixels, self.session.viewport.span / columns, scale)
        image = QImage(self._pixels.data, columns, rows, columns * 4, QImage.Format.Format_RGB32)
        image.setDevicePixelRatio(scale)
        self._image = image
        return image

    def block(self, painter: QPainter, rectangle: QRectF, colour: int, alpha: int = 255) -> None:
        """A filled rectangle; `QPainter.fillRect` is avoided because it leaks references to None."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self.colour(colour, alpha))
        painter.drawRect(rectangle)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def colour(self, value: int, alpha: int = 255) -> QColor:
        """A palette's colour for Qt."""
        return QColor(value >> 16 & 255, value >> 8 & 255, value & 255, alpha)

    def pen(self, role: str, width: float = 1.0, alpha: int = 255) -> QPen:
        """A pen in the theme's colour for `role`."""
        kept = self._pens.get((role, width, alpha))
        if kept is None:
            kept = self._pens[role, width, alpha] = QPen(self.colour(self.colours.role(role), alpha))
            kept.setWidthF(width)
        return kept

    def add_tag(self, x: float, baseline: float, text: str, pen: QPen) -> None:
        """A small text to be read over whatever the frame holds; below others of it that it would hide."""
        metrics = self.small_metrics
        width = metrics.horizontalAdvance(text) + 4
        self._tags.add(QRectF(x - 2, baseline - metrics.ascent(), width, metrics.height()), text, pen)

    def _paint_ruler(self, painter: QPainter) -> None:
        bottom = self.ruler_px - self.strip_px
        self.block(painter, QRectF(0, 0, self.width(), self.ruler_px), self.colours.role("window"))
        painter.setFont(self.small_font)
        metrics = self.small_metrics
        painter.setPen(self.pen("faint"))
        painter.drawText(8, bottom - 9, f"⟷ {say(self.session.length_text(self.session.viewport.span))}")
        free = float(GUTTER_PX - 1)
        for tick in self._ticks():
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

    def _ticks(self) -> list[Tick]:
        """The round moments of the ruler, which lines in the plot lead down."""
        ticks = event_ticks if self.session.counted else time_ticks
        return ticks(self.session.viewport.start, self.session.viewport.end, max(self.plot.width() // 130, 2))

    def paint_ruler_marks(self, painter: QPainter, bottom: int) -> None:
        """Paint what is marked on the ruler, which ends at row `bottom`."""

    def _paint_marks(self, painter: QPainter, plot: QRect) -> None:
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

    def paint_hover(self, painter: QPainter, lines: Sequence[str]) -> None:
        """A box of text beside the mouse, kept inside the widget."""
        if self._mouse is None or not lines:
            return
        painter.setFont(self.text_font)
        metrics = QFontMetrics(self.text_font)
        longest = max(self.width() - self.covered_px - 60, 120)
        shown = [metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, min(longest, 640)) for line in lines]
        width = max(metrics.horizontalAdvance(line) for line in shown) + 16
        height = metrics.height() * len(shown) + 10
        x = max(min(self._mouse.x() + 14, self.width() - self.covered_px - width - 4), 2)
        y = self._mouse.y() + 16
        if y + height > self.height():
            y = max(self._mouse.y() - height - 8, 2)
        painter.setPen(self.pen("line"))
        painter.setBrush(self.colour(self.colours.role("window"), 245))
        painter.drawRoundedRect(QRectF(x, y, width, height), 4, 4)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for row, line in enumerate(shown):
            painter.setPen(self.pen("text" if row == 0 else "faint"))
            painter.drawText(QPointF(x + 8, y + 5 + metrics.ascent() + row * metrics.height()), line)

    # -- input ---------------------------------------------------------------------------------------------------

    @property
    def mouse(self) -> QPointF | None:
        """Where the mouse is over the widget, or `None`."""
        return self._mouse

    def clicked(self, position: QPointF) -> None:
        """Called when the user clicked without dragging."""

    def double_clicked(self, position: QPointF) -> None:
        """Called on a double click in the plot: zoom to the selected item."""
        self.session.reveal_selected()

    def moved(self, position: QPointF) -> None:
        """Called when the mouse moves over the widget without a button."""

    def scroll_by(self, pixels: float) -> bool:
        """Scroll vertically by `pixels`; false where the view doesn't scroll, so that the wheel zooms instead."""
        return False

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Ctrl: zoom at the mouse. Sideways or Shift: pan. Otherwise scroll, or zoom where nothing scrolls."""
        delta = event.angleDelta()
        modifiers = event.modifiers()
        sideways = delta.x() or (delta.y() if modifiers & Qt.KeyboardModifier.ShiftModifier else 0)
        if sideways and not modifiers & Qt.KeyboardModifier.ControlModifier:
            self.session.viewport.pan(-sideways / 120 * _PAN_SHARE * self.session.viewport.span)
        elif modifiers & Qt.KeyboardModifier.ControlModifier or not self.scroll_by(-delta.y() / 120 * 54):
            factor = ZOOM_STEP ** (-(delta.y() or delta.x()) / 120)
            self.session.viewport.zoom(factor, self.time_at(max(event.position().x(), GUTTER_PX)))
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Start a click, a pan, or selecting a time range."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._press = event.position()
            selects = event.modifiers() & Qt.KeyboardModifier.ShiftModifier or event.position().y() < self.ruler_px
            self._drag = "select" if selects and event.position().x() >= GUTTER_PX else "pan"
            self._moved = False
            self._last = event.position()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Pan, select, or hover."""
        position = event.position()
        self._mouse = position
        in_plot = position.x() >= GUTTER_PX
        self.session.viewport.cursor = self.time_at(position.x()) if in_plot else None
        if self._press is None:
            self.moved(position)
            self.update()
            return
        distance = position - self._press
        self._moved = self._moved or abs(distance.x()) + abs(distance.y()) >= _DRAG_PX
        if not self._moved:
            return
        if self._drag == "select":
            ends = self.time_at(max(self._press.x(), GUTTER_PX)), self.time_at(max(position.x(), GUTTER_PX))
            self.session.viewport.selected_range = ends
        elif self._drag == "pan" and self._press.x() >= GUTTER_PX:
            self.session.viewport.pan((self._last.x() - position.x()) * self.ns_per_px)
            self.scroll_by(self._last.y() - position.y())
        self._last = position

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End of a drag, or a click."""
        if self._press is not None and not self._moved and event.button() is Qt.MouseButton.LeftButton:
            self.clicked(event.position())
        self._press = self._drag = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Zoom to what lies under the mouse."""
        self.clicked(event.position())
        if event.position().x() >= GUTTER_PX:
            self.double_clicked(event.position())

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the mouse any more."""
        self._mouse = None
        self.session.viewport.cursor = None
        self.update()
        super().leaveEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        """Share rulers."""
        self._moved_about()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        """Share rulers."""
        self._moved_about()
        super().hideEvent(event)

    def moveEvent(self, event: QMoveEvent) -> None:
        """Share rulers."""
        self._moved_about()
        super().moveEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Paint anew at the new size."""
        self._moved_about()
        self.refresh()
        super().resizeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Navigation keys; others go to the window."""
        viewport = self.session.viewport
        if event.modifiers() & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier):
            super().keyPressEvent(event)
            return
        key = event.key()
        if key in (Qt.Key.Key_W, Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            viewport.zoom_step(True)
        elif key in (Qt.Key.Key_S, Qt.Key.Key_Minus):
            viewport.zoom_step(False)
        elif key in (Qt.Key.Key_A, Qt.Key.Key_Left):
            viewport.pan_step(False)
        elif key in (Qt.Key.Key_D, Qt.Key.Key_Right):
            viewport.pan_step(True)
        elif key == Qt.Key.Key_Up:
            self.scroll_by(-54)
        elif key == Qt.Key.Key_Down:
            self.scroll_by(54)
        elif key == Qt.Key.Key_PageUp:
            self.scroll_by(-self.plot.height() * 0.9)
        elif key == Qt.Key.Key_PageDown:
            self.scroll_by(self.plot.height() * 0.9)
        else:
            super().keyPressEvent(event)
