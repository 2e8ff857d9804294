"""The profile of one rank, from text files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from memplan.progress import Progress
from memplan.traces.discover import RankSource
from memplan.traces.files import FileKind
from memplan.traces.kernels import is_kernel_table, kernels_of
from memplan.traces.memory import MINDSPORE_RECORD_MB, allocations_of, curves_of, merged
from memplan.traces.notes import Notebook
from memplan.traces.profile import (
    Allocations,
    CounterSeries,
    Density,
    Flow,
    Int64s,
    Kernels,
    MemoryCurve,
    OpTotal,
    Overlap,
    Slices,
    StepTimes,
    Track,
    TrackKind,
)
from memplan.traces.queries import TimelineView
from memplan.traces.steps import steps_of
from memplan.traces.tables import ABSENT, Table, read_table
from memplan.traces.tracefile import load_timeline
from memplan.units import MIB


class TextRank:
    """A rank whose profiler wrote text. Implements `memplan.traces.profile.RankProfile`."""

    def __init__(self, source: RankSource, notes: Notebook, progress: Progress, cache: Path | None) -> None:
        self._source = source
        self._notes = notes
        self._progress = progress
        self._cache = cache

    @property
    def rank(self) -> int:
        return self._source.rank

    @cached_property
    def device(self) -> str:
        """`NPU:<local id>` as the files have it, empty where none tells."""
        told = [curve.device for curve in self._curves.values()]
        for kind in (FileKind.STEPS, FileKind.KERNELS):
            told.extend(device for table in self._tables(kind) for device in table.text("Device_id")[:1])
        device = next((device for device in told if device not in ABSENT), "")
        return f"NPU:{device}" if device.isdigit() else device

    @property
    def chip(self) -> str | None:
        return None

    @cached_property
    def span_ns(self) -> tuple[int, int]:
        """First start and last end of slices and kernels, or of memory samples where there are none of these."""
        starts, ends = [], []
        view = self._view
        if view is not None and view.span_ns is not None:
            starts.append(view.span_ns[0])
            ends.append(view.span_ns[1])
        kernels = self.kernels()
        if kernels is not None and len(kernels):
            starts.append(int(kernels.start_ns[0]))
            ends.append(int((kernels.start_ns + kernels.duration_ns).max()))
        if not starts:
            times = [curve.time_ns for curve in self._curves.values() if len(curve.time_ns)]
            starts, ends = [int(time[0]) for time in times], [int(time[-1]) for time in times]
        return (min(starts), max(ends)) if starts else (0, 0)

    @property
    def tracks(self) -> Sequence[Track]:
        return self._view.tracks if self._view is not None else ()

    def slices(self, track: int, t0: int | None = None, t1: int | None = None) -> Slices:
        return self._timeline.slices(track, t0, t1)

    def density(self, track: int, t0: int, t1: int, pixels: int) -> Density:
        return self._timeline.density(track, t0, t1, pixels)

    def counters(self, track: int) -> Sequence[CounterSeries]:
        return self._timeline.counters(track)

    def flows(self, track: int, start_ns: int) -> Sequence[Flow]:
        return self._timeline.flows(track, start_ns)

    def arguments(self, track: int, start_ns: int) -> Mapping[str, object]:
        return self._timeline.arguments(track, start_ns)

    def kernels(self) -> Kernels | None:
        return self._kernels

    def memory_components(self) -> Sequence[str]:
        return list(self._curves)

    def memory(self, component: str) -> MemoryCurve | None:
        return self._curves.get(component)

    @cached_property
    def _allocations(self) -> Allocations | None:
        return allocations_of(self._tables(FileKind.OPERATOR_MEMORY), self._notes)

    def allocations(self) -> Allocations | None:
        return self._allocations

    @cached_property
    def _steps(self) -> Sequence[StepTimes]:
        return [step for table in self._tables(FileKind.STEPS) for step in steps_of(table, self._notes)]

    def steps(self) -> Sequence[StepTimes]:
        return self._steps

    def overlap(self) -> Overlap | None:
        return self._view.overlap() if self._view is not None else None

    def top_ops(self, count: int = 20) -> Sequence[OpTotal]:
        kernels = self.kernels()
        if kernels is not None:
            return top_types(kernels, count)
        return self._view.top_categories(TrackKind.STREAM, count) if self._view is not None else []

    def tables(self) -> Sequence[str]:
        return list(self._further)

    def table(self, name: str) -> Mapping[str, Sequence[str]]:
        table = read_table(self._further[name], self._notes)
        return table.columns if table is not None else {}

    def load(self) -> None:
        """Read every file now."""
        _ = (self._view, self._kernels, self._curves, self._allocations, self._steps)
        for name in self.tables():
            self.table(name)

    @cached_property
    def _further(self) -> dict[str, Path]:
        return {path.name.split(".csv")[0]: path for path in self._source.of(FileKind.TABLE)}

    @property
    def _timeline(self) -> TimelineView:
        if self._view is None:
            raise IndexError(f"rank {self.rank} has no tracks: there is no trace file")
        return self._view

    @cached_property
    def _view(self) -> TimelineView | None:
        return load_timeline(self._source, self._types, self._cache, self._notes, self._progress)

    def _types(self) -> Mapping[str, str]:
        """Op types by kernel name."""
        kernels = self.kernels()
        if kernels is None:
            return {}
        return {name: kind for name, kind in zip(kernels.name, kernels.type, strict=True) if kind not in ABSENT}

    @cached_property
    def _kernels(self) -> Kernels | None:
        for kind in (FileKind.KERNELS, FileKind.TASK_TIME):
            tables = [table for table in self._tables(kind) if is_kernel_table(table)]
            parts = [kernels for table in tables if (kernels := kernels_of(table, self._notes)) is not None]
            if parts:
                return joined(parts)
        return None

    @cached_property
    def _curves(self) -> dict[str, MemoryCurve]:
        """Curves by component; those of further devices carry the device in their name."""
        record_mb = MINDSPORE_RECORD_MB if self._source.producer == "MindSpore" else MIB
        found: dict[str, list[MemoryCurve]] = {}
        for kind, mb in (
            (FileKind.MEMORY_RECORD, record_mb),
            (FileKind.MODULE_MEMORY, MIB),
            (FileKind.PROCESS_MEMORY, MIB),
        ):
            of_kind: dict[str, list[MemoryCurve]] = {}
            for table in self._tables(kind):
                for curve in curves_of(table, mb, self._notes):
                    peers = of_kind.setdefault(curve.component, [])
                    if peers and peers[0].device != curve.device:
                        peers = of_kind.setdefault(f"{curve.component} {curve.device}", [])
                    peers.append(curve)
            for name, curves in of_kind.items():
                found.setdefault(name, curves)
        return {name: merged(curves) for name, curves in found.items()}

    def _tables(self, kind: FileKind) -> list[Table]:
        paths = self._source.of(kind)
        found = []
        for number, path in enumerate(paths):
            self._progress(number, len(paths), path.name)
            table = read_table(path, self._notes)
            if table is not None:
                found.append(table)
        return found


def top_types(kernels: Kernels, count: int) -> list[OpTotal]:
    """The `count` kernel types with the largest total duration; kernels without a type count under their name."""
    totals: dict[str, tuple[int, int]] = {}
    for name, kind, duration in zip(kernels.name, kernels.type, kernels.duration_ns.tolist(), strict=True):
        key = name if kind in ABSENT else kind
        number, total = totals.get(key, (0, 0))
        totals[key] = (number + 1, total + duration)
    ranking = sorted(totals.items(), key=lambda entry: (-entry[1][1], entry[0]))
    return [OpTotal(kind, number, total) for kind, (number, total) in ranking[:count]]


def joined(parts: Sequence[Kernels]) -> Kernels:
    """Kernels of several files (slices of one export) as one, in order of start."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.start_ns for part in parts]), kind="stable")
    headers = {header: None for part in parts for header in part.pmu}

    def texts(columns: Sequence[Sequence[str]]) -> list[str]:
        flat = [text for column in columns for text in column]
        return [flat[index] for index in order]

    def numbers(columns: Sequence[Int64s]) -> Int64s:
        return np.concatenate(columns)[order]

    blanks = [np.full(len(part), np.nan) for part in parts]
    return Kernels(
        start_ns=numbers([part.start_ns for part in parts]),
        duration_ns=numbers([part.duration_ns for part in parts]),
        wait_ns=numbers([part.wait_ns for part in parts]),
        step=numbers([part.step for part in parts]),
        stream=numbers([part.stream for part in parts]),
        block_count=numbers([part.block_count for part in parts]),
        name=texts([part.name for part in parts]),
        type=texts([part.type for part in parts]),
        core=texts([part.core for part in parts]),
        input_shapes=texts([part.input_shapes for part in parts]),
        input_dtypes=texts([part.input_dtypes for part in parts]),
        output_shapes=texts([part.output_shapes for part in parts]),
        output_dtypes=texts([part.output_dtypes for part in parts]),
        pmu={
            header: np.concatenate([part.pmu.get(header, blank) for part, blank in zip(parts, blanks, strict=True)])[
                order
            ]
            for header in headers
        },
    )
