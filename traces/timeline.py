"""Tracks of a rank's timeline: sorted slices, counter series and flows, made from the events of its trace files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.traces.events import FLOW_START, Events
from memplan.traces.nesting import nest
from memplan.traces.profile import Floats, Int64s, Track, TrackKind

Int32s = NDArray[np.int32]

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


@dataclass(frozen=True, slots=True)
class SliceColumns:
    """
    All slices sorted by track and start; track `t` owns rows `bounds[t]` to `bounds[t + 1]`.

    `reach_ns` and `covered_ns` are as `memplan.traces.nesting.nest` makes them.
    """

    bounds: Int64s
    start_ns: Int64s
    duration_ns: Int64s
    name: Int32s
    category: Int32s
    depth: NDArray[np.int16]
    reach_ns: Int64s
    covered_ns: Int64s
    arguments_at: Int64s
    arguments_size: Int32s


@dataclass(frozen=True, slots=True)
class CounterColumns:
    """Samples sorted by series and time; series `s` owns rows `bounds[s]` to `bounds[s + 1]` and belongs to a track."""

    bounds: Int64s
    time_ns: Int64s
    value: Floats
    series: Sequence[tuple[int, str, str]]  # track, name, unit


@dataclass(frozen=True, slots=True)
class FlowColumns:
    """Arrows from start to end, sorted by source track and time."""

    source_track: Int32s
    source_ns: Int64s
    target_track: Int32s
    target_ns: Int64s
    category: Int32s


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that the trace files of a rank hold."""

    tracks: Sequence[Track]
    strings: Sequence[str]
    slices: SliceColumns
    counters: CounterColumns
    flows: FlowColumns


@dataclass(frozen=True, slots=True)
class _Labels:
    """Names and sort positions of processes and threads, from the trace's metadata events."""

    processes: Mapping[str, str]
    threads: Mapping[tuple[str, str], str]
    process_order: Mapping[str, int]
    thread_order: Mapping[tuple[str, str], int]


def build(events: Events, types: Mapping[str, str]) -> Timeline:
    """The timeline of one rank; `types`, the op type of kernels by name, becomes the category of device slices."""
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
    slices, strings = _slices(events, track_of, tracks, types)
    counters = _counters(events, labels, tracks)
    return Timeline(tracks, strings, slices, counters, _flows(events, track_of))


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


def _slices(
    events: Events, track_of: Int32s, tracks: Sequence[Track], types: Mapping[str, str]
) -> tuple[SliceColumns, list[str]]:
    rows = events.slices
    track = track_of[rows.thread]
    order = np.lexsort((-rows.duration_ns, rows.start_ns, track))
    bounds = np.zeros(len(tracks) + 1, dtype=np.int64)
    np.cumsum(np.bincount(track, minlength=len(tracks)), out=bounds[1:])
    start, duration = rows.start_ns[order], rows.duration_ns[order]
    depth = np.empty(len(order), dtype=np.int16)
    reach, covered = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    nest(start, duration, bounds, depth, reach, covered)
    strings = list(events.strings)
    name, category = rows.name[order], rows.category[order]
    _apply_types(strings, name, category, bounds, tracks, types)
    columns = SliceColumns(
        bounds, start, duration, name, category, depth, reach, covered,
        rows.arguments_at[order], rows.arguments_size[order],
    )  # fmt: skip
    return columns, strings


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
    keys = np.stack([rows.thread.astype(np.int64), rows.name, rows.key, rows.instance], axis=1)
    distinct, series_of = np.unique(keys, axis=0, return_inverse=True) if len(keys) else (keys, rows.thread)
    series_of = series_of.reshape(-1)
    order = np.lexsort((rows.time_ns, series_of))
    counts = np.bincount(series_of, minlength=len(distinct)) if len(keys) else np.zeros(0, dtype=np.int64)
    listed = []
    for number, (thread, name, key, instance) in enumerate(distinct.tolist()):
        pid = events.threads[thread][0]
        process = labels.processes.get(pid) or f"process {pid}"
        text = events.strings[name]
        series, unit = _series(text, events.strings[key], instance)
        listed.append(((labels.process_order.get(pid, _LAST), process, text), number, series, unit))
    listed.sort(key=lambda entry: entry[0])
    series_list: list[tuple[int, str, str]] = []
    parts: list[Int64s] = []
    bounds = [0]
    starts = np.concatenate(([0], np.cumsum(counts)))
    current: tuple[int, str, str] | None = None
    for group, number, series, unit in listed:
        if group != current:
            current = group
            tracks.append(Track(len(tracks), TrackKind.COUNTER, group[1], group[2], 0))
        last = tracks[-1]
        tracks[-1] = Track(last.id, last.kind, last.process, last.thread, last.count + int(counts[number]))
        series_list.append((last.id, series, unit))
        parts.append(order[starts[number] : starts[number + 1]])
        bounds.append(bounds[-1] + int(counts[number]))
    picked = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    return CounterColumns(np.array(bounds, dtype=np.int64), rows.time_ns[picked], rows.value[picked], series_list)


def _series(counter: str, key: str, instance: int) -> tuple[str, str]:
    """Name and unit of a series: units stand in the key (`Read(MB/s)`) or are the key (`KB`)."""
    match = _UNIT.fullmatch(key)
    name, unit = (match.group(1).strip(), match.group(2)) if match else (key, "")
    if key in _UNITS:
        name, unit = counter, key
    elif key == "value" or not name:
        name = counter
    return (name if instance < 0 else f"{name} {instance}"), unit


def _flows(events: Events, track_of: Int32s) -> FlowColumns:
    """
    Arrows between the ends that share a category and an id.

    With one start, it leads to every end, whatever their times (clocks of host and device disagree a little); where
    ids are used again, each end belongs to the latest start before it.
    """
    rows = events.flows
    order = np.lexsort((rows.phase, rows.time_ns, rows.id, rows.category))
    category, flow = rows.category[order], rows.id[order]
    starts = rows.phase[order] == FLOW_START
    position = np.arange(len(order))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (category[1:] != category[:-1]) | (flow[1:] != flow[:-1])
    group = np.cumsum(begins) - 1
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
    return FlowColumns(
        source_track[by_source],
        rows.time_ns[source][by_source],
        target_track[by_source],
        rows.time_ns[arrows][by_source],
        rows.category[arrows][by_source],
    )
