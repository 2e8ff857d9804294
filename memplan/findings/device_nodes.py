"""What a rank's device ran as nodes in time, and what each of them waited for: the edges of the critical path."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.findings.finding import threshold
from memplan.findings.rank_case import NOTHING, RankCase


class NodeKind(IntEnum):
    """What a node is: a computing kernel, a communication, a copy between host and device."""

    KERNEL, COMMUNICATION, COPY = range(3)


@dataclass(frozen=True, slots=True)
class DeviceNodes:
    """
    The nodes of a rank in order of start, ns of its clock.

    `row` is the place among the rank's computing kernels, communications or copies. `before` is the node whose end the
    start of each waited for, itself or through the host; -1 where the profile shows none.
    """

    start_ns: Int64s
    end_ns: Int64s
    kind: NDArray[np.int8]
    row: Int64s
    before: Int64s


def device_nodes(case: RankCase) -> DeviceNodes:
    """
    The nodes of `case` with what each waited for.

    A kernel that starts within `stream_gap_ns` after the one before it on its stream waited for that. Else it waited
    for the host where that launched it after everything before it had ended; the host in turn had last waited for the
    device where a synchronising call came back. Else it waited for what ended last, on whichever stream: events between
    streams leave no trace of their own. Sources: stream order and events of the runtime; HTA's critical path analysis
    takes the same edges.
    """
    starts, ends, kinds, rows, streams, launches = _gathered(case)
    order = np.lexsort((ends, starts))
    start, end, kind, row = starts[order], ends[order], kinds[order], rows[order]
    stream, launch = streams[order], launches[order]
    by_end = np.argsort(end, kind="stable")
    ended = end[by_end]

    def latest(times: Int64s) -> Int64s:
        place = np.searchsorted(ended, times, side="right") - 1
        return np.where(place >= 0, by_end[np.maximum(place, 0)], -1) if len(ended) else np.full(len(times), -1)

    def when(nodes: Int64s) -> Int64s:
        """Ends of nodes; long ago where there is none."""
        return np.where(nodes >= 0, end[np.maximum(nodes, 0)], np.int64(-1) << 62) if len(end) else nodes

    before = latest(start)
    same = _same_stream(stream, start, end)
    close = start - when(same) <= threshold("stream_gap_ns")
    before = np.where(close, same, before)
    late = ~close & (launch >= 0) & (launch > when(before))
    calls = case.host.get("synchronise", NOTHING)[1]
    if len(calls):
        place = np.searchsorted(calls, launch, side="right") - 1
        waited = np.where(place >= 0, latest(calls[np.maximum(place, 0)]), -1)
        before = np.where(late & (when(waited) < when(before)), waited, before)
    return DeviceNodes(start, end, kind, row, before.astype(np.int64))


def _gathered(case: RankCase) -> tuple[Int64s, ...]:
    """Starts, ends, kinds, rows, streams and launches of all nodes that take any time."""
    rows = case.computing_rows
    parts: list[tuple[Int64s, ...]] = []
    if case.kernels is not None:
        begin = case.kernels.start_ns[rows]
        parts.append((begin, begin + case.kernels.duration_ns[rows], case.kernels.stream[rows], case.launch_ns))
    else:
        parts.append((*case.computing, *(np.full(len(case.computing[0]), -1, dtype=np.int64),) * 2))
    for place, spans in enumerate(
        (
            np.fromiter(
                chain.from_iterable((one.start_ns, one.end_ns) for one in case.communications), dtype=np.int64
            ).reshape(-1, 2),  # a list of so many would be copied in one go, with the interpreter's lock held
            np.array(case.copying, dtype=np.int64).T.reshape(-1, 2),
        )
    ):
        unknown = np.full(len(spans), -1, dtype=np.int64)
        parts.append((spans[:, 0], spans[:, 1], unknown - 2 - place, unknown))
    start, end, stream, launch = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    counts = [len(part[0]) for part in parts]
    kind = np.concatenate([np.full(count, place, dtype=np.int8) for place, count in enumerate(counts)])
    row = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    lasts = end > start
    return start[lasts], end[lasts], kind[lasts], row[lasts], stream[lasts], launch[lasts]


def _same_stream(stream: Int64s, start: Int64s, end: Int64s) -> Int64s:
    """The node before each on its stream, -1 where there is none or it has not ended yet; communications have none."""
    found = np.full(len(start), -1, dtype=np.int64)
    for number in np.unique(stream).tolist():
        nodes = np.flatnonzero(stream == number)
        if number >= -1:
            found[nodes[1:]] = nodes[:-1]
    ended = np.where(found >= 0, end[np.maximum(found, 0)] <= start, False) if len(end) else np.zeros(0, dtype=bool)
    return np.where(ended, found, -1)
