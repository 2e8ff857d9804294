"""What the rules look at: one rank's profile as intervals of its clock, read once."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.distinct import distinct
from memplan.core.errors import InputError
from memplan.core.intervals import (
    Intervals,
    interval_difference,
    interval_intersection,
    interval_total,
    interval_union,
    intervals_within,
)
from memplan.core.progress import Progress, silent
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.findings.device_communication import (
    DeviceCommunication,
    device_communication,
    device_communications,
    traced_communications,
)
from memplan.findings.finding import threshold
from memplan.graph.op_names import type_of_kernel
from memplan.traces.dictionary_array import DictionaryArray, concatenate_texts, dictionary_encoded, take_rows
from memplan.traces.profile import CommunicationTime, Kernels, Slices, StepTimes, TrackKind
from memplan.traces.rank import RankProfile
from memplan.traces.steps import step_spans

_COLLECTIVE_CORES = ("HCCL", "COMMUNICATION")
_WAITING = re.compile(r"(?:EVENT|NOTIFY)_(?:WAIT|RECORD)(?:_SQE)?|MEMCPY_ASYNC|PCIE_DMA_SQE")
"""Tasks that are no kernels, as tables of all tasks have them; MemSet and its like are kernels."""
_TASKS = re.compile(r"(?:event|notify)[ _](?:wait|record)|memcpy|sdma|pcie_dma|reduce_inline|hcom_", re.IGNORECASE)
"""Tasks on streams of a trace that compute nothing."""
_NO_KERNELS = re.compile(
    r"EVENT_RESET|REDUCE_ASYNC\w*|(?:RDMA|SDMA)\w*|.*_SQE|MODEL_\w+|Stream ?Active\w*", re.IGNORECASE
)
_COPY = re.compile(r"MEMCPY|PCIE_DMA|SDMA_SQE", re.IGNORECASE)

CALLS = "calls"
"""The key of all calls of the runtime among a rank's host events."""
NOTHING: Intervals = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class StepWindow:
    """A step from its first kernel to that of the next one, or to its own end where it is the last; ns."""

    number: int | None
    start_ns: int
    end_ns: int
    busy_until_ns: int


@dataclass(frozen=True, slots=True)
class RankCase:
    """
    A rank's device time: what computes, communicates, copies, and what the host did meanwhile, as disjoint intervals.

    `computing_rows` are the kernels that compute, in order of start. `host` holds the spans of host events by what they
    are (keys of `host_events.json`). `launch_ns` is when the host launched each of them, -1 where no arrow tells it.
    """

    rank: int
    profile: RankProfile
    kernels: Kernels | None
    computing_rows: Int64s
    launch_ns: Int64s
    communications: Sequence[DeviceCommunication]
    windows: Sequence[StepWindow]
    computing: Intervals
    communicating: Intervals
    copying: Intervals
    steps: Sequence[StepTimes]
    host: Mapping[str, Intervals] = field(default_factory=dict)
    has_host: bool = False
    cut: bool = False
    """Whether some steps were taken out of what was measured."""
    kept_share: float | None = None
    """Of an excerpt of a kernel table, left out for it: the share of the steps' computing it has. `None` of others."""

    @property
    def length_ns(self) -> int:
        """Of all steps together."""
        if self.windows:
            return sum(window.end_ns - window.start_ns for window in self.windows)
        return sum(step.length_ns or 0 for step in self.steps)

    def step_at(self, time_ns: int) -> int | None:
        """The number of the step that runs at `time_ns`, `None` outside of all or where it has none."""
        place = bisect_right(self.windows, time_ns, key=lambda window: window.start_ns) - 1
        return self.windows[place].number if place >= 0 and time_ns < self.windows[place].end_ns else None

    def begun_at(self, time_ns: Int64s) -> Int64s:
        """The place of the step that began last at each time, whether or not it has ended; -1 before the first."""
        starts = np.array([window.start_ns for window in self.windows], dtype=np.int64)
        return np.asarray(np.searchsorted(starts, time_ns, side="right") - 1, dtype=np.int64)

    @property
    def idle(self) -> Intervals:
        """When the device did nothing within the steps."""
        start = np.array([window.start_ns for window in self.windows], dtype=np.int64)
        end = np.array([window.end_ns for window in self.windows], dtype=np.int64)
        parts = (self.computing, self.communicating, self.copying)
        starts, ends = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        return interval_difference((start, end), interval_union(starts, ends))


def _summed_steps(rank: RankProfile, progress: Progress) -> list[StepTimes]:
    """The steps whose parts the vendor sums up; of iterations of msprof only the length is known."""
    return [step for step in rank.steps(progress) if step.computing_ns is not None]


def rank_case(rank: RankProfile, progress: Progress = silent) -> RankCase:
    """Read of `rank` what the rules need."""
    kernels = rank.kernels(progress)
    told = rank.communications(progress)
    rank.timeline(progress)
    copies = _copies(rank)
    if kernels is None or not len(kernels):
        traced = _traced_case(rank, copies, progress)
        return traced if traced is not None else _summed_case(rank, told, copies, progress)
    communicating, waiting = _kinds_of(kernels)
    end = kernels.start_ns + kernels.duration_ns
    rows = np.flatnonzero(~communicating & ~waiting)
    communications = device_communications(rank, kernels, communicating, told)
    starts = np.array([one.start_ns for one in communications], dtype=np.int64)
    ends = np.array([one.end_ns for one in communications], dtype=np.int64)
    computing = interval_union(kernels.start_ns[rows], end[rows])
    communication = interval_union(starts, ends)
    windows, steps = _windows(rank, kernels, progress), _summed_steps(rank, progress)
    kept = _kept_share(windows, steps, computing)
    if kept is not None and kept < threshold("excerpt_share"):
        return replace(_summed_case(rank, told, copies, progress), kept_share=kept)
    host = _host_events(rank)
    return RankCase(
        rank=rank.rank,
        profile=rank,
        kernels=kernels,
        computing_rows=rows,
        launch_ns=_launches(rank, kernels.start_ns[rows]),
        communications=communications,
        windows=windows,
        computing=computing,
        communicating=communication,
        copying=copies,
        steps=steps,
        host=host,
        has_host=any(track.kind in (TrackKind.HOST, TrackKind.CANN) for track in rank.tracks),
    )


def _summed_case(
    rank: RankProfile, told: Sequence[CommunicationTime], copies: Intervals, progress: Progress
) -> RankCase:
    """A rank of whose steps only the vendor's sums are known."""
    return RankCase(
        rank=rank.rank,
        profile=rank,
        kernels=None,
        computing_rows=NOTHING[0],
        launch_ns=NOTHING[0],
        communications=[device_communication(one.op, one.start_ns, one.end_ns, one, {}) for one in told],
        windows=[],
        computing=NOTHING,
        communicating=NOTHING,
        copying=copies,
        steps=_summed_steps(rank, progress),
    )


def _kept_share(windows: Sequence[StepWindow], steps: Sequence[StepTimes], computing: Intervals) -> float | None:
    """
    How much of the computing that the vendor sums up the kernels of the same steps take; `None` where nothing tells.

    The table of whole steps takes all of it, to a few nanoseconds a kernel.
    """
    summed = {step.step: step.computing_ns or 0 for step in steps}
    both = [window for window in windows if summed.get(window.number)]
    if not both:
        return None
    own = sum(interval_total(*intervals_within(computing, window.start_ns, window.end_ns)) for window in both)
    return own / sum(summed[window.number] for window in both)


def case_at_step(case: RankCase, number: int) -> RankCase:
    """
    What of `case` is of the step `number`: what starts in it, and of what computes or moves what lies in it.

    Raises `InputError` for a step that was not measured.
    """
    windows = [window for window in case.windows if window.number == number]
    if not windows:
        have = ", ".join(str(window.number) for window in case.windows[:10] if window.number is not None)
        remedy = Sentence("it has {}", (have,)) if have else Sentence("it doesn't tell steps apart")
        raise InputError("rank {} has no step {}", case.rank, number, remedy=remedy)
    span = (np.array([windows[0].start_ns]), np.array([windows[0].end_ns]))
    rows, launches = case.computing_rows, case.launch_ns
    if case.kernels is not None:
        start = case.kernels.start_ns[rows]
        inside = (start >= windows[0].start_ns) & (start < windows[0].end_ns)
        rows, launches = rows[inside], launches[inside]
    return replace(
        case,
        computing_rows=rows,
        launch_ns=launches,
        communications=[one for one in case.communications if windows[0].start_ns <= one.start_ns < windows[0].end_ns],
        windows=windows,
        computing=interval_intersection(case.computing, span),
        communicating=interval_intersection(case.communicating, span),
        copying=interval_intersection(case.copying, span),
        steps=[step for step in case.steps if step.step == number],
        cut=True,
    )


def _traced_case(rank: RankProfile, copies: Intervals, progress: Progress) -> RankCase | None:
    """
    A rank without a kernel table, by its trace: kernels are what its streams run, and what computes is told by these
    and by the profiler's own analysis of overlap.
    """
    kernels = _traced_kernels(rank)
    computing = _slices_of(rank, TrackKind.OVERLAP, lambda track, _: track == "Computing")
    if kernels is not None:
        ends = kernels.start_ns + kernels.duration_ns
        computing = interval_union(
            np.concatenate([computing[0], kernels.start_ns]), np.concatenate([computing[1], ends])
        )
    if not len(computing[0]):
        return None
    communications = sorted(traced_communications(rank), key=lambda one: one.start_ns)
    starts = np.array([one.start_ns for one in communications], dtype=np.int64)
    ends = np.array([one.end_ns for one in communications], dtype=np.int64)
    first = min(int(computing[0][0]), int(starts.min(initial=computing[0][0])))
    last = max(int(computing[1][-1]), int(ends.max(initial=0)))
    spans = step_spans(rank, progress)
    begins = [span.start_ns for span in spans] or [first]
    stops = [*begins[1:], max(last, spans[-1].end_ns) if spans else last]
    return RankCase(
        rank=rank.rank,
        profile=rank,
        kernels=kernels,
        computing_rows=NOTHING[0] if kernels is None else np.arange(len(kernels), dtype=np.int64),
        launch_ns=NOTHING[0] if kernels is None else _launches(rank, kernels.start_ns),
        communications=communications,
        windows=[
            StepWindow(spans[place].number if spans else None, begin, stop, stop)
            for place, (begin, stop) in enumerate(zip(begins, stops, strict=True))
            if stop > begin
        ],
        computing=computing,
        communicating=interval_union(starts, ends),
        copying=copies,
        steps=_summed_steps(rank, progress),
        host=_host_events(rank),
        has_host=any(track.kind in (TrackKind.HOST, TrackKind.CANN) for track in rank.tracks),
    )


def _traced_kernels(rank: RankProfile) -> Kernels | None:
    """The kernels on the streams of a trace, in order of start; their category is their core where it names one."""
    parts: list[tuple[Int64s, Int64s, Int64s]] = []
    names: list[DictionaryArray] = []
    cores: list[DictionaryArray] = []
    for track in rank.tracks:
        if track.kind is not TrackKind.STREAM:
            continue
        slices = rank.slices(track.id)
        tasks = {
            code
            for code in np.unique(slices.name).tolist()
            if _TASKS.search(slices.names[code]) or _NO_KERNELS.fullmatch(slices.names[code])
        }
        rows = np.flatnonzero((slices.depth == 0) & ~np.isin(slices.name, list(tasks)))
        number = np.full(len(rows), track.id, dtype=np.int64)
        parts.append((slices.start_ns[rows], slices.duration_ns[rows], number))
        names.append(_texts(slices.name[rows], slices.names))
        cores.append(_texts(slices.category[rows], slices.categories))
    if not any(map(len, names)):
        return None
    start, duration, stream = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(start, kind="stable")
    unknown = np.full(len(order), -1, dtype=np.int64)
    blank = DictionaryArray(np.zeros(len(order), dtype=np.int32), ["N/A"])
    named = dictionary_encoded(take_rows(concatenate_texts(names), order))
    typed = concatenate_texts([DictionaryArray(named.codes, [type_of_kernel(name) or name for name in named.values])])
    return Kernels(
        start[order], duration[order], unknown, unknown, stream[order], unknown, named, typed,
        take_rows(concatenate_texts(cores), order), *(blank,) * 4, {},
    )  # fmt: skip


def _texts(codes: NDArray[np.int32], values: Sequence[str]) -> DictionaryArray:
    """The texts at `codes` of `values`, of which only these are looked at."""
    used, own = distinct(codes)
    return DictionaryArray(own.astype(np.int32), [values[code] for code in used.tolist()])


def _slices_of(rank: RankProfile, kind: TrackKind, wanted: Callable[[str, str], bool]) -> Intervals:
    """All slices of tracks of `kind` for whose thread and name `wanted` says yes, as disjoint intervals."""
    starts, ends = [], []
    for track in rank.tracks:
        if track.kind is kind:
            slices = rank.slices(track.id)
            codes = [code for code in np.unique(slices.name).tolist() if wanted(track.thread, slices.names[code])]
            rows = np.isin(slices.name, codes)
            starts.append(slices.start_ns[rows])
            ends.append(slices.start_ns[rows] + slices.duration_ns[rows])
    # Copies that follow each other stay apart: computing may wait for the first of them alone.
    return interval_union(np.concatenate(starts), np.concatenate(ends), keep_touching=True) if starts else NOTHING


def _kinds_of(kernels: Kernels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which kernels communicate, and which only wait or copy."""
    cores, types = dictionary_encoded(kernels.core), dictionary_encoded(kernels.type)
    core = np.array([text.upper() in _COLLECTIVE_CORES for text in cores.values], dtype=bool)
    named = np.array([text.startswith("hcom_") for text in types.values], dtype=bool)
    waits = np.array([bool(_WAITING.fullmatch(text)) for text in types.values], dtype=bool)
    return core[cores.codes] | named[types.codes], waits[types.codes]


def _windows(rank: RankProfile, kernels: Kernels, progress: Progress) -> list[StepWindow]:
    spans = step_spans(rank, progress)
    first = int(kernels.start_ns.min())
    last = int((kernels.start_ns + kernels.duration_ns).max())
    if not spans:
        return [StepWindow(None, first, last, last)]
    marked = not (kernels.step >= 0).any()
    # Marks of the host are not kernels: a step then is what lies between two marks.
    ends = [span.start_ns for span in spans[1:]] + [max(spans[-1].end_ns, last) if marked else spans[-1].end_ns]
    return [
        StepWindow(span.number, span.start_ns, end, min(span.end_ns, end))
        for span, end in zip(spans, ends, strict=True)
        if end > span.start_ns
    ]


def _copies(rank: RankProfile) -> Intervals:
    """Copies between host and device on the streams of the trace."""
    return _slices_of(rank, TrackKind.STREAM, lambda _, name: bool(_COPY.search(name)))


def _host_events(rank: RankProfile) -> dict[str, Intervals]:
    events = table("memplan.findings", "host_events.json")
    kinds = {
        kind: [re.compile(pattern, re.IGNORECASE) for pattern in entry["patterns"]] for kind, entry in events.items()
    }
    found: dict[str, list[tuple[Int64s, Int64s]]] = {kind: [] for kind in (*kinds, CALLS)}
    for track in rank.tracks:
        if track.kind not in (TrackKind.HOST, TrackKind.CANN):
            continue
        slices = rank.slices(track.id)
        if track.kind is TrackKind.CANN:
            found[CALLS].append((slices.start_ns, slices.start_ns + slices.duration_ns))
        used = [(code, slices.names[code]) for code in np.unique(slices.name).tolist()]
        for kind, patterns in kinds.items():
            codes = [code for code, name in used if any(pattern.search(name) for pattern in patterns)]
            if codes or (kind == "garbage" and track.process == "GC"):
                rows = np.isin(slices.name, codes) if codes else np.ones(len(slices), dtype=bool)
                found[kind].append((slices.start_ns[rows], slices.start_ns[rows] + slices.duration_ns[rows]))
            if codes and (bounds := events[kind].get("until")) is not None:
                found[kind].append(_enclosed(slices, dict(used), events[kind]["from"], bounds))
    return {
        kind: interval_union(np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
        for kind, parts in found.items()
        if parts
    }


def _enclosed(slices: Slices, names: Mapping[int, str], begin: str, end: str) -> Intervals:
    """
    From each slice whose name holds `begin` to the end of the next one that holds `end`, on one track.

    One after which another begins first was never ended.
    """
    first, last = (
        np.flatnonzero(np.isin(slices.name, [code for code, name in names.items() if re.search(pattern, name)]))
        for pattern in (begin, end)
    )
    starts, ends = np.sort(slices.start_ns[first]), np.sort(slices.start_ns[last] + slices.duration_ns[last])
    place = np.searchsorted(ends, starts, side="left")
    known = place < len(ends)
    known[:-1] &= place[:-1] < place[1:]
    return starts[known], ends[place[known]]


def _launches(rank: RankProfile, starts: Int64s) -> Int64s:
    """When the host launched the kernels that start at `starts`, -1 where the trace has no arrow to one."""
    timeline = rank.timeline()
    found = np.full(len(starts), -1, dtype=np.int64)
    if timeline is None:
        return found
    for category in ("async_npu", "HostToDevice"):  # the launch itself goes before the framework's call
        ends, begins = timeline.launches(category)
        if len(ends):
            place = np.minimum(np.searchsorted(ends, starts), len(ends) - 1)
            near = np.abs(ends[place] - starts) <= 1000
            found = np.where(near, begins[place], found)
    return found
