"""What is painted over the slices of tracks: arrows between them, frames, and what a run took beyond its plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QPainter

from memplan.core.arrays import Int64s
from memplan.gui.model.slices.flows import Arrow
from memplan.gui.model.timeline.lanes import TrackLanes
from memplan.gui.model.timeline.timeline_tracks import MAX_LANES, Placed
from memplan.gui.theme import qt_colour
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.timeline.track_canvas import TrackCanvas

_DIFFERENCE_PX = 2  # shorter differences between planned and measured can't be seen
_MOST_DIFFERENCES = 300
"""Differences that are painted of a lane."""


def paint_arrows(canvas: TrackCanvas, painter: QPainter, drawn: Sequence[Arrow]) -> None:
    """Arrows of the selected slice, between the tracks that are on the screen."""
    tops = {placed.track.key: canvas.ruler_px + top for placed, top in canvas.visible() if placed.track is not None}
    lane_px = canvas.session.tracks.lane_px
    painter.setPen(canvas.pen("text", 1.5))
    for arrow in drawn:
        if arrow.source.track not in tops or arrow.target.track not in tops:
            continue
        ends = [
            QPointF(
                canvas.x_of(float(end.time_ns - canvas.session.origin_ns)),
                tops[end.track] + (min(end.lane, MAX_LANES - 1) + 0.5) * lane_px + 2,
            )
            for end in (arrow.source, arrow.target)
        ]
        painter.drawLine(*ends)
        painter.drawEllipse(ends[0], 2, 2)
        angle = float(np.arctan2(ends[1].y() - ends[0].y(), ends[1].x() - ends[0].x()))
        for side in (-0.45, 0.45):
            tip = QPointF(float(np.cos(angle + side)) * 8, float(np.sin(angle + side)) * 8)
            painter.drawLine(ends[1], ends[1] - tip)


def paint_frames(
    canvas: TrackCanvas, painter: QPainter, placed: Placed, lanes: TrackLanes, framed: Sequence[int], y: float
) -> None:
    """Frames around the slices `framed` of a track at row `y`, which stand for what is selected."""
    lane_px = canvas.session.tracks.lane_px
    for index in framed:
        depth = lanes.lane_of(index)
        if depth >= canvas.lanes_shown(placed):
            continue
        start = float(lanes.slices.start_ns[index] - canvas.session.origin_ns)
        left, right = canvas.x_of(start), canvas.x_of(start + float(lanes.slices.duration_ns[index]))
        left, right = max(left, GUTTER_PX - 4), min(right, canvas.width() + 4)
        painter.setPen(canvas.pen("text", 2))
        painter.drawRect(QRectF(left, y + depth * lane_px + 2, max(right - left, 3), lane_px - 1))


def paint_differences(
    canvas: TrackCanvas, painter: QPainter, placed: Placed, lanes: TrackLanes, measured_ns: Int64s, y: float
) -> None:
    """Behind planned slices what the run took beyond them, hatched, and around what it saved, an outline."""
    hatch = QBrush(qt_colour(canvas.colours.role("excess")), Qt.BrushStyle.BDiagPattern)
    lane_px, px = canvas.session.tracks.lane_px, canvas.ns_per_px
    whole, fraction = canvas.whole_start()
    until = whole + int(canvas.plot.width() * px) + 1
    for depth, lane in enumerate(lanes.lanes[: canvas.lanes_shown(placed)]):
        first, last = lane.between(whole - int(canvas.plot.width() * px), until)
        index = np.arange(first, last) if lane.indices is None else lane.indices[first:last]
        took, planned = measured_ns[index], lane.duration_ns[first:last]
        wide = np.flatnonzero((took >= 0) & (np.abs(took - planned) >= _DIFFERENCE_PX * px))
        top, tall = y + depth * lane_px + 3, lane_px - 3
        for place in wide[:_MOST_DIFFERENCES].tolist():
            start = float(lane.start_ns[first + place] - whole) - fraction
            low, high = sorted((start + float(planned[place]), start + float(took[place])))
            area = QRectF(GUTTER_PX + low / px, top, (high - low) / px, tall)
            if took[place] > planned[place]:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(hatch)
                painter.drawRect(area)
                painter.setBrush(Qt.BrushStyle.NoBrush)
            else:
                painter.setPen(canvas.pen("planned"))
                painter.drawRect(area)
