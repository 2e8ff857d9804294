"""
Ops in a trace of torch.profiler (Kineto) as kernels, where the run had no device.

The trace nests ops in one another: `aten::linear` calls `aten::addmm`. What works is an op that calls none, views and
allocations aside; what works and has some memory filled or copied for it keeps what remains of its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from memplan.core.progress import Progress
from memplan.core.resources import table
from memplan.traces.profile import Kernels, Track, TrackKind
from memplan.traces.readers.host_ops import host_kernels
from memplan.traces.timeline.query import TimelineQuery

_OP = re.compile(r"(\w+)::(\w+)")
_CATEGORY = "cpu_op"
_DEVICE = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_NOTHING = "N/A"


@dataclass(frozen=True, slots=True)
class _OpKinds:
    """Names of ops: that do nothing with data, that only call others, that serve others; and of dtypes."""

    nothing: frozenset[str]
    wrappers: frozenset[str]
    helpers: frozenset[str]
    regions: frozenset[str]
    dtypes: Mapping[str, str]


@cache
def _op_kinds() -> _OpKinds:
    found = table("memplan.traces.readers", "torch_ops.json")
    return _OpKinds(
        frozenset(found["nothing"]),
        frozenset(found["wrappers"]),
        frozenset(found["helpers"]),
        frozenset(found["namespaces_of_regions"]),
        found["dtypes"],
    )


@dataclass(slots=True)
class _Open:
    """An op whose end is not reached: its row, its end, time of what it called that works, and whether any did."""

    row: int
    name: str
    end_ns: int
    called_ns: int = 0
    calls: bool = False
    helped: bool = False


def kineto_kernels(timeline: TimelineQuery, progress: Progress) -> Kernels | None:
    """The ops of host threads in order of start; `None` where there are none or a device ran its own kernels."""
    rows: list[tuple[int, int, int, str, str, str]] = []
    hosts = [track for track in timeline.tracks if track.kind is TrackKind.HOST]
    if any(track.kind in (TrackKind.STREAM, TrackKind.COMMUNICATION) for track in timeline.tracks):
        return None
    for number, track in enumerate(hosts):
        progress(number, len(hosts), "ops")
        found = _track_rows(timeline, track, number)
        if found is None:
            return None
        rows += found
    if not rows:
        return None
    rows.sort(key=lambda row: row[0])
    starts, durations, threads, names, shapes, dtypes = (list(column) for column in zip(*rows, strict=True))
    return host_kernels(starts, durations, threads, names, names, shapes, dtypes)


def _track_rows(timeline: TimelineQuery, track: Track, thread: int) -> list[tuple[int, int, int, str, str, str]] | None:
    """Start, duration, thread, name, shapes and dtypes of ops that work; `None` where a device's kernels are here."""
    slices = timeline.slices(track.id, None, None)
    categories = {slices.categories[code] for code in np.unique(slices.category).tolist()}
    if categories & _DEVICE:
        return None
    if _CATEGORY not in categories:
        return []
    ops = [code for code in np.unique(slices.category).tolist() if slices.categories[code] == _CATEGORY]
    chosen = np.flatnonzero(np.isin(slices.category, ops))
    start, end = slices.start_ns[chosen], slices.start_ns[chosen] + slices.duration_ns[chosen]
    order = chosen[np.lexsort((-end, start))]
    names = [slices.names[code] for code in slices.name[order].tolist()]
    begins = slices.start_ns[order].tolist()
    ends = (slices.start_ns[order] + slices.duration_ns[order]).tolist()
    found = []
    for place, duration in _working(names, begins, ends):
        arguments = timeline.arguments_of_row(track.id, int(order[place]))
        shapes, dtypes = _operands(arguments)
        found.append((begins[place], duration, thread, names[place], shapes, dtypes))
    return found


def _working(names: Sequence[str], begins: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places of ops that work themselves and the time they take; ops are in order of start, callers before called."""
    kinds = _op_kinds()
    stack: list[_Open] = []

    def closed() -> Iterator[tuple[int, int]]:
        op = stack.pop()
        caller = stack[-1] if stack else None
        namespace, name = _parts(op.name)
        idle = name in kinds.nothing or name in kinds.wrappers or (op.helped and name in kinds.helpers)
        works = bool(name) and namespace not in kinds.regions and not idle and not op.calls
        if works:
            whole = ends[op.row] - begins[op.row]
            yield op.row, max(whole - op.called_ns, 0)
        if caller is not None:
            caller.called_ns += ends[op.row] - begins[op.row] if works else op.called_ns
            helper = works and name in kinds.helpers
            caller.calls |= op.calls or (works and not helper)
            caller.helped |= op.helped or helper

    for place, name in enumerate(names):
        while stack and begins[place] >= stack[-1].end_ns:
            yield from closed()
        stack.append(_Open(place, name, ends[place]))
    while stack:
        yield from closed()


@cache
def _parts(name: str) -> tuple[str, str]:
    """`aten::mm` as its namespace and op; two empty texts for what is no op."""
    match = _OP.fullmatch(name)
    return (match[1], match[2]) if match else ("", "")


def _operands(arguments: Mapping[str, object]) -> tuple[str, str]:
    """Shapes and dtypes of tensors among the inputs, as a kernel table writes them."""
    dims, types = arguments.get("Input Dims"), arguments.get("Input type")
    if not isinstance(dims, list) or not isinstance(types, list):
        return _NOTHING, _NOTHING
    known = _op_kinds().dtypes
    shapes, dtypes = [], []
    for shape, kind in zip(dims, types, strict=False):
        for one, name in _tensors(shape, str(kind)):
            if name in known:
                shapes.append(",".join(str(int(size)) for size in one if isinstance(size, int | float)))
                dtypes.append(known[name])
    return ";".join(shapes) or _NOTHING, ";".join(dtypes) or _NOTHING


def _tensors(shape: object, kind: str) -> Iterator[tuple[list[object], str]]:
    """A tensor's shape, or those of a list of tensors, whose dtypes the trace leaves out."""
    if not isinstance(shape, list):
        return
    if any(isinstance(item, list) for item in shape):
        yield from ((item, "float") for item in shape if isinstance(item, list))
    else:
        yield shape, kind
