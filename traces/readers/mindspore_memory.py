"""
MindSpore's own memory records: the binary `mindspore.memory_usage` and the memory tracker's `memory_block.csv`.

The binary file is a list of records (16-bit kind, 32-bit length, content); each begins with a fixed structure, and
fields of the same form follow, of which number 13 names the owner. It says more than the CSV made of it.
"""

from __future__ import annotations

import struct
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.core.once import Once
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.rank import RankReader
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events, running_totals
from memplan.traces.tables.csv_table import read_table

_FIXED = struct.Struct("<i11QI4B")
_HEAD = struct.Struct("<HI")
_OWNER = 13
_RELEASED = 2**64 - 1
_MOST_BYTES = 2 << 30


def read_memory_usage(path: Path, notes: Notebook) -> list[BlockEvent]:
    """Events of a `mindspore.memory_usage` file in order of time; raises `InputError` where it can't be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("is too large", path=path, remedy="files up to 2 GiB are read")
        data = path.read_bytes()
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None
    events = []
    lost = 0
    for content in _records(data):
        if content is None or len(content) < _FIXED.size:
            lost += 1
            continue
        fixed = _FIXED.unpack_from(content)
        owner = next((value for kind, value in _fields(content[_FIXED.size :]) if kind == _OWNER), b"")
        pool = "persistent" if fixed[14] else "common"
        size = None if fixed[5] == _RELEASED else min(fixed[5], 2**62)
        time = min(fixed[3], 2**62)
        events.append(BlockEvent(time, pool, str(fixed[0]), fixed[4], size, owner.decode("utf-8", errors="replace")))
    if lost:
        notes.add(path, Sentence("{} truncated [record|records] skipped", (lost,)))
    return sorted(events, key=lambda event: event.time)


def _records(data: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            found.append(None)
            break
        _, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append(data[at : at + size] if at + size <= len(data) else None)
        at += size
    return found


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + _HEAD.size <= len(data):
        kind, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        found.append((kind, data[at : at + size]))
        at += size
    return found


def curve_of(events: list[BlockEvent]) -> MemoryCurve | None:
    """Running total of all events, `None` without any."""
    return running_totals(events, "MindSpore", f"NPU:{events[0].device}") if events else None


class MemoryBlockReader(RankReader):
    """
    Reads a `memory_block.csv`, in which times are numbers of tasks, not moments.

    The curve's `reserved` would need the pool's growth, which the file has as `actual_peak_memory` only; it is `None`.
    """

    def __init__(self, path: Path, notes: Notebook) -> None:
        super().__init__(notes, [path])
        self._path = path
        self._events = Once(self._read_events)

    def _read_events(self, progress: Progress) -> list[BlockEvent]:
        progress(0, 1, self._path.name)
        table = read_table(self._path, self._notes)
        if table is None:
            return []
        start, end = table.whole(1, "start_time_stamp"), table.whole(1, "end_time_stamp")
        size = table.whole(1, "size")
        if start is None or end is None or size is None:
            raise InputError("lacks start_time_stamp, end_time_stamp or size", path=self._path)
        self._notes.tell(self._path, "its times count tasks; one task is shown as 1 ns")
        names = table.text("node_name", "task_name", "type")
        events = []
        for row, (first, last, count) in enumerate(zip(start.tolist(), end.tolist(), size.tolist(), strict=True)):
            if first >= 0 and count >= 0:
                events.append(BlockEvent(first, "MindSpore", "0", row, count, names[row]))
                if last >= first and last < 2**62:
                    events.append(BlockEvent(last, "MindSpore", "0", row, None))
        return sorted(events, key=lambda event: (event.time, event.size is not None))

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        events = self._events(progress)
        return {"MindSpore": running_totals(events, "MindSpore", "")} if events else {}

    def allocations(self, progress: Progress) -> Allocations | None:
        found, _ = allocations_of_events(self._events(progress))
        return found if len(found) else None
