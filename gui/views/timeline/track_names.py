"""The names of tracks and of their groups at the left of the timeline, drawn anew only when tracks move."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QImage, QPaintEngine, QPainter

from memplan.gui.i18n import say
from memplan.gui.model.timeline.counter_text import highest_text
from memplan.gui.model.timeline.timeline_tracks import PINNED_GROUP, Placed, group_name
from memplan.gui.theme import qt_colour
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.timeline.track_canvas import TrackCanvas

_NAME_PX = GUTTER_PX - 26  # from the pin on, and a little room at the end


class TrackNames:
    """What stands beside the tracks of `canvas`, kept as an image until `renew`; as text in vector pictures."""

    def __init__(self, canvas: TrackCanvas) -> None:
        self._canvas = canvas
        self._image: QImage | None = None

    def renew(self) -> None:
        """Draw all of them anew: tracks moved, or colours are others."""
        self._image = None

    def paint(self, painter: QPainter) -> None:
        """Headers and names of what is on the screen."""
        engine = painter.paintEngine()
        if engine is not None and engine.type() is QPaintEngine.Type.SVG:
            painter.save()
            self._paint_names(painter)
            painter.restore()
            return
        canvas = self._canvas
        scale = canvas.devicePixelRatioF()
        size = QSize(round(GUTTER_PX * scale), max(round(canvas.height() * scale), 1))
        if self._image is None or self._image.size() != size:
            self._image = QImage(size, QImage.Format.Format_RGB32)
            self._image.setDevicePixelRatio(scale)
            self._image.fill(qt_colour(canvas.colours.role("gutter")))
            names = QPainter(self._image)
            self._paint_names(names)
            names.end()
        painter.drawImage(0, 0, self._image)

    def _paint_names(self, painter: QPainter) -> None:
        canvas = self._canvas
        for placed, top in canvas.visible():
            clip = canvas.ruler_px + (0 if placed.group == PINNED_GROUP else canvas.pinned_px)
            painter.setClipRect(0, clip, GUTTER_PX, canvas.height() - clip)
            if placed.track is None:
                self._paint_header(painter, placed, canvas.ruler_px + top)
            else:
                self._paint_name(painter, placed, canvas.ruler_px + top)

    def _paint_header(self, painter: QPainter, placed: Placed, y: int) -> None:
        canvas = self._canvas
        canvas.block(painter, QRectF(0, y, GUTTER_PX, placed.height), canvas.colours.role("window"))
        painter.setFont(canvas.text_font)
        painter.setPen(canvas.pen("text"))
        title = f"{'▸' if placed.folded else '▾'} {say(group_name(placed.group))}"
        metrics = QFontMetrics(canvas.text_font)
        painter.drawText(QPointF(8, y + 15), metrics.elidedText(title, Qt.TextElideMode.ElideRight, GUTTER_PX - 16))
        painter.setPen(canvas.pen("line"))
        painter.drawLine(QPointF(0, y + placed.height - 1), QPointF(GUTTER_PX, y + placed.height - 1))

    def _paint_name(self, painter: QPainter, placed: Placed, y: int) -> None:
        canvas, track = self._canvas, placed.track
        if track is None:
            return
        tracks = canvas.session.tracks
        painter.setPen(canvas.pen("text"))
        fonts = (canvas.text_font, canvas.small_font) if tracks.lane_px >= 12 else (canvas.small_font,)
        font, label = fitting_name(say(track.name), fonts)
        painter.setFont(font)
        painter.drawText(QPointF(22, y + min(placed.height, 20) / 2 + 5), label)
        reaches = highest_text(tracks.counters(track))
        if reaches is not None:
            painter.setFont(canvas.small_font)
            painter.setPen(canvas.pen("faint"))
            painter.drawText(QPointF(22, y + 15 + canvas.small_metrics.height()), say(reaches))
            painter.setPen(canvas.pen("text"))
        if placed.pinned:
            painter.drawText(QPointF(6, y + 15), "•")
        painter.setPen(canvas.pen("grid"))
        painter.drawLine(QPointF(0, y + placed.height - 1), QPointF(GUTTER_PX, y + placed.height - 1))


def fitting_name(name: str, fonts: Sequence[QFont]) -> tuple[QFont, str]:
    """
    `name` in the first of `fonts` in which it fits beside its track, else in the last, without its middle.

    What tells two tracks apart may stand in the middle, as in "Communication(Not Overlapped)": rather smaller than cut.
    """
    for font in fonts:
        if QFontMetrics(font).horizontalAdvance(name) <= _NAME_PX:
            return font, name
    return fonts[-1], QFontMetrics(fonts[-1]).elidedText(name, Qt.TextElideMode.ElideMiddle, _NAME_PX)
