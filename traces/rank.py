"""
The profile of one rank: its parts, each read when first asked for, once, watched by the job that asks.

A part stands in two places here: what a reader gives where its files lack it (`RankReader`), and the value that is read
once (`RankProfile`). A further part takes a data class in `memplan.traces.profile`, these two, and the reader of the
files that hold it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from memplan.core.once import Once
from memplan.core.progress import Progress, silent
from memplan.traces.logs.cache_use import CacheUse, use_in_log
from memplan.traces.logs.failure_log import failures_in_log
from memplan.traces.logs.npu_listing import listed_chip
from memplan.traces.logs.sleep_log import SleepUse, sleeps_in_log
from memplan.traces.notes import Notebook
from memplan.traces.op_totals import largest_types
from memplan.traces.parallel_groups import ParallelGroups
from memplan.traces.profile import (
    Allocations,
    CommunicationTime,
    CounterSeries,
    FailedAllocation,
    Flow,
    Kernels,
    LinkTraffic,
    MemoryCurve,
    MemorySegments,
    OpTotal,
    Overlap,
    Slices,
    StepTimes,
    Track,
    TrackKind,
)
from memplan.traces.tables.csv_table import read_table
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.step_marks import ITERATION_MARKS, steps_marked

_Part = TypeVar("_Part")


class RankReader:
    """
    Reads the parts of one rank's profile from files of some form; those that it does not override are not in them.

    `progress` is that of the job that waits for the part. `further` are CSV tables to show as they are, `logs` what the
    run wrote besides.
    """

    def __init__(self, notes: Notebook, further: Sequence[Path] = (), logs: Sequence[Path] = ()) -> None:
        self._notes = notes
        self._logs = logs
        self._further = {path.name.split(".csv")[0]: path for path in further}

    def device(self, progress: Progress) -> str:
        """`NPU:<local id>` as the files have it, empty where none tells."""
        return ""

    def chip(self, progress: Progress) -> str | None:
        """Name of the chip, `None` where the files don't tell; by default the one that a listing beside them names."""
        return next((name for path in self._logs if (name := listed_chip(path, self._notes))), None)

    def kernels(self, progress: Progress) -> Kernels | None:
        """Device kernels."""
        return None

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        """Memory curves by component."""
        return {}

    def allocations(self, progress: Progress) -> Allocations | None:
        """Allocations by op."""
        return None

    def failures(self, progress: Progress) -> Sequence[FailedAllocation]:
        """Allocations that failed, by default as the logs tell them."""
        return [found for path in self._logs for found in failures_in_log(path, self._notes, progress)]

    def cache_use(self, progress: Progress) -> CacheUse | None:
        """What of a KV cache was used, by default as the first log that knows tells it."""
        found = (use_in_log(path) for path in self._logs)
        return next((use for use in found if not use.empty), None)

    def sleeps(self, progress: Progress) -> Sequence[SleepUse]:
        """What engines keep on the device while they sleep, as the logs tell it."""
        return [found for path in self._logs for found in sleeps_in_log(path, self._notes)]

    def segments(self, progress: Progress) -> MemorySegments | None:
        """Segments of the framework's allocator."""
        return None

    def steps(self, progress: Progress) -> Sequence[StepTimes]:
        """Steps as the profiler sums them up."""
        return ()

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        """The timeline; `kernels` gives types to its device slices."""
        return None

    def links(self, progress: Progress) -> Sequence[LinkTraffic]:
        """Traffic over links between ranks."""
        return ()

    def communications(self, progress: Progress) -> Sequence[CommunicationTime]:
        """Communications taken apart into transfer and waiting."""
        return ()

    def tables(self) -> Sequence[str]:
        """Names of further tables."""
        return list(self._further)

    def table(self, name: str, progress: Progress) -> Mapping[str, Sequence[str]]:
        """A further table as text; raises `KeyError` for one that is not there."""
        table = read_table(self._further[name], self._notes)
        return table.columns if table is not None else {}


class RankProfile:
    """
    What one rank measured.

    Each part is read once however many threads ask for it, and kept. `rank.kernels(progress)` and the like give it:
    `progress` hears of the reading that it waits for and may stop it, without spoiling it for others who wait. What
    answers without a progress (`tracks`, `slices`, ...) reads what it needs unwatched: a job asks for `timeline` first.
    """

    def __init__(
        self,
        rank: int,
        open_reader: Callable[[Progress], RankReader],
        groups: ParallelGroups | None = None,
        environment: Mapping[str, str] | None = None,
        producer: str = "",
    ) -> None:
        self._rank = rank
        self.groups = groups or ParallelGroups()
        """The parallel groups that the profile's metadata tells of."""
        self.environment = environment or {}
        """Environment variables of the run that the metadata tells of; empty text where one was not set."""
        self.producer = producer
        """The tool that wrote the files, empty where that is not known."""
        self._changed = threading.Condition()  # one for all parts: there are many ranks
        self._reader = Once(open_reader, self._changed)
        self._device = self._part(lambda reader, progress: reader.device(progress))
        self._chip = self._part(lambda reader, progress: reader.chip(progress))
        self.kernels = self._part(lambda reader, progress: reader.kernels(progress))
        """Device kernels, or `None` where the profile holds none."""
        self.memory_curves = self._part(lambda reader, progress: reader.memory_curves(progress))
        """Memory curves by component."""
        self.allocations = self._part(lambda reader, progress: reader.allocations(progress))
        """Allocations by op, or `None`."""
        self.failures = self._part(lambda reader, progress: reader.failures(progress))
        """Allocations that failed, in their order."""
        self.cache_use = self._part(lambda reader, progress: reader.cache_use(progress))
        """What of a serving engine's KV cache was used, or `None`."""
        self.sleeps = self._part(lambda reader, progress: reader.sleeps(progress))
        """What the workers of a serving engine keep on the device while they sleep."""
        self.segments = self._part(lambda reader, progress: reader.segments(progress))
        """Segments of the framework's allocator at the moment of the snapshot, or `None`."""
        self.steps = self._part(lambda reader, progress: reader.steps(progress) or self._iterations(progress))
        """Steps as the vendor's summary has them, else the iterations that msprof marks."""
        self.links = self._part(lambda reader, progress: reader.links(progress))
        """Traffic over links between ranks that this rank's communication matrix tells of."""
        self.communications = self._part(lambda reader, progress: reader.communications(progress))
        """Communications in order of start, each taken apart into transfer and waiting."""
        self.timeline = self._part(lambda reader, progress: reader.timeline(self.kernels(progress), progress))
        """The timeline, or `None` where there is no trace."""

    def _part(self, read: Callable[[RankReader, Progress], _Part]) -> Once[_Part]:
        return Once(lambda progress: read(self._reader(progress), progress), self._changed)

    def _iterations(self, progress: Progress) -> Sequence[StepTimes]:
        timeline = self.timeline(progress)
        return steps_marked(timeline, ITERATION_MARKS) if timeline is not None else ()

    @property
    def rank(self) -> int:
        """The rank's number."""
        return self._rank

    @property
    def device(self) -> str:
        """`NPU:<local id>` as the files have it, empty where none tells."""
        return self._device()

    @property
    def chip(self) -> str | None:
        """Name of the chip, `None` where the files don't tell."""
        return self._chip()

    @property
    def span_ns(self) -> tuple[int, int]:
        """First start and last end of slices and kernels, or of memory samples where there are none of these."""
        starts, ends = [], []
        timeline, kernels = self.timeline(), self.kernels()
        if timeline is not None and timeline.span_ns is not None:
            starts.append(timeline.span_ns[0])
            ends.append(timeline.span_ns[1])
        if kernels is not None and len(kernels):
            starts.append(int(kernels.start_ns[0]))
            ends.append(int((kernels.start_ns + kernels.duration_ns).max()))
        if not starts:
            times = [curve.time_ns for curve in self.memory_curves().values() if len(curve.time_ns)]
            starts, ends = [int(time[0]) for time in times], [int(time[-1]) for time in times]
        return (min(starts), max(ends)) if starts else (0, 0)

    @property
    def tracks(self) -> Sequence[Track]:
        """The tracks of the timeline; none where there is no trace."""
        timeline = self.timeline()
        return timeline.tracks if timeline is not None else ()

    def _tracked(self) -> TimelineQuery:
        timeline = self.timeline()
        if timeline is None:
            raise IndexError(f"rank {self.rank} has no tracks: there is no trace file")
        return timeline

    def slices(self, track: int, t0: int | None = None, t1: int | None = None) -> Slices:
        """Slices of `track` that overlap `[t0, t1)`, all of them by default."""
        return self._tracked().slices(track, t0, t1)

    def busy_ns(self, track: int, t0: int, t1: int) -> int:
        """How much of `[t0, t1)` lies under any slice of `track`."""
        return self._tracked().busy_ns(track, t0, t1)

    def counters(self, track: int) -> Sequence[CounterSeries]:
        """The series of counter track `track`."""
        return self._tracked().counters(track)

    def flows(self, track: int, start_ns: int) -> Sequence[Flow]:
        """Arrows that start or end in the slice of `track` that starts at `start_ns`."""
        return self._tracked().flows(track, start_ns)

    def arguments(self, track: int, start_ns: int) -> Mapping[str, object]:
        """The trace's `args` of that slice; empty where it has none."""
        return self._tracked().arguments(track, start_ns)

    def overlap(self) -> Overlap | None:
        """Sums over the trace's overlap-analysis tracks, or `None` where it has none."""
        timeline = self.timeline()
        return timeline.overlap() if timeline is not None else None

    def memory_components(self) -> Sequence[str]:
        """Components that have a memory curve."""
        return list(self.memory_curves())

    def memory(self, component: str) -> MemoryCurve | None:
        """The memory curve of `component`, or `None`."""
        return self.memory_curves().get(component)

    def top_ops(self, count: int = 20) -> Sequence[OpTotal]:
        """The op types that took most device time."""
        kernels, timeline = self.kernels(), self.timeline()
        if kernels is not None:
            return largest_types(kernels, count)
        return timeline.top_categories(TrackKind.STREAM, count) if timeline is not None else []

    def tables(self) -> Sequence[str]:
        """Names of the rank's further tables, such as `op_statistic` or `l2_cache`."""
        return self._reader().tables()

    def table(self, name: str, progress: Progress = silent) -> Mapping[str, Sequence[str]]:
        """Columns of a further table as text, by header; raises `KeyError` for one that is not there."""
        return self._reader(progress).table(name, progress)

    def read_for_window(self, progress: Progress) -> None:
        """Read now what a window shows first: whatever answers without a progress."""
        for part in (self.timeline, self.memory_curves, self._device, self._chip):
            part(progress)
