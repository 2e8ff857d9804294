"""Reads one rank's profile from text files: CSV tables and trace JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.core.units import MIB
from memplan.traces.communication_times import read_communication_times
from memplan.traces.decimals import ABSENT
from memplan.traces.devices import DEVICE_HEADERS
from memplan.traces.dictionary_array import concatenate_texts, dictionary_encoded, take_rows
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.op_totals import types_by_name
from memplan.traces.profile import Allocations, CommunicationTime, Kernels, LinkTraffic, MemoryCurve, StepTimes
from memplan.traces.rank import RankReader
from memplan.traces.rank_links import read_links
from memplan.traces.rank_source import RankSource
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events
from memplan.traces.readers.curve_samples import bounded, thinned_note
from memplan.traces.readers.host_ops import mindspore_host_kernels
from memplan.traces.readers.kernel_tables import UNUSED, kernels_of
from memplan.traces.readers.kernel_tracks import timeline_of
from memplan.traces.readers.kineto_ops import kineto_kernels
from memplan.traces.readers.memory_tables import (
    ALLOCATION_COLUMNS,
    CURVE_COLUMNS,
    MINDSPORE_RECORD_MB,
    allocations_of,
    curves_of,
    merge_curves,
    repeats_note,
)
from memplan.traces.readers.metric_columns import with_metrics
from memplan.traces.readers.mindspore_memory import curve_of, read_memory_usage
from memplan.traces.readers.trace_file import load_timeline
from memplan.traces.search.described_rank import KINETO
from memplan.traces.tables.csv_table import read_batches, read_table
from memplan.traces.tables.step_tables import iterations_of, step_times_of
from memplan.traces.tables.text_table import TextTable
from memplan.traces.timeline.query import TimelineQuery


class TextReader(RankReader):
    """Reads CSV tables and trace JSON; `cache` and `threads` are for large traces."""

    def __init__(self, source: RankSource, notes: Notebook, cache: Path | None, threads: int | None) -> None:
        super().__init__(notes, logs=source.of(FileKind.LOG))
        self._threads = threads
        self._source = source
        self._cache = cache
        for path in (*source.of(FileKind.TABLE), *source.of(FileKind.OPERATOR)):
            name = path.name.split(".csv")[0]
            # msopprof has a folder for each kernel: the same names come again.
            self._further[f"{path.parent.name}/{name}" if name in self._further else name] = path

    def device(self, progress: Progress) -> str:
        if self._source.device is not None:
            return f"NPU:{self._source.device.number}"
        kinds = (FileKind.STEPS, FileKind.ITERATIONS, FileKind.MEMORY_RECORD, FileKind.KERNELS)  # the short one first
        told = (
            device
            for kind in kinds
            for path in self._source.of(kind)
            for table in islice(self._batches(path, frozenset(DEVICE_HEADERS), progress), 1)
            for device in (*table.text("Device Type")[:1], *table.text("Device_id")[:1])
        )
        device = next((device for device in told if device not in ABSENT), "")
        return f"NPU:{device}" if device.isdigit() else device

    def kernels(self, progress: Progress) -> Kernels | None:
        for kind in (FileKind.KERNELS, FileKind.TASK_TIME):
            parts: list[Kernels] = []
            fresh: list[Bools] = []
            for table in self._tables(kind, progress, UNUSED):
                part = kernels_of(table, self._notes)
                if part is not None:
                    fresh.append(~repeated_kernels(part, parts))
                    parts.append(part)
                    if repeats := len(part) - int(fresh[-1].sum()):
                        self._notes.tell(table.path, repeats_note(repeats, "kernels"))
                    if fresh[-1].any() and _is_export(table.path) != _is_export(self._source.of(kind)[0]):
                        others = self._source.of(kind)[0].name
                        self._notes.add(
                            table.path,
                            Sentence("another tool wrote {} beside it: shown as one run's kernels", (others,)),
                        )
            if parts:
                return self._with_metrics(concatenate_kernels(parts, fresh))
        of = self._source.of
        if of(FileKind.HOST_OPS):
            return mindspore_host_kernels(of(FileKind.HOST_OPS), of(FileKind.HOST_LAUNCHES), self._notes)
        return self._kineto_kernels(progress)

    def _with_metrics(self, kernels: Kernels) -> Kernels:
        """The kernels with what further runs counted of them."""
        for path in self._source.metrics:
            table = read_table(path, self._notes, UNUSED)
            other = None if table is None else kernels_of(table, self._notes)
            if other is not None:
                kernels = with_metrics(kernels, other, path, self._notes)
        return kernels

    def _kineto_kernels(self, progress: Progress) -> Kernels | None:
        """Ops of torch.profiler's trace, where the run had no device; what is wrong with it the timeline tells."""
        if not self._source.of(FileKind.TRACE) or self._source.producer != KINETO:
            return None
        view = load_timeline(self._source, dict, self._cache, Notebook(self._notes.root), progress, self._threads)
        return None if view is None else kineto_kernels(view, progress)

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        """Curves by component; those of further devices carry the device in their name."""
        record_mb = MINDSPORE_RECORD_MB if self._source.producer == "MindSpore" else MIB
        found: dict[str, MemoryCurve] = {}
        for kind, mb in (
            (FileKind.MEMORY_RECORD, record_mb),
            (FileKind.MODULE_MEMORY, MIB),
            (FileKind.PROCESS_MEMORY, MIB),
        ):
            of_kind: dict[str, MemoryCurve] = {}
            for path, batches in self._files(kind, CURVE_COLUMNS, progress):
                for curve in curves_of(path, batches, mb, self._notes):
                    name = curve.component
                    if name in of_kind and of_kind[name].device != curve.device:
                        name = f"{name} {curve.device}"
                    of_kind[name] = self._joined(of_kind[name], curve, path) if name in of_kind else curve
            for name, curve in of_kind.items():
                found.setdefault(name, curve)
        if "MindSpore" not in found and (usage := curve_of(self._memory_usage())) is not None:
            found["MindSpore"] = usage
        return found

    def _joined(self, first: MemoryCurve, second: MemoryCurve, path: Path) -> MemoryCurve:
        """One curve of two files."""
        joined = merge_curves((first, second))
        curve, bucket = bounded(joined)
        if bucket > 1:
            self._notes.add(path, thinned_note(curve.component, len(joined.time_ns), bucket))
        return curve

    def allocations(self, progress: Progress) -> Allocations | None:
        if not self._source.of(FileKind.OPERATOR_MEMORY) and (events := self._memory_usage()):
            return allocations_of_events(events)[0]
        return allocations_of(self._files(FileKind.OPERATOR_MEMORY, ALLOCATION_COLUMNS, progress), self._notes)

    def _memory_usage(self) -> list[BlockEvent]:
        """Events of MindSpore's binary memory record, which says more than the CSV made of it."""
        paths = self._source.of(FileKind.MEMORY_USAGE)
        return [event for path in paths for event in read_memory_usage(path, self._notes)]

    def steps(self, progress: Progress) -> list[StepTimes]:
        found = [step for table in self._tables(FileKind.STEPS, progress) for step in step_times_of(table, self._notes)]
        if found:
            return found
        iterations = [
            step for table in self._tables(FileKind.ITERATIONS, progress) for step in iterations_of(table, self._notes)
        ]
        return sorted(dict.fromkeys(iterations), key=lambda step: step.start_ns or 0)

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        view = load_timeline(
            self._source, lambda: types_by_name(kernels), self._cache, self._notes, progress, self._threads
        )
        if (view is not None and view.tracks) or kernels is None or not len(kernels):
            return view
        tables = self._source.of(FileKind.KERNELS) or self._source.of(FileKind.TASK_TIME)
        self._notes.tell(tables[0], "the timeline is made of its kernels: there is no trace with slices")
        return timeline_of(kernels)

    def links(self, progress: Progress) -> list[LinkTraffic]:
        return read_links(self._source.of(FileKind.COMMUNICATION_MATRIX), self._notes)

    def communications(self, progress: Progress) -> list[CommunicationTime]:
        return read_communication_times(self._source.of(FileKind.COMMUNICATION), self._notes)

    def _tables(self, kind: FileKind, progress: Progress, unused: frozenset[str] = frozenset()) -> list[TextTable]:
        paths = self._source.of(kind)
        found = []
        for number, path in enumerate(paths):
            progress(number, len(paths), path.name)
            table = read_table(path, self._notes, unused)
            if table is not None:
                found.append(self._share_of(table))
                self._note_devices(path, _devices_in(found[-1]))
        return found

    def _files(
        self, kind: FileKind, wanted: frozenset[str], progress: Progress
    ) -> Iterator[tuple[Path, Iterator[TextTable]]]:
        """The files of a kind, each with its rows part by part."""
        for path in self._source.of(kind):
            yield path, self._batches(path, wanted | frozenset(DEVICE_HEADERS), progress)

    def _batches(self, path: Path, wanted: frozenset[str], progress: Progress) -> Iterator[TextTable]:
        rows, devices = 0, set[str]()
        for table in read_batches(path, self._notes, wanted):
            progress(rows, 0, path.name)
            rows += table.rows
            table = self._share_of(table)
            devices |= _devices_in(table)
            yield table
        self._note_devices(path, devices)

    def _note_devices(self, path: Path, devices: Collection[str]) -> None:
        if len(devices) > 1:
            self._notes.add(path, together_note(devices))

    def _share_of(self, table: TextTable) -> TextTable:
        """The rows of this rank's device."""
        if self._source.device is None or (column := table.find(*DEVICE_HEADERS)) is None:
            return table
        return table.rows_where(self._source.device.rows(column))


def _is_export(path: Path) -> bool:
    """Whether a table of kernels is called as msprof exports it, not as a framework's profiler writes it."""
    return not path.name.startswith("kernel_details")


def _devices_in(table: TextTable) -> set[str]:
    return set(dictionary_encoded(table.text("Device_id")).values) - ABSENT


def together_note(devices: Collection[str]) -> Sentence:
    """What to say of rows of several devices in one file."""
    listed = ", ".join(sorted(devices, key=lambda device: (len(device), device))[:16])
    return Sentence("holds rows of {} [device|devices] ({}), added up as if of one rank", (len(devices), listed))


def repeated_kernels(part: Kernels, earlier: Sequence[Kernels]) -> Bools:
    """Which rows of `part` an earlier file holds too: exporting a profile again writes its rows into further files."""
    repeated = np.zeros(len(part), dtype=np.bool_)
    for other in earlier:
        same = np.flatnonzero(np.isin(part.start_ns, other.start_ns))
        rows = np.flatnonzero(np.isin(other.start_ns, part.start_ns[same])).tolist()
        known = {(other.start_ns[row], other.duration_ns[row], other.name[row]) for row in rows}
        for row in same.tolist():
            repeated[row] |= (part.start_ns[row], part.duration_ns[row], part.name[row]) in known
    return repeated


def concatenate_kernels(parts: Sequence[Kernels], fresh: Sequence[Bools]) -> Kernels:
    """Kernels of several files (slices of one export) as one, in order of start: of each the rows that are `fresh`."""
    if len(parts) == 1:
        return parts[0]
    kept = np.flatnonzero(np.concatenate(fresh))
    order: Int64s = kept[np.argsort(np.concatenate([part.start_ns for part in parts])[kept], kind="stable")]
    headers = {header: None for part in parts for header in part.pmu}

    def texts(columns: Sequence[Sequence[str]]) -> Sequence[str]:
        return take_rows(concatenate_texts(columns), order)

    def texts_of_all(columns: Sequence[Sequence[str]]) -> Sequence[str]:
        return texts(columns) if all(columns) else ()

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
        state=texts_of_all([part.state for part in parts]),
        input_formats=texts_of_all([part.input_formats for part in parts]),
        output_formats=texts_of_all([part.output_formats for part in parts]),
    )
