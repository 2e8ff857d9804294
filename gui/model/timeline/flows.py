"""Arrows between slices: what caused what, as the trace's flow events have it."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.gui.model.document.session import Pick, Session, SlicePick


@dataclass(frozen=True, slots=True)
class End:
    """One end of an arrow: a row, the lane in it and the moment; `pick` is the slice there once its row is read."""

    row: str
    lane: int
    time_ns: int
    pick: SlicePick | None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the slice that started something to the slice that is it."""

    category: str
    source: End
    target: End


def arrows(session: Session, pick: Pick | None) -> list[Arrow]:
    """The arrows that start or end in the picked slice; none for anything else."""
    rank = session.document.rank
    if rank is None or not isinstance(pick, SlicePick):
        return []
    row = session.rows.row(pick.row)
    lanes = session.rows.lanes(row)
    if row.track is None or lanes is None:
        return []
    found = []
    for flow in rank.flows(row.track, int(lanes.slices.start_ns[pick.index])):
        source = _end(session, flow.source_track, flow.source_ns)
        target = _end(session, flow.target_track, flow.target_ns)
        if source is not None and target is not None:
            found.append(Arrow(flow.category, source, target))
    return found


def _end(session: Session, track: int, time_ns: int) -> End | None:
    row = session.rows.of_track(track)
    if row is None:
        return None
    lanes = session.rows.lanes(row)
    if lanes is not None:
        # The innermost slice that is under way then is the one the arrow belongs to.
        for depth in reversed(range(len(lanes.lanes))):
            position = lanes.lanes[depth].at(time_ns)
            if position is not None:
                return End(row.key, depth, time_ns, SlicePick(row.key, lanes.lanes[depth].row(position)))
    return End(row.key, 0, time_ns, None)
