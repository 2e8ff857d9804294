"""Slices, samples and flows on their way from tables of any form to events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Floats, Int64s
from memplan.core.distinct import distinct
from memplan.traces.timeline.events import Events, FlowRows, SampleRows, SliceRows

if TYPE_CHECKING:
    from memplan.traces.tables.sqlite import Database

_ORDER = ("Python", "CANN", "Ascend Hardware", "AI Core Freq", "HCCL", "HBM", "LLC", "NPU MEM", "Overlap Analysis")


class EventBuilder:
    """Slices, samples and flows of all tables."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {"": 0}
        self.threads: dict[tuple[str, str], int] = {}
        self.slices: list[list[Int64s]] = []
        self.samples: list[tuple[Int64s, Int64s, Int64s, Int64s, Int64s, Floats]] = []
        self.flows: list[list[Int64s]] = []

    def number(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def lane(self, process: str, thread: str) -> int:
        """Number of a thread."""
        return self.threads.setdefault((process, thread), len(self.threads))

    def numbers(self, database: Database, column: Int64s, name: Callable[[str], str] = str) -> Int64s:
        """Numbers of the texts behind a column of string numbers."""
        texts = database.names(column)
        lookup = np.array([self.number(name(text)) for text in texts.values], dtype=np.int64)
        return lookup[texts.codes] if len(column) else column

    def lanes(self, process: str, keys: Int64s, name: Callable[[int], str]) -> Int64s:
        """Thread numbers of a column of thread keys of `process`."""
        found, codes = distinct(keys)
        lookup = [self.threads.setdefault((process, name(key)), len(self.threads)) for key in found.tolist()]
        return np.array(lookup, dtype=np.int64)[codes] if len(keys) else keys

    def add(self, start: Int64s, end: Int64s, lane: Int64s, name: Int64s, category: Int64s, at: Int64s) -> None:
        valid = (start > 0) & (end >= start)
        self.slices.append([column[valid] for column in (start, end - start, lane, name, category, at)])

    def sample(
        self,
        process: str,
        time: Int64s,
        label: str,
        unit: Int64s,
        key: str,
        value: Floats,
        instance: Int64s | None = None,
    ) -> None:
        """Add samples of the counters called `label` with `unit` in its braces, under `key`."""
        valid = (time > 0) & ~np.isnan(value)
        found, codes = distinct(unit[valid])
        counters = np.array([self.number(label.format(number)) for number in found.tolist()], dtype=np.int64)
        count = int(valid.sum())
        lane = np.full(count, self.threads.setdefault((process, ""), len(self.threads)))
        self.samples.append(
            (
                time[valid],
                lane,
                counters[codes] if count else lane,
                np.full(count, self.number(key)),
                np.full(count, -1) if instance is None else instance[valid],
                value[valid],
            )
        )

    def events(self) -> Events:
        """Everything builder; processes and threads are called what their keys say."""
        slices, flows = _stacked(self.slices, 6), _stacked(self.flows, 5)
        samples = _stacked([list(rows[:5]) for rows in self.samples], 5)
        values = [rows[5] for rows in self.samples]
        names = dict.fromkeys(process for process, _ in self.threads)
        processes = sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
        metadata: list[dict[str, object]] = []
        for place, name in enumerate(processes):
            metadata.append({"name": "process_name", "pid": name, "args": {"name": name}})
            metadata.append({"name": "process_sort_index", "pid": name, "args": {"sort_index": place}})
        for process, thread in self.threads:
            metadata.append({"name": "thread_name", "pid": process, "tid": thread, "args": {"name": thread}})
        return Events(
            list(self.strings),
            list(self.threads),
            SliceRows(
                slices[0],
                slices[1],
                slices[2].astype(np.int32),
                slices[3].astype(np.int32),
                slices[4].astype(np.int32),
                slices[5],
                (slices[5] >= 0).astype(np.int32),
            ),
            SampleRows(
                samples[0],
                samples[1].astype(np.int32),
                samples[2].astype(np.int32),
                samples[3].astype(np.int32),
                samples[4],
                np.concatenate(values) if values else np.empty(0),
            ),
            FlowRows(
                flows[0], flows[1].astype(np.int32), flows[2].astype(np.int32), flows[3].astype(np.int32), flows[4]
            ),
            metadata,
        )


def _stacked(parts: list[list[Int64s]], width: int) -> list[Int64s]:
    return [
        np.concatenate([part[column] for part in parts]).astype(np.int64) if parts else np.empty(0, dtype=np.int64)
        for column in range(width)
    ]
