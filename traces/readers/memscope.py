"""
Dumps of msMemScope (`memscope_dump_*.csv`): every allocation, release and op launch of a process, in nanoseconds.

The `Attr` column looks like JSON and is not: `{addr:20615843020800,size:16384,owner:,MID:7}`.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from memplan.core.progress import Progress
from memplan.traces.decimals import scaled
from memplan.traces.timeline.event_builder import Gathered
from memplan.traces.notes import Notebook
from memplan.traces.readers.partial import MemoryEvent, PartReader, paired, running_totals
from memplan.traces.profile import Allocations, Kernels, MemoryCurve
from memplan.traces.timeline.query import TimelineView
from memplan.traces.readers.csv_table import ABSENT, Table, read_table
from memplan.traces.timeline.tracks import build

HEADER = "ID,Event,Event Type,Name,Timestamp(ns),"
_ATTRIBUTE = re.compile(r"(\w+):([^,{}]*)")


class MemscopeReader(PartReader):
    """Reads one dump."""

    def __init__(self, path: Path, notes: Notebook, progress: Progress) -> None:
        super().__init__(notes, [path])
        self._path = path
        self._progress = progress

    @cached_property
    def _table(self) -> Table | None:
        return read_table(self._path, self._notes)

    @cached_property
    def _events(self) -> list[MemoryEvent]:
        """Allocations and releases in order of time."""
        table = self._table
        if table is None:
            return []
        found = []
        skipped = 0
        places: dict[tuple[str, int], str] = {}  # of open blocks: releases of HAL don't name the device
        columns = (table.text("Event"), table.text("Event Type"), table.text("Timestamp(ns)"), table.text("Device Id"),
                   table.text("Ptr", "Addr"), table.text("Attr"), table.text("Name"), table.text("Process Id"),
                   table.text("Timestamp(ns)"))  # fmt: skip
        order = sorted(range(table.rows), key=lambda row: scaled(columns[-1][row], 1) or 0)
        for event, pool, time_text, device, pointer, attributes, name, process, _ in (
            tuple(column[row] for column in columns) for row in order
        ):
            if event not in ("MALLOC", "FREE"):
                continue
            told: dict[str, str] = dict(_ATTRIBUTE.findall(attributes[:4096]))
            time, address = scaled(time_text, 1), _address(pointer or told.get("addr", ""))
            size = scaled(told.get("size", ""), 1)
            if time is None or address is None or (event == "MALLOC" and size is None):
                skipped += 1
                continue
            address |= (scaled(process, 1) or 0) << 64  # addresses are those of a process
            if event == "MALLOC":
                places[pool, address] = device
            elif device in ABSENT:
                device = places.pop((pool, address), device)
            owner = told.get("owner", "") or (name if name != "N/A" else "")
            found.append(MemoryEvent(time, pool, device, address, size if event == "MALLOC" else None, owner))
        if skipped:
            self._notes.add(self._path, f"{skipped} memory events without time, address or size skipped")
        return sorted(found, key=lambda event: event.time)

    def device(self) -> str:
        return next((f"NPU:{event.device}" for event in self._events if event.device.isdigit()), "")

    def curves(self) -> dict[str, MemoryCurve]:
        groups: dict[tuple[str, str], list[MemoryEvent]] = {}
        for event in self._events:
            groups.setdefault((event.pool, event.device), []).append(event)
        found: dict[str, MemoryCurve] = {}
        for (pool, device), events in groups.items():
            place = f"NPU:{device}" if device.isdigit() else device
            found[f"{pool} {place}" if pool in found else pool] = running_totals(events, pool, place)
        return found

    def allocations(self) -> Allocations | None:
        found, lost = paired(self._events)
        if lost:
            self._notes.add(self._path, f"{lost} releases of blocks that were allocated before the dump")
        return found if len(found) else None

    def timeline(self, kernels: Kernels | None) -> TimelineView | None:  # noqa: ARG002
        """Ops between their start and end, and the moments of kernel launches and marks."""
        table = self._table
        if table is None:
            return None
        gathered = Gathered()
        rows: list[tuple[int, int, int, int, int]] = []
        begun: dict[tuple[str, str], list[int]] = {}
        columns = (table.text("Event"), table.text("Event Type"), table.text("Timestamp(ns)"),
                   table.text("Thread Id"), table.text("Name"), table.text("Process Id"))  # fmt: skip
        for event, kind, time_text, thread, name, process in zip(*columns, strict=True):
            time = scaled(time_text, 1)
            if event not in ("OP_LAUNCH", "KERNEL_LAUNCH", "MSTX") or time is None:
                continue
            start = time
            if kind.upper().endswith("START"):
                begun.setdefault((thread, name), []).append(time)
                continue
            if kind.upper().endswith("END"):
                starts = begun.get((thread, name))
                if not starts:
                    continue
                start = starts.pop()
            lane = gathered.lane(f"Process {process}", f"Thread {thread}")
            rows.append((start, time, lane, gathered.number(name), gathered.number(event.lower())))
        if not rows:
            return None
        start_ns, end, lanes, names, categories = np.array(rows, dtype=np.int64).T
        gathered.add(start_ns, end, lanes, names, categories, np.full(len(rows), -1))
        return TimelineView(build(gathered.events(), {}), lambda _at, _size: {})


def _address(text: str) -> int | None:
    text = text.strip()
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", text):
        return int(text, 16)
    return scaled(text, 1)
