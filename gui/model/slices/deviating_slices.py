"""Slices of the ops at which a run left its plan: where the costliest differences are among the tracks."""

from __future__ import annotations

import numpy as np

from memplan.gui.model.session.session import Session, SliceRef
from memplan.traces.profile import TrackKind

_MOST = 50
"""Differences that are marked, the costliest."""


def deviating_slices(session: Session) -> list[SliceRef]:
    """
    For each of the costliest differences of an op its slice in the plan, and its first kernel in the run.

    Of tracks that are not read yet there is nothing.
    """
    found = session.document.comparison
    if found is None:
        return []
    ops = list(dict.fromkeys(item.op for item in found.deviations[:_MOST] if item.op is not None))
    slices = []
    for track in session.tracks.all:
        lanes = session.tracks.lanes(track)
        if lanes is None or not lanes.lanes:
            continue
        if track.planned is not None:
            places = {planned.index: place for place, planned in enumerate(track.planned.ops)}
            slices += [SliceRef(track.key, places[op]) for op in ops if op in places]
        elif track.kind == TrackKind.STREAM.value and len(found.matches):
            lane = lanes.lanes[0]
            rows = np.minimum(np.searchsorted(found.matches.op, ops), len(found.matches) - 1)
            rows = rows[found.matches.op[rows] == ops]
            starts = found.matches.start_ns[rows]
            at = np.minimum(np.searchsorted(lane.start_ns, starts), len(lane.start_ns) - 1)
            slices += [SliceRef(track.key, lane.index(place)) for place in at[lane.start_ns[at] == starts].tolist()]
    return slices
