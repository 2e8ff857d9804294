"""
Memory snapshots of torch_npu (`torch_npu.npu.memory._dump_snapshot`): a pickle of segments and allocator events.

Events without `time_us` are numbered instead, 1 ns apart; a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.core.once import Once
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, FailedAllocation, MemoryCurve, MemorySegments
from memplan.traces.rank import RankReader
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events
from memplan.traces.readers.plain_pickle import load_plain

_ALLOCATES = {"alloc": True, "free_completed": False}
NUMBERED = "its events have no times; they are numbered"
"""What is noted of a snapshot whose times are the numbers of its events."""
_RESERVES = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


class SnapshotReader(RankReader):
    """Reads one snapshot; the pool of the first device is `PTA`, others carry their device in the name."""

    def __init__(self, path: Path, notes: Notebook, logs: Sequence[Path] = ()) -> None:
        super().__init__(notes, logs=logs)
        self._path = path
        self._content = Once(self._read)

    def _read(self, progress: Progress) -> tuple[list[Mapping[str, Any]], list[list[Mapping[str, Any]]]]:
        """Segments, and the events of each device."""
        progress(0, 1, self._path.name)
        value = load_plain(self._path)
        if not isinstance(value, dict) or not isinstance(value.get("segments"), list):
            raise InputError("is a pickle, but no memory snapshot", path=self._path)
        traces = value.get("device_traces")
        traces = traces if isinstance(traces, list) else []
        if sum(len(trace) for trace in traces if isinstance(trace, list)) > self._path.stat().st_size:
            raise InputError("repeats its events more often than a snapshot can", path=self._path)
        events: list[list[Mapping[str, Any]]] = [
            [event for event in trace if isinstance(event, dict)] for trace in traces if isinstance(trace, list)
        ]
        return [segment for segment in value["segments"] if isinstance(segment, dict)], events

    def device(self, progress: Progress) -> str:
        return next((f"NPU:{device}" for device, events in enumerate(self._content(progress)[1]) if events), "")

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        found: dict[str, MemoryCurve] = {}
        segments, traces = self._content(progress)
        for device, events in enumerate(traces):
            if events:
                name = f"PTA NPU:{device}" if "PTA" in found else "PTA"
                found[name] = self._curve(device, events, segments)
        return found or self._moment(segments)

    def _moment(self, segments: Sequence[Mapping[str, Any]]) -> dict[str, MemoryCurve]:
        """What a snapshot without events holds: one sample of each device."""
        found: dict[str, MemoryCurve] = {}
        for device in sorted({_whole(segment.get("device")) for segment in segments}):
            name = f"PTA NPU:{device}" if "PTA" in found else "PTA"
            # One made-up event that moves nothing: the curve counts back from the segments.
            found[name] = self._curve(device, [{"time_us": 0}], segments)
        if found:
            self._notes.tell(self._path, "no history was recorded (record_memory_history): only its moment is known")
        return found

    def _curve(
        self, device: int, events: Sequence[Mapping[str, Any]], segments: Sequence[Mapping[str, Any]]
    ) -> MemoryCurve:
        """Running totals, counted back from what the segments hold at the end: the oldest events may be lost."""
        allocated = np.zeros(len(events), dtype=np.int64)
        reserved = np.zeros(len(events), dtype=np.int64)
        for row, event in enumerate(events):
            size, action = _whole(event.get("size")), event.get("action")
            if action in _ALLOCATES:
                allocated[row] = size if _ALLOCATES[action] else -size
            reserved[row] = _RESERVES.get(str(action), 0) * size
        own = [segment for segment in segments if segment.get("device") == device]
        allocated, reserved = np.cumsum(allocated), np.cumsum(reserved)
        allocated += sum(_whole(segment.get("allocated_size")) for segment in own) - allocated[-1]
        reserved += sum(_whole(segment.get("total_size")) for segment in own) - reserved[-1]
        if allocated.min() < 0 or reserved.min() < 0:
            self._notes.add(
                self._path, Sentence("device {}: events and segments don't add up; totals begin at zero", (device,))
            )
            allocated, reserved = allocated - min(allocated.min(), 0), reserved - min(reserved.min(), 0)
        return MemoryCurve("PTA", f"NPU:{device}", self._times(events), allocated, reserved, None)

    def _times(self, events: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        if all(isinstance(event.get("time_us"), int) for event in events):
            times = (min(event["time_us"], 2**53) * 1000 for event in events)
            return np.fromiter(times, dtype=np.int64, count=len(events))  # a list would be copied in one go
        self._notes.tell(self._path, NUMBERED)
        return np.arange(len(events), dtype=np.int64)

    def allocations(self, progress: Progress) -> Allocations | None:
        found, lost = allocations_of_events(self._block_events(progress))
        if lost:
            self._notes.tell(
                self._path,
                Sentence("{} [release|releases] of blocks that were allocated before the snapshot's events", (lost,)),
            )
        return found if len(found) else None

    def _block_events(self, progress: Progress) -> Iterator[BlockEvent]:
        for device, trace in enumerate(self._content(progress)[1]):
            for event, time in zip(trace, self._times(trace) if trace else (), strict=True):
                action = event.get("action")
                if action in _ALLOCATES:
                    size = _whole(event.get("size")) if _ALLOCATES[action] else None
                    yield BlockEvent(int(time), "PTA", str(device), _whole(event.get("addr")), size, _frame(event))

    def failures(self, progress: Progress) -> Sequence[FailedAllocation]:
        segments, traces = self._content(progress)
        found = []
        for device, events in enumerate(traces):
            rows = [row for row, event in enumerate(events) if event.get("action") == "oom"]
            if not rows:
                continue
            curve = self._curve(device, events, segments)
            for row in rows:
                free = events[row].get("device_free")
                found.append(
                    FailedAllocation(
                        int(curve.time_ns[row]), f"NPU:{device}", _whole(events[row].get("size")) or None,
                        _whole(free) if free is not None else None, _at(curve.allocated, row), _at(curve.reserved, row),
                        None, _frame(events[row]), f"{self._path.name}, event {row}",
                    )
                )  # fmt: skip
        return [*found, *super().failures(progress)]

    def segments(self, progress: Progress) -> MemorySegments | None:
        segments = self._content(progress)[0]
        if not segments:
            return None
        names = self._names_by_address(progress)
        free, holders = [], []
        for segment in segments:
            blocks = [block for block in _list(segment.get("blocks")) if isinstance(block, dict)]
            kept = [block for block in blocks if str(block.get("state", "")).startswith("active")]
            free.append(max((_whole(block.get("size")) for block in blocks if block not in kept), default=0))
            largest = max(kept, key=lambda block: _whole(block.get("size")), default=None)
            holders.append("" if largest is None else _frame(largest) or names.get(_whole(largest.get("address")), ""))

        def column(key: str) -> Int64s:
            return np.array([_whole(segment.get(key)) for segment in segments], dtype=np.int64)

        expandable = np.array([segment.get("is_expandable") is True for segment in segments], dtype=bool)
        return MemorySegments(
            column("device"), column("address"), column("total_size"), column("allocated_size"),
            np.array(free, dtype=np.int64), expandable, holders,
        )  # fmt: skip

    def _names_by_address(self, progress: Progress) -> dict[int, str]:
        """Where the last block at each address was asked for."""
        return {
            _whole(event.get("addr")): _frame(event)
            for events in self._content(progress)[1]
            for event in events
            if event.get("action") == "alloc"
        }

    def tables(self) -> Sequence[str]:
        return ["segments", "blocks"]

    def table(self, name: str, progress: Progress) -> Mapping[str, Sequence[str]]:
        """`segments`, or the `blocks` in them with their addresses and states."""
        segments = self._content(progress)[0]
        if name == "segments":
            headers = ("device", "address", "total_size", "allocated_size", "active_size", "segment_type", "stream")
            return {header: [str(segment.get(header, "")) for segment in segments] for header in headers}
        if name != "blocks":
            raise KeyError(name)
        blocks = [
            (segment, block)
            for segment in segments
            for block in _list(segment.get("blocks"))
            if isinstance(block, dict)
        ]
        columns = {"device": [str(segment.get("device", "")) for segment, _ in blocks]}
        for header in ("address", "size", "requested_size", "state"):
            columns[header] = [str(block.get(header, "")) for _, block in blocks]
        return columns


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: object) -> int:
    """A size or address; 0 for anything else, and for numbers that are none."""
    return value if isinstance(value, int) and 0 <= value < 2**62 else 0


def _at(values: Int64s | None, row: int) -> int | None:
    return None if values is None else int(values[row])


def _frame(event: Mapping[str, Any]) -> str:
    """Where the event was asked for: the innermost frame that is not of an installed package, else the innermost."""
    frames = [frame for frame in _list(event.get("frames")) if isinstance(frame, dict)]
    own = (frame for frame in frames if "site-packages" not in str(frame.get("filename", "")))
    first = next(own, frames[0] if frames else None)
    if first is None:
        return ""
    return f"{first.get('filename', '')}:{first.get('line', '')} {first.get('name', '')}"[:400]
