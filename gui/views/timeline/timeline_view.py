"""The timeline: every track of the profile and the plan's lanes beside them, one image a frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, QSignalBlocker, Qt
from PySide6.QtGui import QPainter, QResizeEvent
from PySide6.QtWidgets import QLineEdit, QWidget

from memplan.core.arrays import Floats, Int64s
from memplan.gui.i18n import say, tr
from memplan.gui.model.compare.deviations import deviation_moments
from memplan.gui.model.palette import Palette, tinted
from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.sheet import Sheet
from memplan.gui.model.slices.counterparts import framed_slices
from memplan.gui.model.slices.deviating_slices import deviating_slices
from memplan.gui.model.slices.flows import Arrow, arrows
from memplan.gui.model.slices.slice_text import slice_lines
from memplan.gui.model.tables.time_sheets import slices_sheet
from memplan.gui.model.timeline.counter_text import counter_lines
from memplan.gui.model.timeline.lanes import TrackLanes, paint
from memplan.gui.model.timeline.timeline_tracks import (
    NO_TRACKS,
    PINNED_GROUP,
    TimelineTrack,
)
from memplan.gui.views.time_axis import GUTTER_PX, RULER_PX
from memplan.gui.views.timeline.counter_shapes import draw_counters, paint_counters
from memplan.gui.views.timeline.family_legend import FamilyLegend
from memplan.gui.views.timeline.run_strip import STRIP_PX, RunStrip
from memplan.gui.views.timeline.slice_labels import SliceLabels
from memplan.gui.views.timeline.slice_marks import paint_arrows, paint_differences, paint_frames
from memplan.gui.views.timeline.track_actions import TRACK_ACTIONS
from memplan.gui.views.timeline.track_canvas import TrackCanvas
from memplan.gui.views.timeline.track_names import TrackNames
from memplan.gui.views.vector_shapes import draw_boxes
from memplan.gui.views.view import MenuEntry, TrackLoader, ViewServices
from memplan.traces.profile import TrackKind

_LEAST_ROOM_PX = 70  # under the strip: a group and two of its tracks
_LEGEND_FROM_PX = 220  # lower timelines show tracks in place of the legend
_PALE = 0.5
_HOST = (TrackKind.CANN.value, TrackKind.SCOPE.value, TrackKind.HOST.value)
_MAX_LABELS = 300


class TimelineView(TrackCanvas):
    """
    All tracks of the session, scrolled vertically; a click selects a slice, a header's click folds its group.

    Tracks that aren't read yet are handed to `loader`, which calls `refresh` when they are; without one they are read
    at once.
    """

    ruler_px = RULER_PX + STRIP_PX
    strip_px = STRIP_PX
    own_ruler = True
    keeps_over = True

    def __init__(
        self, session: Session, palette: Palette, parent: QWidget | None = None, loader: TrackLoader | None = None
    ) -> None:
        super().__init__(session, palette, parent)
        self.setMinimumHeight(self.ruler_px + _LEAST_ROOM_PX)
        self.loader = loader
        self.strip = RunStrip(session, palette, self)
        self.filter = QLineEdit(self)
        self.filter.setPlaceholderText(tr("Filter tracks …"))
        self.filter.setToolTip(tr("A part of a track's name, or a regular expression"))
        self.filter.setAccessibleName(tr("Filter tracks …"))
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._filtered)
        self.legend = FamilyLegend(palette, self)
        self._marks: Floats = np.zeros(0)
        self._tables: dict[str, NDArray[np.uint32]] = {}
        self._hover: SliceRef | None = None
        self._arrows: list[Arrow] = []
        self._framed: dict[str, list[int]] = {}
        self._names = TrackNames(self)
        self._labels = SliceLabels(self)
        self.session_changed()

    @classmethod
    def make(cls, services: ViewServices) -> QWidget:
        """A new view of the session of the moment."""
        return cls(services.session, services.palette, services.parent, services.track_loader)

    def menu_entries(self) -> Sequence[MenuEntry | None]:
        """What can be done to the track under the mouse, or to that of the selected slice."""
        track, tracks = self.acted_track(), self.session.tracks
        actions: list[MenuEntry | None] = [
            MenuEntry(
                tr(action.text),
                partial(action.run, tracks, track.key if track is not None else ""),
                enabled=track is not None,
            )
            for action in TRACK_ACTIONS
        ]
        return [*actions, MenuEntry(tr("Show hidden tracks"), tracks.show_hidden, enabled=bool(tracks.hidden)), None]

    # -- tracks ----------------------------------------------------------------------------------------------------

    def session_changed(self) -> None:
        """Another session: its tracks, from the top."""
        event = self.session.tracks.changed
        self._listening.append((event, event.connect(self.tracks_changed)))
        event = self.session.selected_changed
        self._listening.append((event, event.connect(self._selection_changed)))
        self._tables.clear()
        self._labels.renew()
        self._hover = None
        self._marks = deviation_moments(self.session.document)
        self.strip.show_session(self.session, self._marks)
        self.legend.show_palette(self.colours, compared=self.session.document.comparison is not None)
        self._place_legend()
        event = self.session.viewport.changed
        self._listening.append((event, event.connect(self.strip.update)))
        with QSignalBlocker(self.filter):
            self.filter.setText(self.session.tracks.filter)
        self.bar.setValue(0)
        self.tracks_changed()

    def _filtered(self, text: str) -> None:
        self.session.tracks.show_only(text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the strip and the filter under the ruler."""
        self.strip.setGeometry(GUTTER_PX, RULER_PX, max(self.width() - GUTTER_PX, 1), STRIP_PX)
        self.filter.setGeometry(2, RULER_PX, GUTTER_PX - 5, STRIP_PX - 1)
        self._place_legend()
        super().resizeEvent(event)

    def _place_legend(self) -> None:
        """At the foot, as high as its names need, where that leaves room for tracks."""
        width = self.width() - GUTTER_PX
        height = self.legend.height_for(width)
        self.foot_px = height if self.height() >= _LEGEND_FROM_PX else 0
        self.legend.setGeometry(GUTTER_PX, self.height() - height, width, height)
        self.legend.setVisible(bool(self.foot_px))

    def marked(self) -> Sequence[SliceRef]:
        """Where the run left the plan, the costliest differences."""
        return deviating_slices(self.session)

    def paint_ruler_marks(self, painter: QPainter, bottom: int) -> None:
        """A tick where the run left the plan, the costliest differences' of a document."""
        viewport = self.session.viewport
        first, last = np.searchsorted(self._marks, (viewport.start, viewport.end))
        painter.setPen(self.pen("measured", 1.5))
        columns = {round(self.x_of(moment)) for moment in self._marks[first:last].tolist()}
        for x in columns:
            painter.drawLine(QPointF(x, bottom - 5), QPointF(x, bottom - 1))

    def rearranged(self) -> None:
        """Other tracks are on the screen, or the same ones elsewhere."""
        self._names.renew()
        super().rearranged()

    def set_palette(self, palette: Palette) -> None:
        """Draw with other colours."""
        self.strip.set_palette(palette)
        self.legend.show_palette(palette, compared=self.legend.compared)
        self._tables.clear()
        self._labels.renew()
        self._names.renew()
        super().set_palette(palette)

    # -- painting ------------------------------------------------------------------------------------------------

    def _table(self, track: TimelineTrack, lanes: TrackLanes) -> NDArray[np.uint32]:
        table = self._tables.get(track.key)
        if table is None:
            table = self.colours.table(lanes.kinds)
            if track.kind in _HOST:
                table = np.array([self._pale(colour) for colour in table.tolist()], dtype=np.uint32)
            self._tables[track.key] = table
        return table

    def _counter_colour(self, name: str) -> int:
        return self._pale(self.colours.category(name)) if name else self._pale(self.colours.role("part_wait"))

    def _pale(self, colour: int) -> int:
        """What is beside the device's work steps back behind it."""
        return tinted(colour, self.colours.role("ground"), _PALE)

    def paint_pixels(self, pixels: NDArray[np.uint32], ns_per_px: float, scale: float) -> None:
        """Every visible lane; tracks that aren't read are asked for."""
        whole, fraction = self.whole_start()
        ground, band = self.colours.role("ground"), self.colours.role("band")
        missing: list[TimelineTrack] = []
        tracks = self.session.tracks
        unread = [p.track for p, _ in self.visible() if p.track is not None and not tracks.loaded(p.track)]
        if unread and self.loader is None:
            for track in unread:
                tracks.load(track)
            self.relaid()
            self._names.renew()
        for placed, top in self.visible():
            limit = 0 if placed.group == PINNED_GROUP else round(self.pinned_px * scale)
            first, last = round(top * scale), round((top + placed.height) * scale)
            if placed.track is None:
                pixels[max(first, limit) : max(last, 0)] = self.colours.role("window")
                pixels[max(last - 1, 0) : max(last, 0)] = self.colours.role("line")
                continue
            if not tracks.loaded(placed.track):
                missing.append(placed.track)
                continue
            view = pixels[limit:]
            if placed.track.kind == TrackKind.COUNTER.value:
                counters = tracks.counters(placed.track)
                edges = self._edges(view.shape[1], ns_per_px)
                paint_counters(view, counters, (first - limit, last - limit), edges, self._counter_colour)
                continue
            lanes = tracks.lanes(placed.track)
            if lanes is None:
                continue
            if tracks.provisional(placed.track):
                missing.append(placed.track)
            table = self._table(placed.track, lanes)
            height = tracks.lane_px * scale
            for depth, lane in enumerate(lanes.lanes[: self.lanes_shown(placed)]):
                y0 = round(top * scale + depth * height + 2 * scale) - limit
                y1 = round(top * scale + (depth + 1) * height + 1 * scale) - limit
                paint(view, (y0, y1), lane, whole, fraction, ns_per_px, table, ground)
            if last - 1 >= limit and last - 1 < pixels.shape[0]:
                pixels[last - 1] = band
        if missing and self.loader is not None:
            self.loader(self.session, missing)

    def paint_vectors(self, painter: QPainter) -> None:
        """Every visible slice as a rectangle, and counters as areas."""
        tracks, px = self.session.tracks, self.ns_per_px
        whole, fraction = self.whole_start()
        until = whole + int(self.plot.width() * px) + 1
        for placed, top in self.visible():
            y = self.ruler_px + top
            limit = self.ruler_px + (0 if placed.group == PINNED_GROUP else self.pinned_px)
            painter.setClipRect(QRectF(GUTTER_PX, limit, self.plot.width(), max(self.height() - limit, 0)))
            if placed.track is None:
                self.block(painter, QRectF(GUTTER_PX, y, self.plot.width(), placed.height), self.colours.role("window"))
                continue
            if series := tracks.counters(placed.track):
                edges = self._edges(self.plot.width(), px)
                draw_counters(painter, series, edges, (GUTTER_PX, y, placed.height), self._counter_colour)
            lanes = tracks.lanes(placed.track)
            if lanes is None:
                continue
            table = self._table(placed.track, lanes)
            for depth, lane in enumerate(lanes.lanes[: self.lanes_shown(placed)]):
                first, last = lane.between(whole, until)
                start = (lane.start_ns[first:last] - whole).astype(np.float64) - fraction
                left = np.maximum(GUTTER_PX + start / px, GUTTER_PX)
                right = np.minimum(GUTTER_PX + (start + lane.duration_ns[first:last]) / px, self.width())
                above = np.full(len(left), y + depth * tracks.lane_px + 2.0)
                draw_boxes(
                    painter, left, right, above, above + float(tracks.lane_px - 1), table[lane.category[first:last]]
                )
        painter.setClipRect(self.plot)

    def _edges(self, columns: int, ns_per_px: float) -> Int64s:
        """The times between which so many columns of the visible stretch lie, ns of the profile's clock."""
        whole, fraction = self.whole_start()
        edges: Int64s = whole + (fraction + np.arange(columns + 1) * ns_per_px).astype(np.int64)
        return edges

    def paint_over(self, painter: QPainter) -> None:
        """Group names, slice names where they fit, the selected slice's frame and arrows."""
        if not self.placed:
            self._paint_why_empty(painter)
        labels, plot, shown = 0, self.plot, self.stretch()
        scrolled, clip = plot.adjusted(0, self.pinned_px, 0, 0), None
        for placed, top in self.visible():
            y = self.ruler_px + top
            within = plot if placed.group == PINNED_GROUP else scrolled
            if clip is not within:
                painter.setClipRect(within)
                clip = within
            if placed.track is None:
                continue
            unreadable = placed.track.key in self.session.tracks.unreadable
            if unreadable or not self.session.tracks.loaded(placed.track):
                painter.setFont(self.small_font)
                painter.setPen(self.pen("warning" if unreadable else "faint"))
                painter.drawText(QPointF(GUTTER_PX + 8, y + 14), tr("can't be read" if unreadable else "reading …"))
                continue
            lanes = self.session.tracks.lanes(placed.track)
            if lanes is not None:
                grounds = self._table(placed.track, lanes)
                labels += self._labels.paint(painter, shown, placed, lanes, y, grounds, _MAX_LABELS - labels)
                if placed.track.planned is not None and placed.track.planned.measured_ns is not None:
                    paint_differences(self, painter, placed, lanes, placed.track.planned.measured_ns, y)
                paint_frames(self, painter, placed, lanes, self._framed.get(placed.track.key, ()), y)
        painter.setClipRect(plot)
        paint_arrows(self, painter, self._arrows)

    def _paint_why_empty(self, painter: QPainter) -> None:
        if self.session.document.empty:
            return
        if not self.session.tracks.all:
            text = say(NO_TRACKS)
        elif self.session.tracks.filter:
            text = tr("No track is called so: clear the filter above to see all of them")
        else:
            text = tr("Every track is hidden: Shift+H shows them again")
        painter.setFont(self.text_font)
        painter.setPen(self.pen("faint"))
        painter.drawText(self.plot, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), text)

    def _selection_changed(self) -> None:
        self._follow_selected()
        self.update()

    def _follow_selected(self) -> None:
        """Know what is framed and which arrows there are; tracks at the other ends of arrows are read for that."""
        session = self.session
        self._arrows = arrows(session, session.selected)
        self._framed = {}
        for item in framed_slices(session, session.selected):
            self._framed.setdefault(item.track, []).append(item.index)
        ends = {end.track for arrow in self._arrows for end in (arrow.source, arrow.target)}
        unread = [track for track in map(session.tracks.track, sorted(ends)) if not session.tracks.loaded(track)]
        if unread and self.loader is not None:
            self.loader(session, unread)
        elif unread:
            for track in unread:
                session.tracks.load(track)
            self._arrows = arrows(session, session.selected)

    def tracks_changed(self) -> None:
        """The arrangement or the height of tracks changed, or some were read."""
        self.strip.update()
        self._follow_selected()
        super().tracks_changed()

    def paint_gutter(self, painter: QPainter) -> None:
        """Group headers and track names."""
        self._names.paint(painter)

    def paint_top(self, painter: QPainter) -> None:
        """What lies under the mouse: a slice, or the values of counters then."""
        if self._hover is not None:
            self.paint_hover(painter, [say(line) for line in slice_lines(self.session, self._hover)])
        elif self.mouse is not None and self.mouse.x() >= GUTTER_PX:
            track = self.track_at(self.mouse)
            series = self.session.tracks.counters(track) if track is not None else ()
            if track is not None and series:
                moment = self.session.origin_ns + int(np.floor(self.time_at(self.mouse.x())))
                self.paint_hover(painter, [say(line) for line in counter_lines(track, series, moment)])

    def sheet(self) -> Sheet:
        """The slices of the selected or visible time range."""
        return slices_sheet(self.session)

    # -- input ---------------------------------------------------------------------------------------------------

    def moved(self, position: QPointF) -> None:
        """Remember what lies under the mouse."""
        self._hover = self.slice_at(position)

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the mouse."""
        self._hover = None
        super().leaveEvent(event)

    def clicked(self, position: QPointF) -> None:
        """Select the slice, or fold the header's group."""
        found = self.placed_at(position.y())
        if found is not None and found[0].track is None:
            self.session.tracks.fold(found[0].group)
        elif position.x() >= GUTTER_PX:
            self.session.select(self.slice_at(position))
