"""The ops that a rank measured, from the best source its profile has, and its steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence
from memplan.graph.op_names import type_of_kernel
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels, Track, TrackKind
from memplan.traces.steps import numbered_steps, spans_of_steps

if TYPE_CHECKING:
    from memplan.traces.rank import RankProfile

_HOST_OPS = "CPU OP"  # process of MindSpore's CPU kernels in trace_view.json


@dataclass(frozen=True, slots=True)
class MeasuredOps:
    """Kernels ordered by start, in nanoseconds of the profile's clock; `step` is -1 where the profile has none."""

    start_ns: Int64s
    duration_ns: Int64s
    step: Int64s
    name: Sequence[str]
    type: Sequence[str]
    source: str

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def end_ns(self) -> Int64s:
        """When each is done."""
        return self.start_ns + self.duration_ns

    def take(self, rows: NDArray[np.int64]) -> MeasuredOps:
        """Those rows alone."""
        chosen = rows.tolist()
        return MeasuredOps(
            self.start_ns[rows],
            self.duration_ns[rows],
            self.step[rows],
            [self.name[row] for row in chosen],
            [self.type[row] for row in chosen],
            self.source,
        )


def measured_ops(rank: RankProfile, progress: Progress = silent) -> MeasuredOps:
    """
    What ran: the kernel table, or else the slices of the device's streams, or else MindSpore's CPU kernels.

    Raises `InputError` for a profile that has none of them.
    """
    kernels = rank.kernels(progress)
    if kernels is not None and len(kernels):
        return MeasuredOps(
            kernels.start_ns, kernels.duration_ns, kernels.step, kernels.name, _types(kernels), "kernel table"
        )
    rank.timeline(progress)
    source, tracks = operation_tracks(rank)
    if tracks:
        return _from_slices(rank, [track.id for track in tracks], source)
    raise InputError("the profile holds no kernels", remedy="compare with a profile taken on a device")


def _types(kernels: Kernels) -> Sequence[str]:
    """Types as the table has them; kernels that MindSpore put in the place of an op are of that op's type."""
    names = dictionary_encoded(kernels.name)
    placed = {name: type_of_kernel(name) for name in names.values if name.startswith("Expand/")}
    if not placed:
        return kernels.type
    return [placed.get(name) or kind for name, kind in zip(names, kernels.type, strict=True)]


def operation_tracks(rank: RankProfile) -> tuple[str, list[Track]]:
    """The tracks whose slices are what ran, where there is no kernel table, and what they are called; may be none."""
    for source, wanted in (
        ("streams of the trace", {TrackKind.STREAM, TrackKind.COMMUNICATION}),
        ("CPU kernels of the trace", {TrackKind.HOST}),
    ):
        tracks = [
            track
            for track in rank.tracks
            if track.kind in wanted
            and track.count
            and (track.kind is not TrackKind.HOST or track.process == _HOST_OPS)
            and not track.thread.startswith("Plane")  # the pieces of the collectives beside them
        ]
        if tracks:
            return source, tracks
    return "", []


def _from_slices(rank: RankProfile, tracks: Iterable[int], source: str) -> MeasuredOps:
    parts = [rank.slices(track) for track in tracks]
    start = np.concatenate([part.start_ns for part in parts])
    order = np.argsort(start, kind="stable")
    names = [part.names[name] for part in parts for name in part.name.tolist()]
    types = [
        (part.categories[kind] if part.categories else "") or type_of_kernel(part.names[name])
        for part in parts
        for name, kind in zip(part.name.tolist(), part.category.tolist(), strict=True)
    ]
    chosen = order.tolist()
    return MeasuredOps(
        start[order],
        np.concatenate([part.duration_ns for part in parts])[order],
        np.full(len(start), -1, dtype=np.int64),
        [names[row] for row in chosen],
        [types[row] for row in chosen],
        source,
    )


@dataclass(frozen=True, slots=True)
class MeasuredSteps:
    """Steps of a profile: their numbers in order, and of every kernel its position among them (-1: in none)."""

    numbers: Sequence[int]
    position: Int64s
    inferred: bool


def find_steps(measured: MeasuredOps, op: Int64s) -> MeasuredSteps:
    """
    Steps as the profile numbers them, or else as the repetitions of planned ops show them.

    `op` is the planned op of each kernel, -1 where unknown. Without numbers, the steps are as many as make most ops
    occur equally often in each: an op may launch several kernels, so its occurrences alone do not tell.
    """
    numbers, numbered = numbered_steps(measured.step)
    if numbers:
        return MeasuredSteps(numbers, numbered, inferred=False)
    known = op[op >= 0]
    if len(known):
        ops, counts = np.unique(known, return_counts=True)
        often, times = np.unique(counts, return_counts=True)
        repeats = int(often[np.argmax(times)])
        typical = ops[counts == repeats]
        begins = measured.start_ns[op == typical[0]]
        rows = np.flatnonzero(np.isin(op, typical))
        rows = rows[np.argsort(op[rows], kind="stable")]
        for steps in (steps for steps in range(repeats, 1, -1) if repeats % steps == 0):
            each = repeats // steps
            position = np.maximum(np.searchsorted(begins[::each], measured.start_ns, side="right") - 1, 0)
            # One row an op, in the order of time: right where its occurrences fill the steps one after another.
            filled = position[rows].reshape(len(typical), repeats) == np.arange(repeats) // each
            if filled.all(axis=1).mean() > 0.5:
                seen = np.zeros(len(measured), dtype=bool)
                seen[rows] = True
                return MeasuredSteps(list(range(steps)), _cut_at_pauses(measured, begins[::each], seen), inferred=True)
    return MeasuredSteps([0], np.zeros(len(measured), dtype=np.int64), inferred=True)


def _cut_at_pauses(measured: MeasuredOps, begins: Int64s, seen: NDArray[np.bool_]) -> Int64s:
    """
    The step of every kernel, where `begins` are starts of the first op that tells steps and `seen` all that do.

    What runs between the last kernel seen of one step and the first of the next belongs to either: the step begins
    after the longest pause in between.
    """
    reached = np.maximum.accumulate(measured.end_ns)
    pauses = measured.start_ns - np.concatenate((measured.start_ns[:1], reached[:-1]))
    firsts = np.searchsorted(measured.start_ns, begins)
    known = np.flatnonzero(seen)
    starts = [0]
    for first in firsts[1:].tolist():
        last = int(known[np.searchsorted(known, first) - 1])
        between = pauses[last + 1 : first + 1]
        starts.append(last + 1 + int(np.argmax(between)))
    position = np.zeros(len(measured), dtype=np.int64)
    position[starts[1:]] = 1
    return np.cumsum(position)


def choose_step(measured: MeasuredOps, steps: MeasuredSteps, wanted: int | None) -> int:
    """
    Position of step `wanted`, or of the one whose span is the (lower) median, which is neither warm-up nor outlier.

    Raises `InputError` for a number that the profile does not have.
    """
    if wanted is not None:
        if wanted not in steps.numbers:
            have = ", ".join(map(str, list(steps.numbers)[:10]))
            raise InputError("the profile has no step {}", wanted, remedy=Sentence("it has {}", (have,)))
        return list(steps.numbers).index(wanted)
    first, last = spans_of_steps(steps.position, len(steps.numbers), measured.start_ns, measured.end_ns)
    spans = last - first
    return int(np.argsort(spans, kind="stable")[(len(spans) - 1) // 2])
