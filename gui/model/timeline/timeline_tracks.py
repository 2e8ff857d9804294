"""The tracks of the timeline: which there are, in which group and order, which are pinned, folded or hidden."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memplan.core.errors import MemplanError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.gui.model.document import Document
from memplan.gui.model.event import Event
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.model.timeline.lanes import TrackLanes, build_lanes
from memplan.gui.model.timeline.planned_tracks import PlannedTrack, planned_tracks
from memplan.traces.profile import CounterSeries, TrackKind

if TYPE_CHECKING:
    from memplan.traces.rank import RankProfile

PLAN_GROUP = "Plan"
PINNED_GROUP = "Pinned"
NO_TRACKS = Sentence("The files of this rank hold neither slices nor kernels")
"""Why nothing is shown, and can't be selected, of a profile that has no track."""
LANE_PX = 18
COUNTER_PX = 36
HEADER_PX = 22
MAX_LANES = 64
"""Nesting levels that a track shows; the host's call stacks are some thirty deep."""

_ORDER = (
    TrackKind.STREAM, TrackKind.OVERLAP, TrackKind.COMMUNICATION, TrackKind.COUNTER, TrackKind.CANN, TrackKind.SCOPE,
    TrackKind.HOST,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimelineTrack:
    """
    One track on the screen.

    `key` names it across sessions; `track_id` is its id in the rank, `planned` its content when it comes from the plan.
    """

    key: str
    label: str
    group: str
    kind: str
    count: int
    track_id: int | None = None
    planned: PlannedTrack | None = None

    @property
    def name(self) -> Text:
        """What the track is called: measured tracks as the profile names them."""
        return self.planned.label if self.planned is not None else self.label

    @property
    def title(self) -> Text:
        """The track's name with its group's."""
        return Sentence("{} / {}", (group_name(self.group), self.name))


@dataclass(frozen=True, slots=True)
class Placed:
    """A track or a group's header with its place on the (scrolled) canvas: `[top, top + height)` pixels."""

    track: TimelineTrack | None
    group: str
    top: int
    height: int
    folded: bool = False
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class TrackContent:
    """What was read of a track: the lanes of its slices, or its counter series, or why it can't be read."""

    lanes: TrackLanes | None = None
    counters: tuple[CounterSeries, ...] = ()
    problem: Text | None = None


def group_name(group: str) -> Text:
    """What a group is called: the profile's own names stay as they are."""
    return Sentence(group) if group in (PLAN_GROUP, PINNED_GROUP) else group


def name_filter(text: str) -> Callable[[str], bool]:
    """Whether a name holds `text`, whatever its case: a regular expression, or a plain part where it is none."""
    try:
        pattern = re.compile(text.strip(), re.IGNORECASE)
    except re.error:
        pattern = re.compile(re.escape(text.strip()), re.IGNORECASE)
    return lambda name: pattern.search(name) is not None


class TimelineTracks:
    """All tracks of a document and how the user arranged them; slices and lanes are read on first use and kept."""

    def __init__(self, document: Document, loops: DrawingLoops | None = None) -> None:
        self.changed = Event()
        self.kept = Event()
        self.lane_px = LANE_PX
        self._rank = document.rank
        self._loops = loops or DrawingLoops()
        self._lanes: dict[str, TrackLanes] = {}
        self._counters: dict[str, tuple[CounterSeries, ...]] = {}
        self.unreadable: dict[str, Text] = {}
        """Tracks whose data could not be read, and why."""
        self.all: tuple[TimelineTrack, ...] = (*_planned(document), *_measured(document.rank))
        self.pinned: list[str] = []
        self.folded: set[str] = set()
        self.hidden: set[str] = set()
        self.filter = ""
        """What the names of shown tracks hold: a part of them, or a regular expression."""
        self.arranged = False
        """Whether the user arranged anything since the tracks were made or `arrange`d."""
        self.reads = 0
        """How often what was read of a track was kept: where it is the same, so are `lanes` and `counters`."""
        self._by_key = {track.key: track for track in self.all}

    def track(self, key: str) -> TimelineTrack:
        """The track of that key; raises `KeyError`."""
        return self._by_key[key]

    def by_id(self, track_id: int) -> TimelineTrack | None:
        """The track with id `track_id` in the rank."""
        return next((track for track in self.all if track.track_id == track_id), None)

    def loaded(self, track: TimelineTrack) -> bool:
        """Whether the track's data is in memory, or can't be read."""
        return track.key in self._lanes or track.key in self._counters or track.key in self.unreadable

    def provisional(self, track: TimelineTrack) -> bool:
        """Whether the track's lanes were made before the loops were loaded that by now would draw them."""
        lanes = self._lanes.get(track.key)
        return self._loops.loaded and lanes is not None and not lanes.compiled

    def load(self, track: TimelineTrack) -> None:
        """Read the track's data and keep it, on the thread that shows the tracks."""
        if not self.loaded(track):
            self.keep(track, self.read(track))

    def read(self, track: TimelineTrack, progress: Progress = silent) -> TrackContent:
        """
        The track's data with its pyramid, for `keep`; for any thread, since it changes nothing here.

        Raises `CancelledError` where `progress` does; of a track that can't be read the content says why.
        """
        progress(0, 1, track.label)
        try:
            return self._content(track)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to concerns one track
            return TrackContent(problem=error.sentence if isinstance(error, MemplanError) else repr(error))

    def keep(self, track: TimelineTrack, content: TrackContent) -> None:
        """Show what was read of the track; for the thread that shows the tracks, and no other."""
        if content.problem is not None:
            self.unreadable[track.key] = content.problem
        elif content.lanes is not None:
            self._lanes[track.key] = content.lanes
        else:
            self._counters[track.key] = content.counters
        self.reads += 1
        self.kept.emit()

    def _content(self, track: TimelineTrack) -> TrackContent:
        compiled = self._loops.loaded
        if (before := self._lanes.get(track.key)) is not None:
            return TrackContent(build_lanes(before.slices, compiled=compiled))
        if track.planned is not None:
            return TrackContent(build_lanes(track.planned.slices, compiled=compiled))
        if self._rank is None or track.track_id is None:
            return TrackContent()
        if track.kind == TrackKind.COUNTER.value:
            return TrackContent(counters=tuple(self._rank.counters(track.track_id)))
        return TrackContent(build_lanes(self._rank.slices(track.track_id), compiled=compiled))

    def lanes(self, track: TimelineTrack) -> TrackLanes | None:
        """The track's lanes once loaded."""
        return self._lanes.get(track.key)

    def counters(self, track: TimelineTrack) -> tuple[CounterSeries, ...]:
        """The track's counter series once loaded."""
        return self._counters.get(track.key, ())

    def height(self, track: TimelineTrack) -> int:
        """Pixels that the track needs unfolded; one lane while it isn't loaded."""
        if track.kind == TrackKind.COUNTER.value:
            return COUNTER_PX
        lanes = self._lanes.get(track.key)
        return self.lane_px * min(max(len(lanes.lanes) if lanes is not None else 1, 1), MAX_LANES) + 4

    def layout(self) -> list[Placed]:
        """Pinned tracks, then every group with its header and tracks, top to bottom."""
        placed: list[Placed] = []
        top = 0
        named = name_filter(self.filter)
        shown = [track for track in self.all if track.key not in self.hidden and named(f"{track.group} {track.label}")]
        pinned = [self._by_key[key] for key in self.pinned if key in self._by_key and key not in self.hidden]
        if pinned:
            placed.append(Placed(None, PINNED_GROUP, top, HEADER_PX, folded=PINNED_GROUP in self.folded))
            top += HEADER_PX
            for track in pinned if PINNED_GROUP not in self.folded else ():
                placed.append(Placed(track, PINNED_GROUP, top, self.height(track), pinned=True))
                top += placed[-1].height
        # A group whose tracks are all pinned has nothing to head.
        for group in dict.fromkeys(track.group for track in shown if track.key not in self.pinned):
            folded = group in self.folded
            placed.append(Placed(None, group, top, HEADER_PX, folded=folded))
            top += HEADER_PX
            for track in shown:
                if track.group == group and not folded and track.key not in self.pinned:
                    placed.append(Placed(track, group, top, self.height(track)))
                    top += placed[-1].height
        return placed

    def fold(self, group: str, folded: bool | None = None) -> None:
        """Fold or unfold a group; turn it round without `folded`."""
        if folded is None:
            folded = group not in self.folded
        (self.folded.add if folded else self.folded.discard)(group)
        self._arranged()

    def pin(self, key: str, pinned: bool | None = None) -> None:
        """Keep a track at the top, or let it go back to its group; turn it round without `pinned`."""
        if pinned is None:
            pinned = key not in self.pinned
        if pinned and key not in self.pinned:
            self.pinned.append(key)
        elif not pinned and key in self.pinned:
            self.pinned.remove(key)
        self._arranged()

    def hide(self, key: str, hidden: bool = True) -> None:
        """Leave a track out, or show it again."""
        (self.hidden.add if hidden else self.hidden.discard)(key)
        self._arranged()

    def move(self, key: str, before: str | None) -> None:
        """Put track `key` before track `before` (to the end without one), into that track's group order."""
        moving = self._by_key[key]
        rest = [track for track in self.all if track.key != key]
        target = next((i for i, track in enumerate(rest) if track.key == before), len(rest))
        self.all = (*rest[:target], moving, *rest[target:])
        if key in self.pinned:
            self.pinned.remove(key)
            place = self.pinned.index(before) if before in self.pinned else len(self.pinned)
            self.pinned.insert(place, key)
        self._arranged()

    def neighbours(self, key: str) -> list[str]:
        """The shown tracks among which `key` can be moved, itself included: pinned ones, or those of its group."""
        if key in self.pinned:
            return list(self.pinned)
        group = self._by_key[key].group
        return [
            track.key for track in self.all if track.group == group and track.key not in {*self.hidden, *self.pinned}
        ]

    def shift(self, key: str, places: int) -> None:
        """Move track `key` down by `places` among its neighbours (up where negative), as far as there are any."""
        around = self.neighbours(key)
        target = min(max(around.index(key) + places, 0), len(around) - 1)
        rest = [other for other in around if other != key]
        self.move(key, rest[target] if target < len(rest) else None)

    def fold_all(self, folded: bool) -> None:
        """Fold or unfold every group."""
        self.folded = {track.group for track in self.all} if folded else set()
        self._arranged()

    def show_only(self, text: str) -> None:
        """Show the tracks whose name, with that of their group, matches `text`; pinned ones stay."""
        if text != self.filter:
            self.filter = text
            self.changed.emit()

    def show_hidden(self) -> None:
        """Show every hidden track again."""
        self.hidden.clear()
        self._arranged()

    def arrangement(self, before: Mapping[str, Iterable[str]] | None = None) -> dict[str, list[str]]:
        """
        How the user arranged the tracks, as plain values to keep between sessions.

        What `before` says of tracks and groups that this document lacks is kept.
        """
        known = {*self._by_key, *(track.group for track in self.all), PINNED_GROUP}
        now = {
            "order": [track.key for track in self.all],
            "pinned": list(self.pinned),
            "folded": sorted(self.folded),
            "hidden": sorted(self.hidden),
        }
        return {
            name: [*keys, *(key for key in (before or {}).get(name, ()) if key not in known and key not in keys)]
            for name, keys in now.items()
        }

    def arrange(self, arrangement: Mapping[str, Iterable[str]]) -> None:
        """Apply what `arrangement` returned; keys that this document lacks are passed over."""
        place = {key: index for index, key in enumerate(arrangement.get("order", ()))}
        self.all = tuple(sorted(self.all, key=lambda track: place.get(track.key, len(place))))
        self.pinned = [key for key in arrangement.get("pinned", ()) if key in self._by_key]
        self.folded = set(arrangement.get("folded", ()))
        self.hidden = {key for key in arrangement.get("hidden", ()) if key in self._by_key}
        self.arranged = False
        self.changed.emit()

    def _arranged(self) -> None:
        self.arranged = True
        self.changed.emit()


def _planned(document: Document) -> list[TimelineTrack]:
    if document.plan is None:
        return []
    found = document.comparison
    return [
        TimelineTrack(
            f"plan/{planned.key}", str(planned.label), PLAN_GROUP, "plan", len(planned.slices), planned=planned
        )
        for planned in planned_tracks(
            document.plan, document.axis, found.matches if found is not None and not document.own_clock else None
        )
    ]


def _measured(rank: RankProfile | None) -> list[TimelineTrack]:
    if rank is None:
        return []
    measured = sorted((item for item in rank.tracks if item.count), key=lambda item: _ORDER.index(item.kind))
    tracks: list[TimelineTrack] = []
    seen: dict[str, int] = {}
    for item in measured:
        key = f"{item.kind.value}/{item.process}/{item.thread}"
        seen[key] = seen.get(key, 0) + 1
        track = TimelineTrack(
            key, item.thread or item.process, item.process, item.kind.value, item.count, track_id=item.id
        )
        tracks.append(track if seen[key] == 1 else replace(track, key=f"{key}#{seen[key]}"))
    return tracks
