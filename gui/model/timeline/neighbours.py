"""The slices around a picked one: before and after it in its lane, above and below it at the same moment."""

from __future__ import annotations

from memplan.gui.model.timeline.lanes import Lane, TrackLanes
from memplan.gui.model.document.session import Session, SlicePick


def beside(session: Session, pick: SlicePick | None, *, forward: bool) -> SlicePick | None:
    """The slice after `pick` in its lane, or before it; `None` at the end. Without `pick` the first one in view."""
    if pick is None:
        return _first_in_view(session)
    lanes = session.rows.lanes(session.rows.row(pick.row))
    if lanes is None:
        return None
    lane = lanes.lanes[lanes.lane_of(pick.index)]
    position = lane.position(pick.index) + (1 if forward else -1)
    return SlicePick(pick.row, lane.row(position)) if 0 <= position < len(lane.start_ns) else None


def stacked(session: Session, pick: SlicePick | None, *, down: bool) -> SlicePick | None:
    """The slice nearest to the middle of `pick` in the next lane below it, or above it, that has one in view."""
    if pick is None:
        return _first_in_view(session)
    lanes = session.rows.lanes(session.rows.row(pick.row))
    if lanes is None:
        return None
    shown = _shown_lanes(session)
    here = next(
        (at for at, (key, depth, _) in enumerate(shown) if key == pick.row and depth == lanes.lane_of(pick.index)), None
    )
    if here is None:
        return None
    middle = int(lanes.slices.start_ns[pick.index]) + int(lanes.slices.duration_ns[pick.index]) // 2
    around = shown[here + 1 :] if down else shown[:here][::-1]
    for key, _, lane in around:
        position = lane.at(middle, int(session.viewport.span))
        if position is not None:
            return SlicePick(key, lane.row(position))
    return None


def _shown_lanes(session: Session) -> list[tuple[str, int, Lane]]:
    """Row, depth and lane of everything that is neither folded nor hidden, top to bottom."""
    found: list[tuple[str, int, Lane]] = []
    for placed in session.rows.layout():
        lanes: TrackLanes | None = session.rows.lanes(placed.row) if placed.row is not None else None
        if placed.row is not None and lanes is not None:
            found += [(placed.row.key, depth, lane) for depth, lane in enumerate(lanes.lanes)]
    return found


def _first_in_view(session: Session) -> SlicePick | None:
    viewport, origin = session.viewport, session.origin_ns
    for key, _, lane in _shown_lanes(session):
        first, last = lane.between(origin + int(viewport.start), origin + int(viewport.end) + 1)
        if first < last:
            return SlicePick(key, lane.row(first))
    return None
