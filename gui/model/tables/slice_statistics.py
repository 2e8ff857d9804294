"""What ran in a stretch of time: how often, how long, and how long it was planned to, grouped as chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.distinct import distinct
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.text_enum import TextEnum
from memplan.core.units import format_change, format_duration, format_share
from memplan.gui.model.kernels_of_slices import DEVICE_TRACKS
from memplan.gui.model.session.session import Session, SliceRef, SpansRef
from memplan.gui.model.tables.table import TableRow, TableShape
from memplan.gui.model.timeline.lanes import TrackLanes
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, name_filter
from memplan.traces.profile import TrackKind

STATISTICS_SHAPE = TableShape(
    ("Name", "Count", "Total", "Self", "Average", "Longest", "Share", "Planned", "Difference"),
    wide=0,
    numbers=1,
    sorted_by=2,
    spare=(3, 5),
)
MOST_GROUPS = 5_000
_MOST_SPANS = 2_000


class GroupBy(TextEnum):
    """What slices are put together by."""

    TYPE = "Type"
    NAME = "Name"
    LAYER = "Place in the model"
    TRACK = "Track"
    EACH = "Each by itself"


@dataclass(frozen=True, slots=True)
class SliceStatistics:
    """Rows by total, how many slices they count, and their time in ns; `left_out` further groups are not listed."""

    rows: Sequence[TableRow]
    count: int
    total_ns: int
    left_out: int


@dataclass(slots=True)
class _Gathered:
    """The slices of a stretch, column by column."""

    label: list[NDArray[np.int64]]
    start: list[Int64s]
    inside: list[Int64s]
    own: list[Int64s]
    planned: list[Int64s]
    track: list[Int64s]
    index: list[Int64s]


def slice_statistics(
    session: Session, group: GroupBy, stretch: tuple[int, int], wanted: str = "", progress: Progress = silent
) -> SliceStatistics:
    """
    The slices that overlap `stretch` (ns of the profile's clock), of tracks that are read: those of the device, by
    track all of them.

    `wanted` is a regular expression that names contain, of any case; one that is none is taken as it stands. Times
    count what lies in the stretch. Self is without what lies within a slice on the lanes below it. The planned time is
    that of the ops that the kernels were found to be, and the difference is to the same kernels' own time.
    """
    names: dict[str, int] = {}
    found = _Gathered([], [], [], [], [], [], [])
    tracks = [track for track in session.tracks.all if _counts(track, group) and track.key not in session.tracks.hidden]
    for done, track in enumerate(tracks):
        progress(done, len(tracks), track.label)
        lanes = session.tracks.lanes(track)
        if lanes is not None:
            _gather(session, group, track, lanes, stretch, names, found, done)
    if not found.start:
        return SliceStatistics((), 0, 0, 0)
    label = np.concatenate(found.label)
    texts = list(names)
    if wanted:
        hit = _matching(texts, wanted)
        keep = hit[label]
        label = label[keep]
        columns = [np.concatenate(part)[keep] for part in _columns(found)]
    else:
        columns = [np.concatenate(part) for part in _columns(found)]
    start, inside, own, planned, of_track, index = columns
    keys = np.arange(len(label)) if group is GroupBy.EACH else label
    # By group, in order of time within each: sums are runs of it.
    by_key = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.concatenate(([True], np.diff(keys[by_key]) != 0))) if len(keys) else np.zeros(0, int)
    if not len(first):
        return SliceStatistics((), 0, 0, 0)
    last = np.append(first[1:], len(by_key))
    known = planned >= 0
    total, alone, expected, compared = (
        np.add.reduceat(part[by_key], first)
        for part in (inside, own, np.where(known, planned, 0), np.where(known, inside, 0))
    )
    longest, matched = np.maximum.reduceat(inside[by_key], first), np.logical_or.reduceat(known[by_key], first)
    length = max(stretch[1] - stretch[0], 1)
    order = np.argsort(-total, kind="stable")[:MOST_GROUPS]
    rows = []
    for place in order.tolist():
        members = by_key[first[place] : min(last[place], first[place] + _MOST_SPANS)]
        one = int(members[0])
        name = texts[int(label[one])]
        item: SliceRef | SpansRef
        if group is GroupBy.EACH:
            item = SliceRef(tracks[int(of_track[one])].key, int(index[one]))
            span: tuple[int, int] | None = (int(start[one]), int(start[one] + inside[one]))
        else:
            spans = zip(start[members].tolist(), (start[members] + inside[members]).tolist(), strict=True)
            item, span = SpansRef(name, tuple(spans)), None
        both = (int(expected[place]), int(compared[place])) if matched[place] else None
        figures = (int(last[place] - first[place]), int(total[place]), int(alone[place]), int(longest[place]))
        rows.append(_row(name, figures, length, both, item, span))
    return SliceStatistics(rows, len(keys), int(total.sum()), len(first) - len(order))


def _counts(track: TimelineTrack, group: GroupBy) -> bool:
    if track.kind == TrackKind.COUNTER.value:
        return False
    return group is GroupBy.TRACK or track.kind in DEVICE_TRACKS


def _columns(found: _Gathered) -> tuple[list[Int64s], ...]:
    return found.start, found.inside, found.own, found.planned, found.track, found.index


def _matching(texts: Sequence[str], wanted: str) -> NDArray[np.bool_]:
    return np.array(list(map(name_filter(wanted), texts)), dtype=np.bool_)


def _gather(
    session: Session,
    group: GroupBy,
    track: TimelineTrack,
    lanes: TrackLanes,
    stretch: tuple[int, int],
    names: dict[str, int],
    found: _Gathered,
    number: int,
) -> None:
    """Add the slices of one track that overlap `stretch`; of nested ones all lanes."""
    below: tuple[Int64s, Int64s] | None = None
    for depth in reversed(range(len(lanes.lanes))):
        lane = lanes.lanes[depth]
        shown = slice(*lane.between(*stretch))
        start = np.maximum(lane.start_ns[shown], stretch[0])
        end = np.minimum(lane.start_ns[shown] + lane.duration_ns[shown], stretch[1])
        inside = np.maximum(end - start, 0)
        own = inside if below is None else inside - _covered(start, end, *below)
        below = start, end
        if not len(start) or (group is GroupBy.TRACK and depth):
            continue
        index = np.arange(shown.start, shown.stop) if lane.indices is None else lane.indices[shown]
        found.label.append(_labels(session, group, track, lanes, index, names))
        found.start.append(start)
        found.inside.append(inside)
        found.own.append(own)
        found.planned.append(_planned(session, track, lane.start_ns[shown]))
        found.track.append(np.full(len(start), number, dtype=np.int64))
        found.index.append(np.asarray(index, dtype=np.int64))


def _covered(start: Int64s, end: Int64s, first: Int64s, last: Int64s) -> Int64s:
    """How much of each of the intervals lies under those of the next lane, which nest in them."""
    sums = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(last - first)))
    covered: Int64s = sums[np.searchsorted(first, end)] - sums[np.searchsorted(first, start)]
    return np.minimum(covered, end - start)


def _labels(
    session: Session, group: GroupBy, track: TimelineTrack, lanes: TrackLanes, index: Int64s, names: dict[str, int]
) -> Int64s:
    """For each slice the number of what it is grouped by, in `names`."""
    slices = lanes.slices
    if group is GroupBy.TRACK:
        return np.full(len(index), names.setdefault(str(track.title), len(names)), dtype=np.int64)
    if group is GroupBy.TYPE:
        codes = np.concatenate([lane.category for lane in lanes.lanes]) if len(lanes.lanes) == 1 else None
        if codes is not None:
            return _renumbered(np.asarray(codes[index], dtype=np.int64), lanes.kinds, names)
        return _renumbered(np.asarray(slices.category[index], dtype=np.int64), slices.categories, names)
    places = session.document.places
    if group is GroupBy.LAYER and places is not None:
        told = places.labels(track.kind, slices, index)
        return np.array([names.setdefault(text or "–", len(names)) for text in told], dtype=np.int64)
    return _renumbered(np.asarray(slices.name[index], dtype=np.int64), slices.names, names)


def _renumbered(codes: Int64s, texts: Sequence[str], names: dict[str, int]) -> Int64s:
    used, place = distinct(codes)
    numbers = np.array([names.setdefault(texts[code] or "–", len(names)) for code in used.tolist()], dtype=np.int64)
    return np.asarray(numbers[place], dtype=np.int64)


def _planned(session: Session, track: TimelineTrack, start: Int64s) -> Int64s:
    """The planned length of the op that each kernel was found to be, -1 where it is none or one of several kernels."""
    found, plan = session.document.comparison, session.document.plan
    nothing = np.full(len(start), -1, dtype=np.int64)
    if found is None or plan is None or not len(found.matches) or track.kind != TrackKind.STREAM.value:
        return nothing
    order = np.argsort(found.matches.start_ns, kind="stable")
    starts = found.matches.start_ns[order]
    place = np.minimum(np.searchsorted(starts, start), len(starts) - 1)
    lengths = np.array([plan.ops[op].duration_ns for op in found.matches.op[order].tolist()], dtype=np.int64)
    whole = found.matches.end_ns[order] - starts == found.matches.duration_ns[order]
    return np.where((starts[place] == start) & whole[place], lengths[place], nothing)


def _row(
    name: str,
    figures: tuple[int, int, int, int],
    length: int,
    planned: tuple[int, int] | None,
    item: SliceRef | SpansRef,
    span: tuple[int, int] | None,
) -> TableRow:
    """`figures` are count, total, self and longest; `planned` what ops were planned to take, and what they took."""
    count, total, alone, longest = figures
    average = total // max(count, 1)
    expected, change, difference = "–", "–", 0
    if planned is not None:
        expected, difference = format_duration(planned[0]), planned[1] - planned[0]
        sign = "+" if difference >= 0 else "−"
        change = f"{sign}{format_duration(abs(difference))}"
        change += f" ({format_change(planned[1] / planned[0] - 1, 0)})" if planned[0] else ""
    title: Text = name or Sentence("without a name")
    cells: tuple[Text, ...] = (
        title, f"{count:,}", format_duration(total), format_duration(alone), format_duration(average),
        format_duration(longest), format_share(total / length), expected, change,
    )  # fmt: skip
    keys = (
        name, float(count), float(total), float(alone), float(average), float(longest), total / length,
        float(planned[0] if planned else -1), float(difference),
    )  # fmt: skip
    return TableRow(cells, keys, item, span)
