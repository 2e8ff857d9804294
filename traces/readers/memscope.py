"""
Dumps of msMemScope (`memscope_dump_*.csv`): every allocation, release and op launch of a process, in nanoseconds.

The `Attr` column looks like JSON and is not: `{addr:20615843020800,size:16384,owner:,MID:7}`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from memplan.core.once import Once
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.decimals import ABSENT, scaled
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, Kernels, MemoryCurve
from memplan.traces.rank import RankReader
from memplan.traces.readers.block_events import BlockEvent, allocations_of_events, running_totals
from memplan.traces.readers.event_builder import EventBuilder
from memplan.traces.tables.csv_table import read_table
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.tracks import build

MEMSCOPE_HEADER = "ID,Event,Event Type,Name,Timestamp(ns),"
_ROWS = 1 << 16  # between two reports of progress
_ATTRIBUTE = re.compile(r"(\w+):([^,{}]*)")


class MemscopeReader(RankReader):
    """Reads one dump."""

    def __init__(self, path: Path, notes: Notebook) -> None:
        super().__init__(notes, [path])
        self._path = path
        self._dump = Once(lambda _: read_table(path, notes))
        self._events = Once(self._read_events)

    def _read_events(self, progress: Progress) -> list[BlockEvent]:
        """Allocations and releases in order of time."""
        table = self._dump(progress)
        if table is None:
            return []
        found = []
        skipped = 0
        places: dict[tuple[str, int], str] = {}  # of open blocks: releases of HAL don't name the device
        columns = (table.text("Event"), table.text("Event Type"), table.text("Timestamp(ns)"), table.text("Device Id"),
                   table.text("Ptr", "Addr"), table.text("Attr"), table.text("Name"), table.text("Process Id"),
                   table.text("Thread Id"), table.text("Timestamp(ns)"))  # fmt: skip
        running: dict[tuple[str, str], list[str]] = {}  # ops by thread, the innermost last
        order = sorted(range(table.rows), key=lambda row: scaled(columns[-1][row], 1) or 0)
        for done, row in enumerate(order):
            if done % _ROWS == 0:
                progress(done, table.rows, f"rows of {self._path.name}")
            event, pool, time_text, device, pointer, attributes, name, process, thread, _ = (
                column[row] for column in columns
            )
            if event == "OP_LAUNCH":
                _follow(running.setdefault((process, thread), []), pool, name)
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
            within = running.get((process, thread))
            owner = told.get("owner", "") or (name if name != "N/A" else "") or (within[-1] if within else "")
            found.append(BlockEvent(time, pool, device, address, size if event == "MALLOC" else None, owner))
        if skipped:
            self._notes.add(
                self._path, Sentence("{} memory [event|events] without time, address or size skipped", (skipped,))
            )
        return sorted(found, key=lambda event: event.time)

    def device(self, progress: Progress) -> str:
        return next((f"NPU:{event.device}" for event in self._events(progress) if event.device.isdigit()), "")

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        groups: dict[tuple[str, str], list[BlockEvent]] = {}
        for event in self._events(progress):
            groups.setdefault((event.pool, event.device), []).append(event)
        found: dict[str, MemoryCurve] = {}
        for (pool, device), events in groups.items():
            place = f"NPU:{device}" if device.isdigit() else device
            found[f"{pool} {place}" if pool in found else pool] = running_totals(events, pool, place)
        return found

    def allocations(self, progress: Progress) -> Allocations | None:
        found, lost = allocations_of_events(self._events(progress))
        if lost:
            self._notes.tell(
                self._path, Sentence("{} [release|releases] of blocks that were allocated before the dump", (lost,))
            )
        return found if len(found) else None

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        """Ops between their start and end, and the moments of kernel launches and marks."""
        table = self._dump(progress)
        if table is None:
            return None
        builder = EventBuilder()
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
            lane = builder.lane(f"Process {process}", f"Thread {thread}")
            rows.append((start, time, lane, builder.number(name), builder.number(event.lower())))
        if not rows:
            return None
        start_ns, end, lanes, names, categories = np.array(rows, dtype=np.int64).T
        builder.add(start_ns, end, lanes, names, categories, np.full(len(rows), -1))
        return TimelineQuery(build(builder.events(), {}), lambda _at, _size: {})


def _follow(running: list[str], kind: str, name: str) -> None:
    """Begin or end op `name` among those that run on a thread."""
    if kind.upper().endswith("START"):
        running.append(name)
    elif name in running:
        del running[len(running) - 1 - running[::-1].index(name) :]


def _address(text: str) -> int | None:
    text = text.strip()
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", text):
        return int(text, 16)
    return scaled(text, 1)
