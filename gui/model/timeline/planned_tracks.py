"""The plan as tracks of the timeline, so that planned lanes stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.sentence import Sentence
from memplan.traces.profile import Slices

if TYPE_CHECKING:
    from memplan.compare import Matches, TimeMap
    from memplan.schema import Plan, PlannedOp, Transfer


@dataclass(frozen=True, slots=True)
class PlannedTrack:
    """
    One stream of planned ops, or the transfers of one link.

    `ops[i]` or `transfers[i]` is the record behind slice `i`; the other one is empty. `measured_ns[i]` is what op `i`
    took in the run it is compared with, -1 where it was not found there; `None` without a run.
    """

    key: str
    label: Sentence
    slices: Slices
    ops: tuple[PlannedOp, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    measured_ns: Int64s | None = None


def _slices(spans: list[tuple[int, int]], names: list[str], categories: list[str], axis: TimeMap) -> Slices:
    """
    Slices that begin where `axis` puts them on the profile's clock and are as long as planned.

    What takes longer than planned leaves a gap behind its slice; where it took less, the next slice begins within it.
    """
    times = np.array(spans, dtype=np.int64).reshape(len(spans), 2)
    start: Int64s = axis.to_profile(times[:, 0])
    name_table = list(dict.fromkeys(names))
    category_table = list(dict.fromkeys(categories))
    name_code = {name: code for code, name in enumerate(name_table)}
    category_code = {name: code for code, name in enumerate(category_table)}
    return Slices(
        start_ns=start,
        duration_ns=times[:, 1] - times[:, 0],
        name=np.array([name_code[name] for name in names], dtype=np.int32),
        depth=_depths(times),
        category=np.array([category_code[name] for name in categories], dtype=np.int32),
        names=name_table,
        categories=category_table,
    )


def _depths(times: Int64s) -> NDArray[np.int16]:
    """The first level that is free for each planned span `(start, end)`, spans ordered by start."""
    free: list[int] = []
    depth = np.zeros(len(times), dtype=np.int16)
    for i, (begin, finish) in enumerate(times.tolist()):
        level = next((level for level, until in enumerate(free) if until <= begin), len(free))
        if level == len(free):
            free.append(finish)
        else:
            free[level] = finish
        depth[i] = level
    return depth


def _took(ops: list[PlannedOp], matches: Matches | None) -> Int64s | None:
    """What each op took in the run, -1 where it was not found; `None` without a run."""
    if matches is None:
        return None
    took = dict(zip(matches.op.tolist(), matches.duration_ns.tolist(), strict=True))
    return np.array([took.get(op.index, -1) for op in ops], dtype=np.int64)


def planned_tracks(plan: Plan, axis: TimeMap, matches: Matches | None = None) -> tuple[PlannedTrack, ...]:
    """
    One track for each stream that runs kernels and one for each link that moves bytes.

    On the run's clock every op begins where the kernel begins that it was found as, and is as long as planned.
    """
    tracks = []
    for stream in sorted({op.stream for op in plan.ops if op.duration_ns > 0}):
        ops = sorted((op for op in plan.ops if op.stream == stream and op.duration_ns > 0), key=lambda op: op.start_ns)
        spans = [(op.start_ns, op.start_ns + op.duration_ns) for op in ops]
        slices = _slices(spans, [op.name for op in ops], [op.type for op in ops], axis)
        tracks.append(
            PlannedTrack(
                f"stream/{stream}",
                Sentence("Planned stream {}", (str(stream),)),
                slices,
                ops=tuple(ops),
                measured_ns=_took(ops, matches),
            )
        )
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    for link in sorted({transfer.link for transfer in plan.transfers}):
        moves = sorted((move for move in plan.transfers if move.link == link), key=lambda move: move.start_ns)
        spans = [(move.start_ns, move.end_ns) for move in moves]
        labels = [f"{names[move.tensor]} {move.source.value} → {move.target.value}" for move in moves]
        ways = [f"{move.source.value} → {move.target.value}" for move in moves]
        slices = _slices(spans, labels, ways, axis)
        tracks.append(
            PlannedTrack(f"link/{link}", Sentence("Planned moves, {}", (link,)), slices, transfers=tuple(moves))
        )
    return tuple(tracks)
