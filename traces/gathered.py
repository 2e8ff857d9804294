"""Slices, samples and flows on their way from database tables to events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memplan.traces.database import Database
from memplan.traces.profile import Floats, Int64s


class Gathered:
    """Slices, samples and flows of all tables."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {"": 0}
        self.threads: dict[tuple[str, str], int] = {}
        self.slices: list[list[Int64s]] = []
        self.samples: list[tuple[Int64s, Int64s, Int64s, Int64s, Int64s, Floats]] = []
        self.flows: list[list[Int64s]] = []

    def number(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def numbers(self, database: Database, column: Int64s, name: Callable[[str], str] = str) -> Int64s:
        """Numbers of the texts behind a column of string numbers."""
        texts = database.names(column)
        lookup = np.array([self.number(name(text)) for text in texts.values], dtype=np.int64)
        return lookup[texts.codes] if len(column) else column

    def lanes(self, process: str, keys: Int64s, name: Callable[[int], str]) -> Int64s:
        """Thread numbers of a column of thread keys of `process`."""
        distinct, codes = np.unique(keys, return_inverse=True)
        lookup = [self.threads.setdefault((process, name(key)), len(self.threads)) for key in distinct.tolist()]
        return np.array(lookup, dtype=np.int64)[codes.reshape(-1)] if len(keys) else keys

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
        distinct, codes = np.unique(unit[valid], return_inverse=True)
        counters = np.array([self.number(label.format(number)) for number in distinct.tolist()], dtype=np.int64)
        count = int(valid.sum())
        lane = np.full(count, self.threads.setdefault((process, ""), len(self.threads)))
        self.samples.append(
            (
                time[valid],
                lane,
                counters[codes.reshape(-1)] if count else lane,
                np.full(count, self.number(key)),
                np.full(count, -1) if instance is None else instance[valid],
                value[valid],
            )
        )
