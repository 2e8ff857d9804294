"""What every view on the common time axis shares: its image of a frame, and the way about with mouse and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPoint, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QHideEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QMoveEvent,
    QPaintEngine,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.viewport import ZOOM_STEP
from memplan.gui.views.time_axis import GUTTER_PX, RULER_PX, TimeAxis
from memplan.gui.views.view import ViewServices

_PAN_SHARE = 0.15
_DRAG_PX = 4
_LINE_PX = 2
"""So far from its column a line at a moment may reach."""


class TimeCanvas(TimeAxis):
    """
    A picture over a time axis, and the way about in it.

    Sub-classes paint pixels in `paint_pixels` (one numpy image a frame, kept until something changes) and everything
    else in `paint_over`. Wheel with Ctrl, W, S zoom at the mouse; A, D, arrows and dragging pan; Shift and dragging
    selects a time range.
    """

    hovered = Signal(str)
    own_ruler = False  # whether it has a ruler also under another view of the same columns
    by_loops = False  # whether there is nothing to see before the session's loops are loaded
    keeps_over = False  # whether `paint_over` paints the same, and adds no tags, until `refresh`

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(session, palette, parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(GUTTER_PX + 80, 60)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._pixels: NDArray[np.uint32] = np.zeros((1, 1), dtype=np.uint32)
        self._drawn = QImage(1, 1, QImage.Format.Format_RGB32)  # whose memory the pixels are
        self._image: QImage | None = None
        self._press: QPointF | None = None
        self._drag: str | None = None
        self._mouse: QPointF | None = None
        self._cursor, self._range = session.viewport.cursor, session.viewport.selected_range
        self._listening: list[tuple[Any, Any]] = []
        self._listen()

    # -- the session ---------------------------------------------------------------------------------------------

    def show_session(self, session: Session) -> None:
        """Show another session."""
        self.forget()
        self.session = session
        self._cursor, self._range = session.viewport.cursor, session.viewport.selected_range
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
            (session.viewport.cursor_changed, self.cursor_moved),
            (session.viewport.selection_changed, self._selection_moved),
            (session.markers_changed, self.update),
            (session.selected_changed, self.refresh),
            (session.loops.changed, self.refresh),
        ):
            self._listening.append((event, event.connect(listener)))

    def session_changed(self) -> None:
        """Called after another session was set, before the next paint."""

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        super().set_palette(palette)
        self.refresh()

    def refresh(self) -> None:
        """Paint the pixels anew at the next frame; something else may lie under the mouse by then."""
        self._image = None
        if self._mouse is not None and self._press is None:
            if self._mouse.x() >= GUTTER_PX:
                self.session.viewport.cursor = self.time_at(self._mouse.x())
            self.moved(self._mouse)
        self.update()

    def cursor_moved(self) -> None:
        """Paint the columns anew where the cursor is and was."""
        before, self._cursor = self._cursor, self.session.viewport.cursor
        for moment in (before, self._cursor):
            if moment is not None:
                self._update_columns(moment, moment)

    def _selection_moved(self) -> None:
        """Paint the columns anew that have come to the selected time range, or are none of it any more."""
        before, now = self._range, self.session.viewport.selected_range
        self._range = now
        if before is not None and now is not None:
            for old, new in zip(before, now, strict=True):
                if old != new:
                    self._update_columns(min(old, new), max(old, new))
        elif (one := before or now) is not None:
            self._update_columns(*one)

    def _update_columns(self, start: float, end: float) -> None:
        """Paint the plot anew from one moment to another, with the lines at either."""
        plot = self.plot
        left = max(int(min(self.x_of(start), plot.right())) - _LINE_PX, plot.left())
        right = min(int(max(self.x_of(end), plot.left())) + _LINE_PX, plot.right())
        self.update(QRect(QPoint(left, plot.top()), QPoint(right, plot.bottom())))

    # -- the ruler -----------------------------------------------------------------------------------------------

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
        """Pixels first, then the grid's times, labels, cursor, markers and selected time range, where they changed."""
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
            for x in (self.x_of(tick.value) for tick in self.ticks()):
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            self.paint_vectors(painter)
            self.paint_over(painter)
        else:
            painter.drawImage(plot.topLeft(), self._frame(plot))
            if not self._over_kept():
                self.paint_over(painter)
        self.paint_marks(painter, plot)
        self.paint_tags(painter)
        painter.setClipping(False)
        changed = event.rect()
        if changed.left() < GUTTER_PX:
            self.block(painter, QRectF(0, 0, GUTTER_PX, self.height()), self.colours.role("gutter"))
            self.paint_gutter(painter)
        if changed.top() < self.ruler_px:
            self.paint_ruler(painter)
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

    def _over_kept(self) -> bool:
        """Whether the kept pixels have what lies over them: not where they may be moved by a part of one, and blur."""
        return self.keeps_over and self.devicePixelRatioF().is_integer()

    def _frame(self, plot: QRect) -> QImage:
        scale = self.devicePixelRatioF()
        rows, columns = max(round(plot.height() * scale), 1), max(round(plot.width() * scale), 1)
        fits = self._pixels.shape == (rows, columns) and self._drawn.devicePixelRatio() == scale
        if self._image is not None and fits:
            return self._image
        if not fits:
            self._drawn = QImage(columns, rows, QImage.Format.Format_RGB32)
            self._drawn.setDevicePixelRatio(scale)
            self._pixels = np.frombuffer(self._drawn.bits(), dtype=np.uint32).reshape(rows, columns)
        self._pixels[:] = self.colours.role("ground")
        for tick in self.ticks():
            column = round((tick.value - self.session.viewport.start) / self.session.viewport.span * columns)
            if 0 <= column < columns:
                self._pixels[:, column] = self.colours.role("grid")
        self.paint_pixels(self._pixels, self.session.viewport.span / columns, scale)
        if self._over_kept():
            painter = QPainter(self._drawn)
            painter.translate(-plot.topLeft())
            painter.setClipRect(plot)
            self.paint_over(painter)
            painter.end()
        self._image = self._drawn
        return self._image

    def paint_hover(self, painter: QPainter, lines: Sequence[str]) -> None:
        """A box of text beside the mouse."""
        if self._mouse is not None and lines:
            self.paint_box(painter, self._mouse, lines)

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
