"""Tracks of a rank's timeline: sorted slices, counter series and flows, made from the events of its trace files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from memplan.core.arrays import Int32s, Int64s
from memplan.core.distinct import distinct, running_count
from memplan.traces.profile import Track, TrackKind
from memplan.traces.timeline import nesting
from memplan.traces.timeline.columns import REACH_BLOCK, CounterColumns, FlowColumns, SliceColumns, TimelineColumns
from memplan.traces.timeline.events import FLOW_START, Events, FlowRows, SliceRows

_KINDS = {
    "cann": TrackKind.CANN,
    "scope layer": TrackKind.SCOPE,
    "step trace": TrackKind.SCOPE,
    "ascend hardware": TrackKind.STREAM,
    "task scheduler": TrackKind.STREAM,
    "hccl": TrackKind.COMMUNICATION,
    "communication": TrackKind.COMMUNICATION,
    "overlap analysis": TrackKind.OVERLAP,
}
_CANN_SLICE = re.compile(r"(?:AscendCL|Node|Model|Runtime|Communication|HCCL|ACL|PTA|GE)@")
_UNIT = re.compile(r"(.*)\(([^()]*)\)\s*")
_UNITS = frozenset({"KB", "MB", "GB", "MHz", "GHz", "B", "us", "ms", "%"})
_LAST = 1 << 40
_LARGE = 100_000
_MOST_CODES = 1 << 24


@dataclass(frozen=True, slots=True)
class _Labels:
    """Names and sort positions of processes and threads, from the trace's metadata events."""

    processes: Mapping[str, str]
    threads: Mapping[tuple[str, str], str]
    process_order: Mapping[str, int]
    thread_order: Mapping[tuple[str, str], int]


def build(
    events: Events | Callable[[], Events], types: Mapping[str, str], *, compiled: bool = False
) -> TimelineColumns:
    """
    The timeline of one rank; `types`, the op type of kernels by name, becomes the category of device slices.

    Columns are let go of as sorted ones are made of them, which takes that nobody else holds the events: of large ones,
    give what reads them.

    With `compiled`, and for large timelines always, the loops over slices are the compiled ones.
    """
    if not isinstance(events, Events):
        events = events()
    labels = _labels(events.metadata)
    slice_counts = np.bincount(events.slices.thread, minlength=len(events.threads))
    owners = [thread for thread, count in enumerate(slice_counts.tolist()) if count]
    unnamed = _unnamed_processes(events, labels)
    keyed = []
    for thread in owners:
        pid, tid = events.threads[thread]
        process = labels.processes.get(pid) or unnamed.get(pid) or f"process {pid}"
        name = labels.threads.get((pid, tid)) or f"thread {tid}"
        order = (
            labels.process_order.get(pid, _LAST),
            process,
            labels.thread_order.get((pid, tid), _LAST),
            name,
            pid,
            tid,
        )
        keyed.append((order, thread, _kind(process, name), process, name))
    keyed.sort(key=lambda entry: entry[0])
    tracks = [
        Track(number, kind, process, name, int(slice_counts[thread]))
        for number, (_, thread, kind, process, name) in enumerate(keyed)
    ]
    track_of = np.full(len(events.threads) + 1, -1, dtype=np.int32)
    for number, (_, thread, *_rest) in enumerate(keyed):
        track_of[thread] = number
    slice_tracks = list(tracks)
    strings = list(events.strings)
    columns = {field.name: getattr(events.slices, field.name) for field in fields(SliceRows)}
    # What is done with is let go of at once: of a trace of gigabytes, no column is held twice for long.
    counters = _counters(events, labels, tracks)
    flow_rows = events.flows
    del events
    if not len(flow_rows.id):
        slices = _slices(columns, track_of, slice_tracks, strings, types, compiled)
        return TimelineColumns(tracks, strings, slices, counters, _flows(flow_rows, track_of))
    from concurrent.futures import ThreadPoolExecutor  # which profiles without arrows don't need

    with ThreadPoolExecutor(1) as pool:
        flows = pool.submit(_flows, flow_rows, track_of)
        slices = _slices(columns, track_of, slice_tracks, strings, types, compiled)
        return TimelineColumns(tracks, strings, slices, counters, flows.result())


def _labels(metadata: Sequence[Mapping[str, object]]) -> _Labels:
    processes: dict[str, str] = {}
    threads: dict[tuple[str, str], str] = {}
    process_order: dict[str, int] = {}
    thread_order: dict[tuple[str, str], int] = {}
    for event in metadata:
        pid, tid = str(event.get("pid", "")), str(event.get("tid", ""))
        arguments = event.get("args")
        if not isinstance(arguments, dict):
            continue
        name, order = arguments.get("name"), arguments.get("sort_index")
        if event.get("name") == "process_name" and name is not None:
            processes[pid] = str(name)
        elif event.get("name") == "thread_name" and name is not None:
            threads[pid, tid] = str(name)
        elif event.get("name") == "process_sort_index" and isinstance(order, int):
            process_order[pid] = order
        elif event.get("name") == "thread_sort_index" and isinstance(order, int):
            thread_order[pid, tid] = order
    return _Labels(processes, threads, process_order, thread_order)


def _unnamed_processes(events: Events, labels: _Labels) -> dict[str, str]:
    """Names for processes without one, told by their slices: some producers leave the CANN layer's out."""
    nameless = {thread: pid for thread, (pid, _) in enumerate(events.threads) if not labels.processes.get(pid)}
    found = {}
    for thread, pid in nameless.items():
        rows = np.flatnonzero(events.slices.thread == thread)[:1].tolist() if pid not in found else []
        if any(_CANN_SLICE.match(events.strings[events.slices.name[row]]) for row in rows):
            found[pid] = "CANN"
    return found


def _kind(process: str, thread: str) -> TrackKind:
    if thread.startswith("Step Trace"):
        return TrackKind.SCOPE
    return _KINDS.get(process.lower(), TrackKind.HOST)


def _ends_fit(start: Int64s, duration: Int64s) -> bool:
    """Whether no start is negative and no sum of a start and a duration exceeds 64 bits."""
    return start.min(initial=0) >= 0 and int(start.max(initial=0)) + int(duration.max(initial=0)) < 2**63


def _slices(
    columns: dict[str, Any],
    track_of: Int32s,
    tracks: Sequence[Track],
    strings: list[str],
    types: Mapping[str, str],
    compiled: bool,
) -> SliceColumns:
    """Sort `columns` (those of `SliceRows`; emptied on the way) and add to `strings` the types that are new."""
    fill_nesting: Any = nesting.fill_nesting
    if compiled or len(columns["start_ns"]) > _LARGE:
        from memplan.traces.timeline.nesting_jit import fill_nesting_jit

        fill_nesting = fill_nesting_jit
    track = track_of[columns.pop("thread")]
    order, bounds = _ordered(track, columns["start_ns"], columns["duration_ns"], len(tracks))
    del track
    start, duration = columns.pop("start_ns")[order], columns.pop("duration_ns")[order]
    depth = np.empty(len(order), dtype=np.int16)
    reach, covered = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    arrays: tuple[Any, ...] = start, duration, bounds, depth, reach, covered, np.zeros(nesting.MOST_LANES, np.int64)
    if fill_nesting is nesting.fill_nesting and _ends_fit(start, duration):
        arrays = tuple(map(memoryview, arrays))  # their items are Python's own numbers: quicker one by one
    fill_nesting(*arrays)
    name, category = columns.pop("name")[order], columns.pop("category")[order]
    _apply_types(strings, name, category, bounds, tracks, types)
    arguments_at, arguments_size = columns.pop("arguments_at")[order], columns.pop("arguments_size")[order]
    del order
    starts = np.arange(0, len(start), REACH_BLOCK)
    block_end = np.maximum.reduceat(start + duration, starts) if len(start) else start
    return SliceColumns(
        bounds, start, duration, name, category, depth, reach, covered, arguments_at, arguments_size, block_end
    )


def _ordered(track: Int32s, start: Int64s, duration: Int64s | None, tracks: int) -> tuple[Int64s, Int64s]:
    """
    The order by track, start and (if given) descending duration, and where each track's rows begin and end in it.

    Files are mostly in order already, so only tracks that are not get sorted in earnest.
    """
    narrow = track.astype(np.int16) if tracks < 2**15 else track  # NumPy sorts 16 bits by radix
    order = np.argsort(narrow, kind="stable")
    bounds = np.zeros(tracks + 1, dtype=np.int64)
    np.cumsum(np.bincount(track, minlength=tracks), out=bounds[1:])
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = order[low:high]
        times = start[rows]
        if (times[1:] < times[:-1]).any():
            rows = rows[np.argsort(times, kind="stable")]
            times = start[rows]
        if duration is None:
            order[low:high] = rows
            continue
        lengths = duration[rows]
        tied = np.flatnonzero((times[1:] == times[:-1]) & (lengths[1:] > lengths[:-1]))
        if len(tied):
            ends = np.append(np.flatnonzero(times[1:] != times[:-1]), len(rows) - 1)
            run = np.unique(np.searchsorted(ends, tied))
            if len(run) > _LARGE:
                rows = rows[np.lexsort((-lengths, times))]
                run = run[:0]
            for number in run.tolist():
                span = slice(int(ends[number - 1]) + 1 if number else 0, int(ends[number]) + 1)
                rows[span] = rows[span][np.argsort(-duration[rows[span]], kind="stable")]
        order[low:high] = rows
    return order, bounds


def _apply_types(
    strings: list[str],
    name: Int32s,
    category: Int32s,
    bounds: Int64s,
    tracks: Sequence[Track],
    types: Mapping[str, str],
) -> None:
    """Set the category of device slices whose name is a kernel's to that kernel's type."""
    numbers = {text: number for number, text in enumerate(strings)}
    type_of = np.full(len(strings), -1, dtype=np.int32)
    for kernel, kernel_type in types.items():
        if kernel in numbers:
            if kernel_type not in numbers:
                numbers[kernel_type] = len(strings)
                strings.append(kernel_type)
            type_of[numbers[kernel]] = numbers[kernel_type]
    for track in tracks:
        if track.kind is TrackKind.STREAM:
            rows = slice(int(bounds[track.id]), int(bounds[track.id + 1]))
            known = type_of[name[rows]]
            category[rows] = np.where(known >= 0, known, category[rows])


def _counters(events: Events, labels: _Labels, tracks: list[Track]) -> CounterColumns:
    """Counter series, and appends one track for each counter to `tracks`."""
    rows = events.samples
    codes = rows.thread
    for part in (rows.name, rows.key, _compact(rows.instance)):
        codes = _paired(codes, part)
    count = int(codes.max()) + 1 if len(codes) else 0
    order, starts = _ordered(codes, rows.time_ns, None, count)
    del codes
    first = order[starts[:-1]]
    distinct = np.stack([rows.thread[first], rows.name[first], rows.key[first], rows.instance[first]], axis=1)
    counts = np.diff(starts)
    listed = []
    for number, (thread, name, key, instance) in enumerate(distinct.tolist()):
        pid = events.threads[thread][0]
        process = labels.processes.get(pid) or f"process {pid}"
        text = events.strings[name]
        series, unit = _series(text, events.strings[key], instance)
        listed.append(((labels.process_order.get(pid, _LAST), process, text), number, series, unit))
    listed.sort(key=lambda entry: entry[0])
    series_list: list[tuple[int, str, str]] = []
    bounds = [0]
    current: tuple[int, str, str] | None = None
    for group, number, series, unit in listed:
        if group != current:
            current = group
            tracks.append(Track(len(tracks), TrackKind.COUNTER, group[1], group[2], 0))
        last = tracks[-1]
        tracks[-1] = Track(last.id, last.kind, last.process, last.thread, last.count + int(counts[number]))
        series_list.append((last.id, series, unit))
        bounds.append(bounds[-1] + int(counts[number]))
    time, value = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.float64)
    for (_, number, _, _), (low, high) in zip(listed, pairwise(bounds), strict=True):
        picked = order[starts[number] : starts[number + 1]]
        time[low:high], value[low:high] = rows.time_ns[picked], rows.value[picked]
    return CounterColumns(np.array(bounds, dtype=np.int64), time, value, series_list)


def _compact(numbers: Int64s) -> Int32s:
    """Small numbers that are equal where `numbers` are, and in the same order."""
    if len(numbers) and int(numbers.max()) - int(numbers.min()) < _MOST_CODES:
        return np.asarray(numbers - numbers.min(), dtype=np.int32)
    return distinct(numbers)[1].astype(np.int32)


def _paired(first: Int32s, second: Int32s) -> Int32s:
    """Small numbers for the pairs of two columns, in order of the pairs."""
    if not len(first):
        return first
    width = int(second.max()) + 1
    if (int(first.max()) + 1) * width > _MOST_CODES:
        return _compact(first.astype(np.int64) * width + second)
    codes = first * np.int32(width)
    codes += second
    return distinct(codes)[1].astype(np.int32)


def _series(counter: str, key: str, instance: int) -> tuple[str, str]:
    """Name and unit of a series: units stand in the key (`Read(MB/s)`) or are the key (`KB`)."""
    match = _UNIT.fullmatch(key)
    name, unit = (match.group(1).strip(), match.group(2)) if match else (key, "")
    if key in _UNITS:
        name, unit = counter, key
    elif key == "value" or not name:
        name = counter
    return (name if instance < 0 else f"{name} {instance}"), unit


def _flows(rows: FlowRows, track_of: Int32s) -> FlowColumns:
    """
    Arrows between the ends that share a category and an id.

    With one start, it leads to every end, whatever their times (clocks of host and device disagree a little); where
    ids are used again, each end belongs to the latest start before it.
    """
    order = np.lexsort((rows.phase, rows.time_ns, rows.id, rows.category))
    category, flow = rows.category[order], rows.id[order]
    starts = rows.phase[order] == FLOW_START
    position = np.arange(len(order))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (category[1:] != category[:-1]) | (flow[1:] != flow[:-1])
    group = running_count(begins) - 1
    counts = np.bincount(group[starts], minlength=int(group[-1]) + 1 if len(group) else 0)
    only_start = np.full(len(counts), -1, dtype=np.int64)
    only_start[group[starts]] = position[starts]
    latest = np.maximum.accumulate(np.where(starts, position, -1)) if len(order) else position
    source = np.where(counts[group] == 1, only_start[group], latest) if len(order) else position
    ends = np.flatnonzero(~starts & (source >= 0))
    ends = ends[group[ends] == group[source[ends]]]
    arrows, source = order[ends], order[source[ends]]
    source_track, target_track = track_of[rows.thread[source]], track_of[rows.thread[arrows]]
    shown = (source_track >= 0) & (target_track >= 0)  # the rest start or end on threads without slices
    arrows, source, source_track, target_track = arrows[shown], source[shown], source_track[shown], target_track[shown]
    by_source = np.lexsort((rows.time_ns[source], source_track))
    target_track, target_ns = target_track[by_source], rows.time_ns[arrows][by_source]
    return FlowColumns(
        source_track[by_source],
        rows.time_ns[source][by_source],
        target_track,
        target_ns,
        rows.category[arrows][by_source],
        np.lexsort((target_ns, target_track)).astype(np.int32),
    )
