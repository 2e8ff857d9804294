"""The names within slices that are wide enough for one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from memplan.gui.model.slices.slice_text import short_name
from memplan.gui.model.timeline.lanes import TrackLanes
from memplan.gui.model.timeline.timeline_tracks import Placed
from memplan.gui.theme import qt_colour
from memplan.gui.views.fitted_text import FittedText
from memplan.gui.views.time_axis import GUTTER_PX, Stretch
from memplan.gui.views.timeline.track_canvas import TrackCanvas

_LABEL_PX = 34


class SliceLabels:
    """Writes what slices of `canvas` are: where in the model they are where that is known, else their own names."""

    def __init__(self, canvas: TrackCanvas) -> None:
        self._canvas = canvas
        self._fitted = FittedText(QFontMetricsF(canvas.small_font))
        self._pens_on: dict[str, list[QPen]] = {}

    def renew(self) -> None:
        """Forget the pens: tracks or colours are others."""
        self._pens_on.clear()

    def paint(
        self,
        painter: QPainter,
        shown: Stretch,
        placed: Placed,
        lanes: TrackLanes,
        y: float,
        grounds: NDArray[np.uint32],
        room: int,
    ) -> int:
        """
        Write at most `room` names into the lanes of a track whose top is at `y`; returns how many were written.

        `shown` is the canvas' stretch, `grounds` has the colour of each kind of slice.
        """
        canvas, session = self._canvas, self._canvas.session
        lane_px, track = session.tracks.lane_px, placed.track
        if lane_px < 12 or room <= 0 or track is None:
            return 0
        painter.setFont(canvas.small_font)
        metrics = canvas.small_metrics
        fitted, write = self._fitted.text, painter.drawText
        names, name_of = lanes.slices.names, lanes.slices.name
        places = session.document.places if track.planned is None else None
        pens = self._label_pens(track.key, grounds)
        drawn = 0
        for depth, lane in enumerate(lanes.lanes[: canvas.lanes_shown(placed)]):
            base = y + depth * lane_px + 2 + (lane_px + metrics.ascent() - metrics.descent()) / 2 - 1
            found, lefts, rights = lane.wide(
                shown.whole_ns, shown.fraction, shown.ns_per_px, shown.width, _LABEL_PX, room - drawn
            )
            if not len(found):
                continue
            index = found if lane.indices is None else lane.indices[found]
            codes = name_of[index].tolist()
            told = places.labels(track.kind, lanes.slices, index) if places is not None else [""] * len(codes)
            own = [pens[kind] for kind in lane.category[found].tolist()]
            now: QPen | None = None
            for code, place, left, right, pen in zip(codes, told, lefts.tolist(), rights.tolist(), own, strict=True):
                if pen is not now:
                    painter.setPen(pen)
                    now = pen
                write(QPointF(GUTTER_PX + left + 3, base), fitted(short_name(place or names[code]), right - left - 6))
            drawn += len(codes)
        return drawn

    def _label_pens(self, key: str, grounds: NDArray[np.uint32]) -> list[QPen]:
        """For each kind of slice of a track the pen that can be read on its colour; a few pens serve all."""
        pens = self._pens_on.get(key)
        if pens is None:
            shared: dict[int, QPen] = {}
            colours = [self._canvas.colours.label_on(ground) for ground in grounds.tolist()]
            pens = [shared.setdefault(colour, QPen(qt_colour(colour))) for colour in colours]
            self._pens_on[key] = pens
        return pens
