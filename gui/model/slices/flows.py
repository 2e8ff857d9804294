"""Arrows between slices: what caused what, as the trace's flow events have it."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.gui.model.session.session import ItemRef, Session, SliceRef


@dataclass(frozen=True, slots=True)
class End:
    """One end of an arrow: a track, the lane in it and the moment; `item` is the slice there once its track is read."""

    track: str
    lane: int
    time_ns: int
    item: SliceRef | None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the slice that started something to the slice that is it."""

    category: str
    source: End
    target: End


def arrows(session: Session, item: ItemRef | None) -> list[Arrow]:
    """The arrows that start or end in the selected slice; none for anything else."""
    rank = session.document.rank
    if rank is None or not isinstance(item, SliceRef):
        return []
    track = session.tracks.track(item.track)
    lanes = session.tracks.lanes(track)
    if track.track_id is None or lanes is None:
        return []
    found = []
    for flow in rank.flows(track.track_id, int(lanes.slices.start_ns[item.index])):
        source = _end(session, flow.source_track, flow.source_ns)
        target = _end(session, flow.target_track, flow.target_ns)
        if source is not None and target is not None:
            found.append(Arrow(flow.category, source, target))
    return found


def _end(session: Session, track_id: int, time_ns: int) -> End | None:
    track = session.tracks.by_id(track_id)
    if track is None:
        return None
    lanes = session.tracks.lanes(track)
    if lanes is not None:
        # The innermost slice that is under way then is the one the arrow belongs to.
        for depth in reversed(range(len(lanes.lanes))):
            position = lanes.lanes[depth].at(time_ns)
            if position is not None:
                return End(track.key, depth, time_ns, SliceRef(track.key, lanes.lanes[depth].index(position)))
    return End(track.key, 0, time_ns, None)
