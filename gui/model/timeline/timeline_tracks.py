"""The rows of the timeline: which tracks there are, in which group and order, which are pinned, folded or hidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from memplan.core.errors import MemplanError
from memplan.core.progress import Progress, silent
from memplan.gui.model.document.document import Document
from memplan.gui.model.event import Event
from memplan.gui.model.timeline.lanes import TrackLanes, build_lanes
from memplan.gui.model.timeline.planned_tracks import PlannedTrack, planned_tracks
from memplan.core.sentence import Sentence, Text
from memplan.traces.profile import CounterSeries, RankProfile, TrackKind

PLAN_GROUP = "Plan"
PINNED_GROUP = "Pinned"
LANE_PX = 18
COUNTER_PX = 36
HEADER_PX = 22
MAX_LANES = 64
"""Nesting levels that a row shows; the host's call stacks are some thirty deep."""

_ORDER = (
    TrackKind.STREAM, TrackKind.OVERLAP, TrackKind.COMMUNICATION, TrackKind.COUNTER, TrackKind.CANN, TrackKind.SCOPE,
    TrackKind.HOST,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """
    One track on the screen.

    `key` names it across sessions; `track` is its id in the rank, `planned` its content when it comes from the plan.
    """

    key: str
    label: str
    group: str
    kind: str
    count: int
    track: int | None = None
    planned: PlannedTrack | None = None

    @property
    def name(self) -> Text:
        """What the row is called: measured tracks as the profile names them."""
        return self.planned.label if self.planned is not None else self.label

    @property
    def title(self) -> Text:
        """The row's name with its group's."""
        return Sentence("{} / {}", (group_name(self.group), self.name))


@dataclass(frozen=True, slots=True)
class Placed:
    """A row or a group's header with its place on the (scrolled) canvas: `[top, top + height)` pixels."""

    row: Row | None
    group: str
    top: int
    height: int
    folded: bool = False
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class TrackContent:
    """What was read of a row: the lanes of its slices, or its counter series, or why it can't be read."""

    lanes: TrackLanes | None = None
    counters: tuple[CounterSeries, ...] = ()
    problem: str | None = None


def group_name(group: str) -> Text:
    """What a group is called: the profile's own names stay as they are."""
    return Sentence(group) if group in (PLAN_GROUP, PINNED_GROUP) else group


class Rows:
    """All rows of a document and how the user arranged them; slices and lanes are read on first use and kept."""

    def __init__(self, document: Document) -> None:
        self.changed = Event()
        self.lane_px = LANE_PX
        self._rank = document.rank
        self._lanes: dict[str, TrackLanes] = {}
        self._counters: dict[str, tuple[CounterSeries, ...]] = {}
        self.unreadable: dict[str, str] = {}
        """Rows whose data could not be read, and why."""
        self.rows: tuple[Row, ...] = (*_planned_rows(document), *_measured_rows(document.rank))
        self.pinned: list[str] = []
        self.folded: set[str] = set()
        self.hidden: set[str] = set()
        self.arranged = False
        """Whether the user arranged anything since the rows were made or `arrange`d."""
        self._by_key = {row.key: row for row in self.rows}

    def row(self, key: str) -> Row:
        """The row of that key; raises `KeyError`."""
        return self._by_key[key]

    def of_track(self, track: int) -> Row | None:
        """The row that shows track `track` of the rank."""
        return next((row for row in self.rows if row.track == track), None)

    def loaded(self, row: Row) -> bool:
        """Whether the row's data is in memory, or can't be read."""
        return row.key in self._lanes or row.key in self._counters or row.key in self.unreadable

    def load(self, row: Row) -> None:
        """Read the row's data and keep it, on the thread that shows the rows."""
        if not self.loaded(row):
            self.keep(row, self.read(row))

    def read(self, row: Row, progress: Progress = silent) -> TrackContent:
        """
        The row's data with its pyramid, for `keep`; for any thread, since it changes nothing here.

        Raises `CancelledError` where `progress` does; of a row that can't be read the content says why.
        """
        progress(0, 1, row.label)
        try:
            return self._content(row)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to concerns one row
            return TrackContent(problem=str(error) if isinstance(error, MemplanError) else repr(error))

    def keep(self, row: Row, content: TrackContent) -> None:
        """Show what was read of the row; for the thread that shows the rows, and no other."""
        if content.problem is not None:
            self.unreadable[row.key] = content.problem
        elif content.lanes is not None:
            self._lanes[row.key] = content.lanes
        else:
            self._counters[row.key] = content.counters

    def _content(self, row: Row) -> TrackContent:
        if row.planned is not None:
            return TrackContent(build_lanes(row.planned.slices))
        if self._rank is None or row.track is None:
            return TrackContent()
        if row.kind == TrackKind.COUNTER.value:
            return TrackContent(counters=tuple(self._rank.counters(row.track)))
        return TrackContent(build_lanes(self._rank.slices(row.track)))

    def lanes(self, row: Row) -> TrackLanes | None:
        """The row's lanes once loaded."""
        return self._lanes.get(row.key)

    def counters(self, row: Row) -> tuple[CounterSeries, ...]:
        """The row's counter series once loaded."""
        return self._counters.get(row.key, ())

    def height(self, row: Row) -> int:
        """Pixels that the row needs unfolded; one lane while it isn't loaded."""
        if row.kind == TrackKind.COUNTER.value:
            return COUNTER_PX
        lanes = self._lanes.get(row.key)
        return self.lane_px * min(max(len(lanes.lanes) if lanes is not None else 1, 1), MAX_LANES) + 4

    def layout(self) -> list[Placed]:
        """Pinned rows, then every group with its header and rows, top to bottom."""
        placed: list[Placed] = []
        top = 0
        shown = [row for row in self.rows if row.key not in self.hidden]
        pinned = [self._by_key[key] for key in self.pinned if key in self._by_key]
        if pinned:
            placed.append(Placed(None, PINNED_GROUP, top, HEADER_PX, folded=PINNED_GROUP in self.folded))
            top += HEADER_PX
            for row in pinned if PINNED_GROUP not in self.folded else ():
                placed.append(Placed(row, PINNED_GROUP, top, self.height(row), pinned=True))
                top += placed[-1].height
        for group in dict.fromkeys(row.group for row in shown):
            folded = group in self.folded
            placed.append(Placed(None, group, top, HEADER_PX, folded=folded))
            top += HEADER_PX
            for row in shown:
                if row.group == group and not folded and row.key not in self.pinned:
                    placed.append(Placed(row, group, top, self.height(row)))
                    top += placed[-1].height
        return placed

    def fold(self, group: str, folded: bool | None = None) -> None:
        """Fold or unfold a group; turn it round without `folded`."""
        if folded is None:
            folded = group not in self.folded
        (self.folded.add if folded else self.folded.discard)(group)
        self._arranged()

    def pin(self, key: str, pinned: bool | None = None) -> None:
        """Keep a row at the top, or let it go back to its group; turn it round without `pinned`."""
        if pinned is None:
            pinned = key not in self.pinned
        if pinned and key not in self.pinned:
            self.pinned.append(key)
        elif not pinned and key in self.pinned:
            self.pinned.remove(key)
        self._arranged()

    def hide(self, key: str, hidden: bool = True) -> None:
        """Leave a row out, or show it again."""
        (self.hidden.add if hidden else self.hidden.discard)(key)
        self._arranged()

    def move(self, key: str, before: str | None) -> None:
        """Put row `key` before row `before` (to the end without one), into that row's group order."""
        moving = self._by_key[key]
        rest = [row for row in self.rows if row.key != key]
        target = next((i for i, row in enumerate(rest) if row.key == before), len(rest))
        self.rows = (*rest[:target], moving, *rest[target:])
        if key in self.pinned:
            self.pinned.remove(key)
            place = self.pinned.index(before) if before in self.pinned else len(self.pinned)
            self.pinned.insert(place, key)
        self._arranged()

    def neighbours(self, key: str) -> list[str]:
        """The shown rows among which row `key` can be moved, itself included: pinned ones, or those of its group."""
        if key in self.pinned:
            return list(self.pinned)
        group = self._by_key[key].group
        return [row.key for row in self.rows if row.group == group and row.key not in {*self.hidden, *self.pinned}]

    def shift(self, key: str, places: int) -> None:
        """Move row `key` down by `places` among its neighbours (up where negative), as far as there are any."""
        around = self.neighbours(key)
        target = min(max(around.index(key) + places, 0), len(around) - 1)
        rest = [other for other in around if other != key]
        self.move(key, rest[target] if target < len(rest) else None)

    def fold_all(self, folded: bool) -> None:
        """Fold or unfold every group."""
        self.folded = {row.group for row in self.rows} if folded else set()
        self._arranged()

    def show_hidden(self) -> None:
        """Show every hidden row again."""
        self.hidden.clear()
        self._arranged()

    def arrangement(self, before: Mapping[str, Iterable[str]] | None = None) -> dict[str, list[str]]:
        """
        How the user arranged the rows, as plain values to keep between sessions.

        What `before` says of rows and groups that this document lacks is kept.
        """
        known = {*self._by_key, *(row.group for row in self.rows), PINNED_GROUP}
        now = {
            "order": [row.key for row in self.rows],
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
        self.rows = tuple(sorted(self.rows, key=lambda row: place.get(row.key, len(place))))
        self.pinned = [key for key in arrangement.get("pinned", ()) if key in self._by_key]
        self.folded = set(arrangement.get("folded", ()))
        self.hidden = {key for key in arrangement.get("hidden", ()) if key in self._by_key}
        self.arranged = False
        self.changed.emit()

    def _arranged(self) -> None:
        self.arranged = True
        self.changed.emit()


def _planned_rows(document: Document) -> list[Row]:
    if document.plan is None:
        return []
    return [
        Row(f"plan/{track.key}", str(track.label), PLAN_GROUP, "plan", len(track.slices), planned=track)
        for track in planned_tracks(document.plan, document.axis)
    ]


def _measured_rows(rank: RankProfile | None) -> list[Row]:
    if rank is None:
        return []
    tracks = sorted((track for track in rank.tracks if track.count), key=lambda track: _ORDER.index(track.kind))
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for track in tracks:
        key = f"{track.kind.value}/{track.process}/{track.thread}"
        seen[key] = seen.get(key, 0) + 1
        row = Row(key, track.thread or track.process, track.process, track.kind.value, track.count, track=track.id)
        rows.append(row if seen[key] == 1 else replace(row, key=f"{key}#{seen[key]}"))
    return rows
