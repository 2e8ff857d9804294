"""What belongs together: a planned op, its slice in the plan's lane, the kernels that ran it, and its tensors."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.session.session import ItemRef, Session, SliceRef, TensorRef
from memplan.traces.profile import TrackKind

_MOST_KERNELS = 64


def op_behind(session: Session, item: ItemRef | None) -> int | None:
    """The planned op that `item` is, was made by, or ran as a measured kernel; `None` where there is none."""
    op = session.planned_op_of(item)
    found = session.document.comparison
    if op is not None or found is None or not isinstance(item, SliceRef) or not len(found.matches):
        return op
    lanes = session.tracks.lanes(session.tracks.track(item.track))
    if lanes is None or session.tracks.track(item.track).kind != TrackKind.STREAM.value:
        return None
    start = int(lanes.slices.start_ns[item.index])
    rows = np.flatnonzero((found.matches.start_ns <= start) & (start < found.matches.end_ns))
    return int(found.matches.op[rows[0]]) if len(rows) == 1 else None


def framed_slices(session: Session, item: ItemRef | None) -> list[SliceRef]:
    """
    The slices that stand for `item`: itself, and of a planned op its slice in the plan and its kernels in the run.

    Of tracks that are not read yet there is nothing.
    """
    framed = [item] if isinstance(item, SliceRef) else []
    op = None if isinstance(item, TensorRef) else op_behind(session, item)
    if op is not None:
        framed += [other for other in (*_planned(session, op), *_kernels(session, op)) if other not in framed]
    return framed


def _planned(session: Session, op: int) -> list[SliceRef]:
    for track in session.tracks.all:
        if track.planned is not None and session.tracks.lanes(track) is not None:
            for index, planned in enumerate(track.planned.ops):
                if planned.index == op:
                    return [SliceRef(track.key, index)]
    return []


def _kernels(session: Session, op: int) -> list[SliceRef]:
    found = session.document.comparison
    if found is None:
        return []
    row = int(np.searchsorted(found.matches.op, op))
    if row == len(found.matches) or int(found.matches.op[row]) != op:
        return []
    start, end = int(found.matches.start_ns[row]), int(found.matches.end_ns[row])
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is None or track.kind != TrackKind.STREAM.value or not lanes.lanes:
            continue
        lane = lanes.lanes[0]
        first, last = lane.between(start, end)
        if first < last and int(lane.start_ns[first]) == start:
            return [SliceRef(track.key, lane.index(place)) for place in range(first, min(last, first + _MOST_KERNELS))]
    return []


def op_rectangles(session: Session, item: ItemRef | None) -> list[int]:
    """The rectangles of the map that hold what the op behind `item` reads or writes, while it runs."""
    mapped, plan = session.map, session.document.plan
    op = None if isinstance(item, TensorRef) else op_behind(session, item)
    if mapped is None or plan is None or op is None:
        return []
    touched = {tensor.index for tensor in plan.tensors if op in tensor.uses or tensor.producer == op}
    found = []
    for place in mapped.alive(session.document.axis.to_profile(plan.ops[op].start_ns)).tolist():
        held = plan.placements[int(mapped.placement[place])]
        if held.start <= op < held.end and held.tensor in touched:
            found.append(place)
    return sorted(found)
