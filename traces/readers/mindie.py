"""
Tables of msServiceProfiler: KV-cache blocks over time as counters, batches and requests as slices.

Times are in milliseconds or microseconds, by header. Durations and counts of blocks are the profiler's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.progress import Progress
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.logs.cache_use import CacheUse, use_in_tables
from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels
from memplan.traces.rank import RankReader
from memplan.traces.readers.event_builder import EventBuilder
from memplan.traces.tables.csv_table import read_table
from memplan.traces.tables.text_table import TextTable
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.tracks import build

_UNITS = {"ms": 1_000_000, "microsecond": 1000, "us": 1000, "ns": 1}
_BLOCK_COLUMNS = (
    "device_kvcache_left", "free_kvcache_blocks", "allocated_kvcache_blocks", "kvcache_usage_rate", "total_blocks",
    "free_blocks", "blocks_allocated", "blocks_freed", "cache_hit_rate", "used_blocks",
)  # fmt: skip


class MindieReader(RankReader):
    """Reads the CSV tables in one folder."""

    def __init__(self, paths: Sequence[Path], notes: Notebook) -> None:
        super().__init__(notes, paths)
        self._paths = paths

    def cache_use(self, progress: Progress) -> CacheUse | None:
        found = use_in_tables(self._paths[0].parent)
        return None if found.empty else found

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        builder = EventBuilder()
        for number, path in enumerate(self._paths):
            progress(number, len(self._paths), path.name)
            table = read_table(path, self._notes)
            if table is None:
                continue
            start, end = times_in_ns(table, "start_time", "timestamp"), times_in_ns(table, "end_time")
            if start is None:
                self._notes.tell(path, "shown as a table only: it has no column of times")
                continue
            stem = path.name.split(".")[0]
            nothing = np.zeros_like(start)
            for header in _BLOCK_COLUMNS if "kvcache" in stem else ():
                if table.has(header):
                    builder.sample("KV cache", start, header, nothing, "value", table.floats(header))
            if end is not None and "kvcache" not in stem:
                names = dictionary_encoded(table.text("name", "http_rid", "rid"))
                numbers = np.array([builder.number(text) for text in names.values], dtype=np.int64)
                name = numbers[names.codes] if table.rows else start
                builder.add(start, end, np.full(table.rows, builder.lane("Service", stem)), name, nothing, nothing - 1)
        events = builder.events()
        if not len(events.slices.start_ns) and not len(events.samples.time_ns):
            return None
        return TimelineQuery(build(events, {}), lambda _at, _size: {})


def times_in_ns(table: TextTable, *quantities: str) -> Int64s | None:
    """A column of times in ns, whichever unit its header names; -1 where absent, `None` if there is no such column."""
    for quantity in quantities:
        for header in table.columns:
            for unit, factor in _UNITS.items():
                if header == f"{quantity}({unit})":
                    return table.times_ns(header) if factor == 1000 else table.whole(factor, header)
    return None
