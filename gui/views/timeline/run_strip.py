"""The whole run in a strip under the ruler: what the device does, what is shown, and where the plan was left."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from PySide6.QtWidgets import QWidget

from memplan.core.arrays import Floats
from memplan.gui.i18n import tr
from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.lanes import paint
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack
from memplan.gui.model.viewport import ZOOM_STEP
from memplan.gui.theme import qt_colour
from memplan.traces.profile import TrackKind

STRIP_PX = 24
_ROWS = 3
"""Tracks of the device that are shown, the fullest."""
_TICK_PX = 4
_SHOWN = ("plan", TrackKind.STREAM.value, TrackKind.COMMUNICATION.value)


class RunStrip(QWidget):
    """
    The run from its beginning to its end; what the views show of it is framed, and a click or drag moves that there.

    `marks` are moments from the origin, with a tick each.
    """

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.colours = session, palette
        self.marks: Floats = np.zeros(0)
        self._pixels: NDArray[np.uint32] | None = None
        self._image: QImage | None = None
        self._drawn: tuple[object, ...] = ()
        self._fullest: tuple[tuple[TimelineTrack, ...], int, list[TimelineTrack]] | None = None
        self._grabbed: float | None = None
        # Else whatever lies under it is painted once more for its sake: in every frame, the whole timeline.
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(tr("The whole run: click or drag to move what is shown"))

    def show_session(self, session: Session, marks: Floats) -> None:
        """Show another session with other marks."""
        self.session, self.marks = session, marks
        self._drawn, self._fullest = (), None
        self.update()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.colours = palette
        self._drawn = ()
        self.update()

    # -- geometry ------------------------------------------------------------------------------------------------

    def x_of(self, time: float) -> float:
        """The column of a moment."""
        low, high = self.session.viewport.bounds
        return (time - low) / (high - low) * self.width()

    def time_at(self, x: float) -> float:
        """The moment at a column."""
        low, high = self.session.viewport.bounds
        return low + x / max(self.width(), 1) * (high - low)

    def handle(self) -> QRectF:
        """Where the visible part is."""
        viewport = self.session.viewport
        left, right = self.x_of(viewport.start), self.x_of(viewport.end)
        return QRectF(left, 0.5, max(right - left, 3.0), self.height() - 1.0)

    # -- painting ------------------------------------------------------------------------------------------------

    def shown(self) -> list[TimelineTrack]:
        """The tracks that are drawn: of those that are read the fullest of plan and device."""
        tracks = self.session.tracks
        if self._fullest is None or self._fullest[0] is not tracks.all or self._fullest[1] != tracks.reads:
            read = [track for track in tracks.all if track.kind in _SHOWN and tracks.lanes(track) is not None]
            first = {track.key for track in sorted(read, key=lambda track: -track.count)[:_ROWS]}
            self._fullest = tracks.all, tracks.reads, [track for track in read if track.key in first]
        return self._fullest[2]

    def paintEvent(self, event: QPaintEvent) -> None:
        """Tracks, ticks and the frame."""
        painter = QPainter(self)
        shown = self.shown()
        scale = self.devicePixelRatioF()
        drawn = (self.session, self.size().toTuple(), scale, tuple(track.key for track in shown))
        if drawn != self._drawn:
            self._draw(shown, scale)
            self._drawn = drawn
        if self._image is not None:
            painter.drawImage(0, 0, self._image)
        painter.setPen(QPen(qt_colour(self.colours.role("measured"))))
        for moment in self.marks.tolist():
            x = self.x_of(moment)
            painter.drawLine(QPointF(x, self.height() - _TICK_PX), QPointF(x, self.height()))
        frame = self.handle()
        if frame.width() < self.width() - 2:
            veil = qt_colour(self.colours.role("window"))
            veil.setAlpha(130)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(veil)
            painter.drawRect(QRectF(0, 0, frame.left(), self.height()))
            painter.drawRect(QRectF(frame.right(), 0, self.width() - frame.right(), self.height()))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(qt_colour(self.colours.role("accent")), 1.5))
        painter.drawRect(frame.adjusted(0.5, 0, -0.5, 0))
        painter.end()

    def _draw(self, shown: list[TimelineTrack], scale: float) -> None:
        rows, columns = max(ceil(self.height() * scale), 1), max(ceil(self.width() * scale), 1)
        pixels = self._pixels = np.full((rows, columns), self.colours.role("ground"), dtype=np.uint32)
        low, high = self.session.viewport.bounds
        whole = int(np.floor(low))
        room = (rows - round(_TICK_PX * scale)) // max(len(shown), 1)
        for place, track in enumerate(shown):
            lanes = self.session.tracks.lanes(track)
            if lanes is None or not lanes.lanes:
                continue
            table = self.colours.table(lanes.kinds)
            paint(
                pixels, (place * room, (place + 1) * room - 1), lanes.lanes[0], self.session.origin_ns + whole,
                low - whole, (high - low) / columns, table, self.colours.role("ground"),
            )  # fmt: skip
        self._image = QImage(pixels.data, columns, rows, columns * 4, QImage.Format.Format_RGB32)
        self._image.setDevicePixelRatio(scale)

    # -- input ---------------------------------------------------------------------------------------------------

    def _go(self, x: float) -> None:
        viewport = self.session.viewport
        start = self.time_at(x) - (self._grabbed or 0.0)
        viewport.show(start, start + viewport.span)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take hold of the frame, or bring its middle to the mouse."""
        x, viewport = event.position().x(), self.session.viewport
        inside = self.handle().contains(event.position())
        self._grabbed = self.time_at(x) - viewport.start if inside else viewport.span / 2
        self._go(x)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move the frame along."""
        if self._grabbed is not None:
            self._go(event.position().x())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        self._grabbed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show everything."""
        self.session.viewport.show_all()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom at the moment under the mouse."""
        self.session.viewport.zoom(ZOOM_STEP ** (-event.angleDelta().y() / 120), self.time_at(event.position().x()))
        event.accept()
