"""Where a difference is best seen in a document: its costliest slice or op, its time range, or the moment of a peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.compare.measured import operation_tracks
from memplan.gui.model.amount_names import MAKESPAN, link_of_moves, step_number
from memplan.gui.model.compare.ab_differences import AbDifference, AbGroup
from memplan.gui.model.compare.ab_profile import is_collective
from memplan.gui.model.memory.memory_curves import measured_curves
from memplan.gui.model.session.session import BlockRef, ItemRef, OpRef, Session, SliceRef
from memplan.gui.model.slices.shown_steps import steps
from memplan.schema import Tier, step_starts
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels, TrackKind

if TYPE_CHECKING:
    from memplan.schema import Plan, PlannedOp, Transfer
    from memplan.traces.rank import RankProfile

_CLOSE_NS = 2_000
"""Kernel tables and traces round the same start differently, by no more than this."""
_MOMENT = 0.01


@dataclass(frozen=True, slots=True)
class Location:
    """A time range on the profile's clock, what is selected there, and the timeline's track it lies in."""

    start_ns: int
    end_ns: int
    item: ItemRef | None = None
    track: str | None = None


def locate(session: Session, difference: AbDifference, side: int) -> Location | None:
    """
    Where `difference` is best seen in `session`, which is document A (`side` 0) or B (1); `None` where it isn't.

    Looks the slice up when asked, so that a table of differences needs none; reads no track of the timeline.
    """
    if (difference.first, difference.second)[side] is None:
        return None
    name, group = difference.own[side], difference.group
    rank, plan = session.document.rank, session.document.plan
    if plan is not None and group in (
        AbGroup.PLANNED_TIME, AbGroup.PLANNED_TYPE, AbGroup.TIER, AbGroup.KIND, AbGroup.MOVE,
    ):  # fmt: skip
        return _planned(session, plan, group, name)
    if rank is None:
        return None
    if group in (AbGroup.KERNEL, AbGroup.TYPE, AbGroup.COMMUNICATION):
        return _kernel(session, rank, group, name)
    if group is AbGroup.PART:
        return _longest(session, rank, [track.id for track in rank.tracks if _is_part(track.kind, track.thread, name)])
    if group is AbGroup.STEP:
        step = next((step for step in steps(session) if step.number == step_number(name)), None)
        if step is None:
            return None
        return Location(session.origin_ns + int(step.start), session.origin_ns + int(step.end))
    if group is AbGroup.HELD:
        return _largest_block(session, name)
    curve = next((curve for curve in measured_curves(rank) if curve.name == name), None)
    return _moment(session, curve.peak[0]) if curve is not None else None


def _is_part(kind: TrackKind, thread: str, name: str) -> bool:
    return kind is TrackKind.OVERLAP and thread == name


def _moment(session: Session, time_ns: int) -> Location:
    """A little of what lies around a moment."""
    start, end = session.document.span_ns
    around = max(int((end - start) * _MOMENT), 1)
    return Location(time_ns - around, time_ns + around)


def _largest_block(session: Session, name: str) -> Location | None:
    """The largest of the blocks that `name` holds at the peak."""
    blocks = session.blocks if session.blocks_read else session.find_blocks()
    if blocks is None:
        return None
    row = next((row for row in blocks.alive(blocks.peak_ns).tolist() if blocks.name(row) == name), None)
    if row is None:
        return None
    return Location(int(blocks.start_ns[row]), int(blocks.end_ns[row]), BlockRef(row) if session.blocks_read else None)


# -- measured ----------------------------------------------------------------------------------------------------


def _kernel(session: Session, rank: RankProfile, group: AbGroup, name: str) -> Location | None:
    kernels = rank.kernels()
    if kernels is not None and len(kernels):
        row = _costliest(kernels, group, name)
        if row is not None:
            start, end = int(kernels.start_ns[row]), int(kernels.start_ns[row] + kernels.duration_ns[row])
            found = _slice_at(session, rank, kernels.name[row], start)
            return found if found is not None else Location(start, end)
    tracks = [
        track.id
        for track in operation_tracks(rank)[1]
        if group is AbGroup.TYPE or (track.kind is TrackKind.COMMUNICATION) == (group is AbGroup.COMMUNICATION)
    ]
    return _longest(session, rank, tracks, name, by_type=group is AbGroup.TYPE)


def _costliest(kernels: Kernels, group: AbGroup, name: str) -> int | None:
    """The row of the longest kernel of that name or type."""
    names = dictionary_encoded(kernels.name)
    named = _equal(names.values, name)
    if group is AbGroup.TYPE:
        types = dictionary_encoded(kernels.type)
        typed = _equal(types.values, name)
        untyped = np.array([value in ABSENT for value in types.values], dtype=bool)
        chosen = typed[types.codes] | (untyped[types.codes] & named[names.codes])
    else:
        chosen = named[names.codes] & (is_collective(kernels) == (group is AbGroup.COMMUNICATION))
    rows = np.flatnonzero(chosen)
    return int(rows[np.argmax(kernels.duration_ns[rows])]) if len(rows) else None


def _slice_at(session: Session, rank: RankProfile, name: str, start_ns: int) -> Location | None:
    """The slice of the device's tracks that is the kernel `name` of the table, which starts at about `start_ns`."""
    best: tuple[int, int, int, int] | None = None
    for track in rank.tracks:
        if track.kind not in (TrackKind.STREAM, TrackKind.COMMUNICATION) or not track.count:
            continue
        slices = rank.slices(track.id, start_ns - _CLOSE_NS, start_ns + _CLOSE_NS)
        for position in range(len(slices)):
            away = abs(int(slices.start_ns[position]) - start_ns)
            if slices.names[slices.name[position]] == name and away <= _CLOSE_NS and (best is None or away < best[0]):
                best = away, track.id, int(slices.start_ns[position]), int(slices.duration_ns[position])
    if best is None:
        return None
    _, at, start, duration = best
    # Slices are in order of start, so that those up to this one tell its position in the whole track.
    before = rank.slices(at, None, start + 1)
    index = len(before) - 1
    while index > 0 and before.names[before.name[index]] != name and int(before.start_ns[index - 1]) == start:
        index -= 1
    return _at_slice(session, at, index, start, duration)


def _longest(
    session: Session, rank: RankProfile, tracks: list[int], name: str | None = None, *, by_type: bool = False
) -> Location | None:
    """The longest slice of some tracks, of that name or category if one is given."""
    best: tuple[int, int, int, int] | None = None
    for track in tracks:
        slices = rank.slices(track)
        rows = np.arange(len(slices))
        if name is not None:
            wanted = _equal(slices.names, name)[slices.name]
            if by_type:  # as the totals by type are made: by name where a slice has no category
                of_type, none = _equal(slices.categories, name), _equal(slices.categories, "")
                wanted = of_type[slices.category] | (none[slices.category] & wanted)
            rows = np.flatnonzero(wanted)
        if not len(rows):
            continue
        row = int(rows[np.argmax(slices.duration_ns[rows])])
        duration = int(slices.duration_ns[row])
        if best is None or duration > best[0]:
            best = duration, track, row, int(slices.start_ns[row])
    if best is None:
        return None
    duration, track, row, start = best
    return _at_slice(session, track, row, start, duration)


def _equal(values: Sequence[str], wanted: str) -> NDArray[np.bool_]:
    return np.array([value == wanted for value in values], dtype=bool)


def _at_slice(session: Session, track_id: int, index: int, start_ns: int, duration_ns: int) -> Location:
    track = session.tracks.by_id(track_id)
    item = SliceRef(track.key, index) if track is not None else None
    return Location(start_ns, start_ns + duration_ns, item, track.key if track is not None else None)


# -- planned -----------------------------------------------------------------------------------------------------


def _planned(session: Session, plan: Plan, group: AbGroup, name: str) -> Location | None:
    axis = session.document.axis
    if group is AbGroup.PLANNED_TYPE:
        ops = [op for op in plan.ops if op.type == name]
        return _op(session, max(ops, key=lambda op: op.duration_ns)) if ops else None
    if group is AbGroup.MOVE:
        link = link_of_moves(name)
        moves = [move for move in plan.transfers if move.link == link]
        return _move(session, max(moves, key=lambda move: move.size)) if moves else None
    if group is AbGroup.PLANNED_TIME:
        if name == MAKESPAN:
            return Location(axis.to_profile(0), axis.to_profile(plan.makespan_ns))
        stalled = [op for op in plan.ops if op.stalled_ns > 0]
        return _op(session, max(stalled, key=lambda op: op.stalled_ns)) if stalled else None
    tier = next((tier for tier in Tier if name.startswith(f"{tier.value} ")), None)
    use = plan.tier(tier) if tier is not None else None
    step = use.peak_step if use is not None else None
    if step is None or not 0 <= step < len(plan.ops):
        return None
    if group is AbGroup.KIND:
        return _moment(session, int(axis.to_profile(step_starts(plan)[step : step + 1])[0]))
    return _op(session, plan.ops[step])


def _op(session: Session, op: PlannedOp) -> Location:
    axis = session.document.axis
    start, end = axis.to_profile(op.start_ns), axis.to_profile(op.start_ns + op.duration_ns)
    for track in session.tracks.all:
        if track.planned is not None:
            for index, other in enumerate(track.planned.ops):
                if other.index == op.index:
                    return Location(start, end, SliceRef(track.key, index), track.key)
    return Location(start, end, OpRef(op.index))


def _move(session: Session, move: Transfer) -> Location:
    axis = session.document.axis
    start, end = axis.to_profile(move.start_ns), axis.to_profile(move.end_ns)
    for track in session.tracks.all:
        if track.planned is not None and move in track.planned.transfers:
            return Location(start, end, SliceRef(track.key, track.planned.transfers.index(move)), track.key)
    return Location(start, end)
