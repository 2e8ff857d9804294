"""Tracks placed on a canvas: which of them are in sight, how they scroll, and what lies where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QPointF, QTimer
from PySide6.QtGui import QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QWidget

from memplan.gui.model.palette import Palette
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.timeline.lanes import Lane
from memplan.gui.model.timeline.timeline_tracks import PINNED_GROUP, Placed, TimelineTrack
from memplan.gui.theme import qt_colour
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.time_axis import GUTTER_PX
from memplan.gui.views.timeline.marked_bar import MarkedBar

_SLACK_PX = 3
_TALL_PX = 60
"""So much of a track is worth seeing without the rest of it; of a lower one the foot shows the whole or nothing."""
_BELOW_PX = 40
"""What stays free below the last track, for lanes that are not read yet."""


class TrackCanvas(TimeCanvas):
    """
    The tracks of a session under each other, the pinned ones fixed at the top and the others scrolled by `bar`.

    A label that is dragged takes its track along.
    """

    def __init__(self, session: Session, palette: Palette, parent: QWidget | None = None) -> None:
        super().__init__(session, palette, parent)
        self.bar = MarkedBar(self)
        self.bar.valueChanged.connect(self.rearranged)
        self.placed: list[Placed] = []
        self.pinned_px = 0  # height of the pinned tracks, which don't scroll
        self.foot_px = 0  # height of what lies over the plot's foot
        self._visible: list[tuple[Placed, int]] | None = None

    def tracks_changed(self) -> None:
        """The arrangement or the height of tracks changed."""
        self.placed = self.session.tracks.layout()
        self.pinned_px = sum(placed.height for placed in self.placed if placed.group == PINNED_GROUP)
        self.bar.setSingleStep(54)
        self._fit_bar()
        self._mark_bar()
        self.rearranged()

    def _fit_bar(self) -> None:
        """Let the bar reach the last track; who was there stays there, however high it has become."""
        at_end = 0 < self.bar.value() == self.bar.maximum()
        total = self.placed[-1].top + self.placed[-1].height if self.placed else 0
        self.bar.setPageStep(self.plot.height())
        self.bar.setRange(0, self._last_offset(max(total + self.foot_px - self.plot.height(), 0)))
        if at_end:
            self.bar.setValue(self.bar.maximum())

    def needed_height(self) -> int:
        """Pixels beyond which there would be room below the last track."""
        last = self.placed[-1] if self.placed else None
        return self.ruler_px + (last.top + last.height if last is not None else 0) + self.foot_px + _BELOW_PX

    def _mark_bar(self) -> None:
        total = self.foot_px + (self.placed[-1].top + self.placed[-1].height if self.placed else 0)
        heights = {self._height_of(item) for item in self.marked()} - {0.0}
        self.bar.show_marks([height / total for height in sorted(heights)], qt_colour(self.colours.role("measured")))

    def marked(self) -> Sequence[SliceRef]:
        """The slices whose tracks have a mark in the scroll bar."""
        return ()

    def _height_of(self, item: SliceRef) -> float:
        """Where a slice is, in pixels from the first track's top; its group's header if that is folded, 0 if hidden."""
        track = self.session.tracks.track(item.track)
        lanes = self.session.tracks.lanes(track)
        for placed in self.placed:
            if placed.track is not None and placed.track.key == item.track and lanes is not None:
                depth = min(lanes.lane_of(item.index), self.lanes_shown(placed) - 1)
                return placed.top + (depth + 0.5) * self.session.tracks.lane_px + 2
            if placed.track is None and placed.folded and placed.group == track.group:
                return placed.top + placed.height / 2
        return 0.0

    def rearranged(self) -> None:
        """Other tracks are on the screen, or the same ones elsewhere."""
        self._visible = None
        self.refresh()

    def relaid(self) -> None:
        """Lay the tracks out anew while they are painted: their heights have become known."""
        self.placed = self.session.tracks.layout()
        self._visible = None
        self._mark_bar()
        QTimer.singleShot(0, self, self._fit_bar)

    def visible(self) -> list[tuple[Placed, int]]:
        """Tracks and headers on the screen with their top, in pixels from the plot's top."""
        if self._visible is not None:
            return self._visible
        offset, pinned, foot = self.bar.value(), self.pinned_px, self.plot.height() - self.foot_px
        found: list[tuple[Placed, int]] = []
        for placed in self.placed:
            top = placed.top if placed.group == PINNED_GROUP else placed.top - offset
            limit = 0 if placed.group == PINNED_GROUP else pinned
            cut = top + placed.height > foot and foot - top < _TALL_PX
            if top + placed.height > limit and top < foot and not (cut and found):
                found.append((placed, top))
        self._visible = found
        return found

    def scroll_by(self, pixels: float) -> bool:
        """Scroll the tracks; false when all of them fit."""
        if self.bar.maximum() == 0:
            return False
        self.bar.setValue(self.bar.value() + round(pixels))
        return True

    def show_track(self, key: str) -> None:
        """Scroll and unfold so that track `key` is on the screen: of one that is taller, the selected slice's lane."""
        track = self.session.tracks.track(key)
        if key not in self.session.tracks.pinned and track.group in self.session.tracks.folded:
            self.session.tracks.fold(track.group, False)
        placed = next((placed for placed in self.placed if placed.track is not None and placed.track.key == key), None)
        if placed is None or placed.group == PINNED_GROUP:
            return
        first, height = placed.top, placed.height
        lanes, selected = self.session.tracks.lanes(track), self.session.selected
        if (
            height > self.plot.height() - self.pinned_px
            and lanes is not None
            and isinstance(selected, SliceRef)
            and selected.track == key
        ):
            height = self.session.tracks.lane_px
            first += min(lanes.lane_of(selected.index), self.lanes_shown(placed) - 1) * height
        top = first - self.bar.value()
        foot = self.plot.height() - self.foot_px
        if top < self.pinned_px or top + height > foot:
            offset = self._whole_rows(first - self.pinned_px - foot // 3)
            if first + height - offset > foot:
                offset = min(self._last_offset(first + height - foot), first - self.pinned_px)
            self.bar.setValue(offset)

    def _cut_at_top(self, offset: int) -> Placed | None:
        """The low track or header that the top would cut, scrolled by `offset` pixels."""
        under = offset + self.pinned_px
        for placed in self.placed:
            if placed.group != PINNED_GROUP and placed.top < under < placed.top + min(placed.height, _TALL_PX):
                return placed
        return None

    def _whole_rows(self, offset: int) -> int:
        """The scrolling of `offset` pixels or a few less, so that nothing low is cut at the top."""
        cut = self._cut_at_top(offset)
        return cut.top - self.pinned_px if cut is not None else offset

    def _last_offset(self, offset: int) -> int:
        """The scrolling of `offset` pixels or a few more, so that nothing low is cut at the top of the last tracks."""
        cut = self._cut_at_top(offset)
        return cut.top + cut.height - self.pinned_px if cut is not None and cut.height < _TALL_PX else offset

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the scroll bar at the right edge."""
        width = self.covered_px = self.bar.sizeHint().width()
        self.bar.setGeometry(self.width() - width, self.ruler_px, width, max(self.height() - self.ruler_px, 1))
        self.tracks_changed()
        super().resizeEvent(event)

    def lanes_shown(self, placed: Placed) -> int:
        """Nesting levels of a track that its height has room for."""
        return max((placed.height - 4) // self.session.tracks.lane_px, 1)

    def placed_at(self, y: float) -> tuple[Placed, int] | None:
        """The track or header at widget row `y`, with its top."""
        inside = y - self.ruler_px
        for placed, top in self.visible():
            if top <= inside < top + placed.height and (placed.group == PINNED_GROUP or inside >= self.pinned_px):
                return placed, top
        return None

    def slice_at(self, position: QPointF) -> SliceRef | None:
        """The slice under `position`, with a few pixels of slack for narrow ones."""
        found = self.placed_at(position.y())
        if found is None or found[0].track is None or position.x() < GUTTER_PX:
            return None
        placed, top = found
        track = placed.track
        lanes = self.session.tracks.lanes(track) if track is not None else None
        if track is None or lanes is None:
            return None
        depth = int((position.y() - self.ruler_px - top - 2) // self.session.tracks.lane_px)
        if not 0 <= depth < min(len(lanes.lanes), self.lanes_shown(placed)):
            return None
        lane: Lane = lanes.lanes[depth]
        time = self.session.origin_ns + int(np.floor(self.time_at(position.x())))
        slice_position = lane.at(time, int(_SLACK_PX * self.ns_per_px))
        return SliceRef(track.key, lane.index(slice_position)) if slice_position is not None else None

    def track_at(self, position: QPointF) -> TimelineTrack | None:
        """The track under `position`, `None` over headers and below the last one."""
        found = self.placed_at(position.y())
        return found[0].track if found is not None else None

    def acted_track(self) -> TimelineTrack | None:
        """The track that a key acts on: the one under the mouse, else that of the selected slice."""
        if self.mouse is not None:
            return self.track_at(self.mouse)
        selected = self.session.selected
        return self.session.tracks.track(selected.track) if isinstance(selected, SliceRef) else None

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """A label that was dragged takes its track to the place of the one it was dropped on."""
        if self._press is not None and self._moved and self._press.x() < GUTTER_PX:
            dragged, target = self.track_at(self._press), self.track_at(event.position())
            around = self.session.tracks.neighbours(dragged.key) if dragged is not None else []
            if dragged is not None and target is not None and target.key in around:
                self.session.tracks.shift(dragged.key, around.index(target.key) - around.index(dragged.key))
        super().mouseReleaseEvent(event)
