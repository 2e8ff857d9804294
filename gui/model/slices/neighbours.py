"""The slices around a selected one: before and after it in its lane, above and below it at the same moment."""

from __future__ import annotations

from memplan.gui.model.session.session import Session, SliceRef
from memplan.gui.model.timeline.lanes import Lane, TrackLanes


def next_slice(session: Session, item: SliceRef | None, *, forward: bool) -> SliceRef | None:
    """The slice after `item` in its lane, or before it; `None` at the end. Without `item` the first one in view."""
    if item is None:
        return _first_in_view(session)
    lanes = session.tracks.lanes(session.tracks.track(item.track))
    if lanes is None:
        return None
    lane = lanes.lanes[lanes.lane_of(item.index)]
    position = lane.position(item.index) + (1 if forward else -1)
    return SliceRef(item.track, lane.index(position)) if 0 <= position < len(lane.start_ns) else None


def slice_across(session: Session, item: SliceRef | None, *, down: bool) -> SliceRef | None:
    """The slice nearest to the middle of `item` in the next lane below it, or above it, that has one in view."""
    if item is None:
        return _first_in_view(session)
    lanes = session.tracks.lanes(session.tracks.track(item.track))
    if lanes is None:
        return None
    shown = _shown_lanes(session)
    here = next(
        (at for at, (key, depth, _) in enumerate(shown) if key == item.track and depth == lanes.lane_of(item.index)),
        None,
    )
    if here is None:
        return None
    middle = int(lanes.slices.start_ns[item.index]) + int(lanes.slices.duration_ns[item.index]) // 2
    around = shown[here + 1 :] if down else shown[:here][::-1]
    for key, _, lane in around:
        position = lane.at(middle, int(session.viewport.span))
        if position is not None:
            return SliceRef(key, lane.index(position))
    return None


def _shown_lanes(session: Session) -> list[tuple[str, int, Lane]]:
    """Track, depth and lane of everything that is neither folded nor hidden, top to bottom."""
    found: list[tuple[str, int, Lane]] = []
    for placed in session.tracks.layout():
        lanes: TrackLanes | None = session.tracks.lanes(placed.track) if placed.track is not None else None
        if placed.track is not None and lanes is not None:
            found += [(placed.track.key, depth, lane) for depth, lane in enumerate(lanes.lanes)]
    return found


def _first_in_view(session: Session) -> SliceRef | None:
    viewport, origin = session.viewport, session.origin_ns
    for key, _, lane in _shown_lanes(session):
        first, last = lane.between(origin + int(viewport.start), origin + int(viewport.end) + 1)
        if first < last:
            return SliceRef(key, lane.index(first))
    return None
