"""Statistics of a selected time range: what ran in it, and for how long."""

from __future__ import annotations

import numpy as np

from memplan.core.sentence import Sentence
from memplan.core.units import format_share
from memplan.gui.model.details.facts import Fact, Section, fact
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.lanes import TrackLanes
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack

_MOST_TRACKS = 10
_MOST_KINDS = 40
"""In all tracks together: a panel of more rows takes longer to lay out than a frame of a dragged selection lasts."""
_KINDS = 8


def range_sections(session: Session) -> list[Section]:
    """
    Per loaded track with slices in the selected time range: how many, the time under any, and what kinds take how much.

    Times count what lies inside it only. Kinds count each of their slices, also those within slices. Of very many
    tracks the first are listed, and of many tracks fewer kinds.
    """
    selected = session.viewport.selected_range
    if selected is None:
        return []
    start = session.origin_ns + int(selected[0])
    end = session.origin_ns + int(np.ceil(selected[1]))
    length = max(end - start, 1)
    inside: list[tuple[TimelineTrack, TrackLanes, int]] = []
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is None:
            continue
        count = sum(last - first for first, last in (lane.between(start, end) for lane in lanes.lanes))
        if count:
            inside.append((track, lanes, count))
    listed, further = inside[:_MOST_TRACKS], len(inside[_MOST_TRACKS:])
    most = min(_KINDS, _MOST_KINDS // max(len(listed), 1))
    sections = []
    for track, lanes, count in listed:
        times, counts = np.zeros((2, len(lanes.kinds)), dtype=np.int64)
        for lane in lanes.lanes:
            lane.add_times(start, end, times, counts)
        busy = int(times.sum()) if len(lanes.lanes) == 1 else _busy(session, track, lanes, start, end)
        facts = [
            fact("slices", f"{count:,}"),
            fact("time", Sentence("{} ({})", (session.length_text(busy), format_share(busy / length, 0)))),
        ]
        present = np.flatnonzero(counts).tolist()
        if [lanes.kinds[code] for code in present] != [track.label]:  # else the time of all of them stands above
            largest = sorted(present, key=lambda code: -int(times[code]))[:most]
            facts += [Fact(lanes.kinds[code], session.length_text(float(times[code]))) for code in largest]
        sections.append(Section(track.title, tuple(facts)))
    whole = [fact("length", session.length_text(end - start))]
    if further:
        whole.append(fact("further tracks", f"{further:,}"))
    return [Section(Sentence("Selection"), tuple(whole)), *sections]


def _busy(session: Session, track: TimelineTrack, lanes: TrackLanes, start: int, end: int) -> int:
    """Nanoseconds of `[start, end)` under any slice of several lanes, once where they overlap."""
    rank = session.document.rank
    if rank is not None and track.track_id is not None:
        return rank.busy_ns(track.track_id, start, end)
    times, counts = np.zeros((2, len(lanes.kinds)), dtype=np.int64)
    lanes.lanes[0].add_times(start, end, times, counts)
    return int(times.sum())
