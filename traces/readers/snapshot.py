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
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events, rows_of
from memplan.traces.readers.plain_pickle import load_plain
from memplan.traces.readers.snapshot_events import (
    ALLOCATED,
    FAILED,
    RELEASED,
    RESERVED,
    RETURNED,
    SnapshotEvents,
    place_of,
    taken_events,
    whole,
)

NUMBERED = "its events have no times; they are numbered"
"""What is noted of a snapshot whose times are the numbers of its events."""


class SnapshotReader(RankReader):
    """Reads one snapshot; the pool of the first device is `PTA`, others carry their device in the name."""

    def __init__(self, path: Path, notes: Notebook, logs: Sequence[Path] = ()) -> None:
        super().__init__(notes, logs=logs)
        self._path = path
        self._content = Once(self._read)

    def _read(self, progress: Progress) -> tuple[list[Mapping[str, Any]], list[SnapshotEvents]]:
        """Segments, and the events of each device."""
        progress(0, 1, self._path.name)
        value = load_plain(self._path)
        if not isinstance(value, dict) or not isinstance(value.get("segments"), list):
            raise InputError("is a pickle, but no memory snapshot", path=self._path)
        found = value.get("device_traces")
        traces = [trace for trace in found if isinstance(trace, list)] if isinstance(found, list) else []
        if sum(len(trace) for trace in traces) > self._path.stat().st_size:
            raise InputError("repeats its events more often than a snapshot can", path=self._path)
        events: dict[int, SnapshotEvents] = {}
        for trace in traces:
            if id(trace) not in events:  # a trace that is there twice is empty by its second time
                events[id(trace)] = taken_events(trace)
        segments: list[Mapping[str, Any]] = [segment for segment in value["segments"] if isinstance(segment, dict)]
        return segments, [events[id(trace)] for trace in traces]

    def device(self, progress: Progress) -> str:
        return next((f"NPU:{device}" for device, events in enumerate(self._content(progress)[1]) if len(events)), "")

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        found: dict[str, MemoryCurve] = {}
        segments, traces = self._content(progress)
        for device, events in enumerate(traces):
            if len(events):
                name = f"PTA NPU:{device}" if "PTA" in found else "PTA"
                found[name] = self._curve(device, events, segments)
        return found or self._moment(segments)

    def _moment(self, segments: Sequence[Mapping[str, Any]]) -> dict[str, MemoryCurve]:
        """What a snapshot without events holds: one sample of each device."""
        found: dict[str, MemoryCurve] = {}
        for device in sorted({whole(segment.get("device")) for segment in segments}):
            name = f"PTA NPU:{device}" if "PTA" in found else "PTA"
            # One made-up event that moves nothing: the curve counts back from the segments.
            found[name] = self._curve(device, taken_events([{"time_us": 0}]), segments)
        if found:
            self._notes.tell(self._path, "no history was recorded (record_memory_history): only its moment is known")
        return found

    def _curve(self, device: int, events: SnapshotEvents, segments: Sequence[Mapping[str, Any]]) -> MemoryCurve:
        """Running totals, counted back from what the segments hold at the end: the oldest events may be lost."""

        def totals(up: int, down: int) -> Int64s:
            return np.cumsum(((events.action == up).astype(np.int64) - (events.action == down)) * events.size)

        own = [segment for segment in segments if segment.get("device") == device]
        allocated, reserved = totals(ALLOCATED, RELEASED), totals(RESERVED, RETURNED)
        allocated += sum(whole(segment.get("allocated_size")) for segment in own) - allocated[-1]
        reserved += sum(whole(segment.get("total_size")) for segment in own) - reserved[-1]
        if allocated.min() < 0 or reserved.min() < 0:
            self._notes.add(
                self._path, Sentence("device {}: events and segments don't add up; totals begin at zero", (device,))
            )
            allocated, reserved = allocated - min(allocated.min(), 0), reserved - min(reserved.min(), 0)
        return MemoryCurve("PTA", f"NPU:{device}", self._times(events), allocated, reserved, None)

    def _times(self, events: SnapshotEvents) -> Int64s:
        if events.time_ns is not None:
            return events.time_ns
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
        for device, events in enumerate(self._content(progress)[1]):
            columns = (self._times(events), events.action, events.size, events.address, events.place)
            for time, action, size, address, place in rows_of(columns):
                if action in (ALLOCATED, RELEASED):
                    released = action == RELEASED
                    yield BlockEvent(
                        time, "PTA", str(device), address, None if released else size, events.places[place]
                    )  # fmt: skip

    def failures(self, progress: Progress) -> Sequence[FailedAllocation]:
        segments, traces = self._content(progress)
        found: list[FailedAllocation] = []
        for device, events in enumerate(traces):
            rows: list[int] = np.flatnonzero(events.action == FAILED).tolist()
            if not rows:
                continue
            curve = self._curve(device, events, segments)
            found += [
                FailedAllocation(
                    int(curve.time_ns[row]), f"NPU:{device}", int(events.size[row]) or None,
                    events.device_free.get(row), _at(curve.allocated, row), _at(curve.reserved, row),
                    None, events.places[events.place[row]], f"{self._path.name}, event {row}",
                )
                for row in rows
            ]  # fmt: skip
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
            free.append(max((whole(block.get("size")) for block in blocks if block not in kept), default=0))
            largest = max(kept, key=lambda block: whole(block.get("size")), default=None)
            holders.append("" if largest is None else place_of(largest) or names.get(whole(largest.get("address")), ""))

        def column(key: str) -> Int64s:
            return np.array([whole(segment.get(key)) for segment in segments], dtype=np.int64)

        expandable = np.array([segment.get("is_expandable") is True for segment in segments], dtype=bool)
        return MemorySegments(
            column("device"), column("address"), column("total_size"), column("allocated_size"),
            np.array(free, dtype=np.int64), expandable, holders,
        )  # fmt: skip

    def _names_by_address(self, progress: Progress) -> dict[int, str]:
        """Where the last block at each address was asked for."""
        return {
            address: events.places[place]
            for events in self._content(progress)[1]
            for action, address, place in rows_of((events.action, events.address, events.place))
            if action == ALLOCATED
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


def _at(values: Int64s | None, row: int) -> int | None:
    return None if values is None else int(values[row])
