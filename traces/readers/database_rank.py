"""Reads one rank's profile from the profilers' SQLite databases. Times there are nanoseconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.once import Once
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.dictionary_array import DictionaryArray, take_rows
from memplan.traces.far_times import far_note, far_times
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.op_totals import types_by_name
from memplan.traces.profile import Allocations, CommunicationTime, Kernels, LinkTraffic, MemoryCurve, StepTimes
from memplan.traces.rank import RankReader
from memplan.traces.rank_source import RankSource
from memplan.traces.readers.curve_samples import CurveSamples, thinned_note
from memplan.traces.readers.database_events import TaskCopies, arguments_of, events_of
from memplan.traces.tables.communication_tables import communications_in, links_in
from memplan.traces.tables.sqlite import Database
from memplan.traces.tables.step_tables import step_table, step_times_of
from memplan.traces.timeline.merge_events import without_far_slices
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.tracks import build

_RENAMED = {"aic_total_time": "aicore_time(us)", "aiv_total_time": "aiv_time(us)"}


class DatabaseReader(RankReader):
    """Reads the profiler's database, and what an analysis put into one beside it."""

    def __init__(self, source: RankSource, notes: Notebook) -> None:
        super().__init__(notes, logs=source.of(FileKind.LOG))
        main, *further = source.of(FileKind.DATABASE) or source.of(FileKind.ANALYSIS_DATABASE)[:1]
        for path in further:
            notes.add(path, "not read: the rank has another database")
        self._share = source.device
        self._database = Database(main, notes, source.device)
        self._database.note_damage()
        self._copies = Once(lambda progress: TaskCopies.read(self._database.watched(progress)))
        self._analysis = [Database(path, notes, source.device) for path in source.of(FileKind.ANALYSIS_DATABASE)]

    def device(self, progress: Progress) -> str:
        if self._share is not None:
            return f"NPU:{self._share.number}"
        for table in ("RANK_DEVICE_MAP", "TASK"):
            (devices,) = self._database.watched(progress).numbers(table, "deviceId")
            if len(devices) and devices[0] >= 0:
                return f"NPU:{devices[0]}"
        return ""

    def chip(self, progress: Progress) -> str | None:
        names = self._database.watched(progress).enumeration("NPU_INFO")
        first = next(iter(names.values()), None)
        told = names.get(self._share.number, first) if self._share is not None else first
        return told or super().chip(progress)

    def kernels(self, progress: Progress) -> Kernels | None:
        """Compute tasks and communication ops."""
        data = self._database.watched(progress)
        owner, name, kind, core, blocks, shapes, types, formats, out_shapes, out_types, out_formats = data.numbers(
            "COMPUTE_TASK_INFO", "globalTaskId", "name", "opType", "taskType", "blockNum|blockDim", "inputShapes",
            "inputDataTypes", "inputFormats", "outputShapes", "outputDataTypes", "outputFormats",
        )  # fmt: skip
        task, start, end, stream = data.numbers("TASK", "globalTaskId", "startNs", "endNs", "streamId")
        begins, ends, op_name, op_type = data.numbers("COMMUNICATION_OP", "startNs", "endNs", "opName", "opType")
        order = np.argsort(task, kind="stable")
        place = np.minimum(np.searchsorted(task[order], owner), max(len(task) - 1, 0))
        timed = np.flatnonzero(task[order][place] == owner) if len(task) else np.empty(0, dtype=np.int64)
        rows = order[place[timed]] if len(task) else timed
        if missing := len(owner) - len(timed):
            self._notes.add(
                data.path, Sentence("{} [kernel|kernels] without a task, so without times, skipped", (missing,))
            )
        if len(task) and not data.has("COMPUTE_TASK_INFO"):
            self._notes.add(
                data.path,
                Sentence(
                    "no table COMPUTE_TASK_INFO: what its {} [task computes|tasks compute] is not known", (len(task),)
                ),
            )
        if not len(rows) + len(begins):
            return None
        if nameless := int((name[timed] < 0).sum() + (op_name < 0).sum()):
            self._notes.add(data.path, Sentence("{} [kernel|kernels] without a name", (nameless,)))
        begin = np.concatenate([start[rows], begins])
        finish = np.concatenate([end[rows], ends])
        usable = (begin > 0) & (finish >= begin)
        if dropped := len(begin) - int(usable.sum()):
            self._notes.add(
                data.path, Sentence("{} [kernel|kernels] without a usable start and end skipped", (dropped,))
            )
        far = far_times(begin[usable], (finish - begin)[usable])
        if far.any():
            self._notes.add(data.path, far_note(int(far.sum()), "kernels"))
            usable[np.flatnonzero(usable)[far]] = False
        if not usable.any():
            return None
        kept = np.flatnonzero(usable)
        sort: Int64s = kept[np.argsort(begin[kept], kind="stable")]
        absent = np.full(len(begins), -1, dtype=np.int64)

        def column(values: Int64s, further: Int64s = absent) -> Int64s:
            return np.concatenate([values, further])[sort]

        def texts(values: Int64s, further: Int64s = absent) -> DictionaryArray:
            found = data.names(column(values, further), "N/A")
            return DictionaryArray(found.codes, [text.strip('"') for text in found.values])

        cores = texts(core[timed])
        communicating = column(np.zeros(len(timed), dtype=np.int64), absent) < 0
        cores = DictionaryArray(
            np.where(communicating, len(cores.values), cores.codes).astype(np.int32), [*cores.values, "COMMUNICATION"]
        )
        return Kernels(
            start_ns=begin[sort],
            duration_ns=(finish - begin)[sort],
            wait_ns=np.full(len(sort), -1, dtype=np.int64),
            step=_steps_at(data, begin[sort]),
            stream=column(stream[rows]),
            block_count=column(blocks[timed]),
            name=texts(name[timed], op_name),
            type=texts(kind[timed], op_type),
            core=cores,
            input_shapes=texts(shapes[timed]),
            input_dtypes=texts(types[timed]),
            output_shapes=texts(out_shapes[timed]),
            output_dtypes=texts(out_types[timed]),
            pmu=_pmu(data, owner[timed], len(begins), sort),
            input_formats=texts(formats[timed]),
            output_formats=texts(out_formats[timed]),
        )

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        data = self._database.watched(progress)
        found: dict[str, MemoryCurve] = {}
        totals = ("component", "timestamp", "totalAllocated", "totalReserved", "totalActive", "deviceId")
        for number, (time, allocated, reserved, active, device) in self._samples(data, "MEMORY_RECORD", *totals):
            name = data.strings.get(number, str(number))
            found[name] = _curve(name, device, time, allocated, reserved, active)
        process = ("type", "timestampNs", "hbm", "ddr", "deviceId")
        for number, (time, hbm, ddr, device) in self._samples(data, "NPU_MEM", *process):
            if data.strings.get(number) == "app" and "APP" not in found:
                found["APP"] = _curve("APP", device, time, None, hbm + np.maximum(ddr, 0), None)
        modules = data.enumeration("ENUM_MODULE")
        held = ("moduleId", "timestampNs", "totalReserved", "deviceId")
        for number, (time, reserved, device) in self._samples(data, "NPU_MODULE_MEM", *held):
            name = modules.get(number, str(number))
            if name not in found:
                found[name] = _curve(name, device, time, None, reserved, None)
        return found

    def _samples(self, data: Database, table: str, *columns: str) -> Iterator[tuple[int, Sequence[Int64s]]]:
        """Of each number in the first column the others, in order of the second, which is time."""
        samples: dict[int, CurveSamples] = {}
        for component, *batch in data.number_batches(table, *columns):
            for number in dict.fromkeys(component.tolist()):
                rows = np.flatnonzero(component == number)
                samples.setdefault(number, CurveSamples()).add(*(column[rows] for column in batch))
        for number, kept in samples.items():
            if kept.bucket > 1:
                self._notes.add(
                    data.path, Sentence("table {}: {}", (table, thinned_note(str(number), kept.seen, kept.bucket)))
                )
            found = kept.columns()
            order = np.argsort(found[0], kind="stable")
            yield number, [column[order] for column in found]

    def allocations(self, progress: Progress) -> Allocations | None:
        data = self._database.watched(progress)
        if not data.has("OP_MEMORY"):
            return None
        name, size, start, end = data.numbers("OP_MEMORY", "name", "size", "allocationTime", "releaseTime")
        order = np.argsort(start, kind="stable")
        return Allocations(take_rows(data.names(name), order), np.abs(size[order]), start[order], end[order])

    def steps(self, progress: Progress) -> list[StepTimes]:
        for data in (*self._analysis, self._database):
            table = step_table(data.watched(progress), "StepTraceTime")
            if table is not None and table.has("Computing"):
                return step_times_of(table, self._notes)
        return []

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        events = without_far_slices(events_of(self._database.watched(progress)), self._database.path, self._notes)
        timeline = build(events, types_by_name(kernels))
        return (
            TimelineQuery(timeline, lambda at, size: arguments_of(self._database, self._copies, at, size))
            if timeline.tracks
            else None
        )

    def links(self, progress: Progress) -> list[LinkTraffic]:
        return [
            use
            for data in self._analysis
            for use in links_in(data.watched(progress).texts("CommAnalyzerMatrix"), data.path, self._notes)
        ]

    def communications(self, progress: Progress) -> list[CommunicationTime]:
        found = []
        for data in self._analysis:
            data = data.watched(progress)
            times, packets = data.texts("CommAnalyzerTime"), data.texts("CommAnalyzerBandwidth")
            found += [one for _, one in communications_in(times, packets, data.path, self._notes)]
        return sorted(found, key=lambda one: (one.start_ns, one.op))

    def tables(self) -> Sequence[str]:
        return sorted({name for data in (*self._analysis, self._database) for name in data.tables})

    def table(self, name: str, progress: Progress) -> Mapping[str, Sequence[str]]:
        data = next((data for data in (*self._analysis, self._database) if data.has(name)), None)
        if data is None:
            raise KeyError(name)
        return data.watched(progress).texts(name)


def _curve(
    name: str,
    device: Int64s,
    time: Int64s,
    allocated: Int64s | None,
    reserved: Int64s | None,
    active: Int64s | None,
) -> MemoryCurve:
    def told(column: Int64s | None) -> Int64s | None:
        return column if column is not None and (column >= 0).any() else None

    return MemoryCurve(name, f"NPU:{device[0]}", time, told(allocated), told(reserved), told(active))


def _pmu(data: Database, owner: Int64s, further: int, sort: Int64s) -> dict[str, Floats]:
    """Hardware counters by the header that they have in text; those are in us where these are in ns."""
    (task, name), (value,) = data.measured("TASK_PMU_INFO", ("globalTaskId", "name"), ("value",))
    order = np.argsort(owner, kind="stable")
    found: dict[str, Floats] = {}
    for number in np.unique(name).tolist() if len(owner) else ():
        rows = np.flatnonzero(name == number)
        place = np.minimum(np.searchsorted(owner[order], task[rows]), len(owner) - 1)
        known = owner[order][place] == task[rows]
        column = np.full(len(owner) + further, np.nan)
        title = data.strings.get(number, str(number))
        is_time = title.endswith("_time")
        column[order[place[known]]] = value[rows[known]] / (1000 if is_time else 1)
        found[_RENAMED.get(title, f"{title}(us)" if is_time else title)] = column[sort]
    return found


def _steps_at(data: Database, times: Int64s) -> Int64s:
    """The step in which each time lies, -1 outside of all."""
    step, start, end = data.numbers("STEP_TIME", "id", "startNs", "endNs")
    found = np.full(len(times), -1, dtype=np.int64)
    for number, first, last in zip(step.tolist(), start.tolist(), end.tolist(), strict=True):
        found[(times >= first) & (times <= last)] = number
    return found
