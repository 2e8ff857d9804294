"""Readers of files that hold only a part of a profile: what most of them have in common, and their memory events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, Kernels, LinkUse, MemoryCurve, StepTimes
from memplan.traces.timeline.query import TimelineView
from memplan.traces.readers.csv_table import read_table


class PartReader:
    """Implements `memplan.traces.rank.Reader` with nothing in it; `further` are CSV tables to show as they are."""

    def __init__(self, notes: Notebook, further: Sequence[Path] = ()) -> None:
        self._notes = notes
        self._further = {path.name.split(".csv")[0]: path for path in further}

    def device(self) -> str:
        return ""

    def chip(self) -> str | None:
        return None

    def kernels(self) -> Kernels | None:
        return None

    def curves(self) -> dict[str, MemoryCurve]:
        return {}

    def allocations(self) -> Allocations | None:
        return None

    def steps(self) -> list[StepTimes]:
        return []

    def timeline(self, kernels: Kernels | None) -> TimelineView | None:  # noqa: ARG002  (others use it)
        return None

    def links(self) -> list[LinkUse]:
        return []

    def tables(self) -> Sequence[str]:
        return list(self._further)

    def table(self, name: str) -> Mapping[str, Sequence[str]]:
        table = read_table(self._further[name], self._notes)
        return table.columns if table is not None else {}


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """One allocation (`size` in bytes) or release (`size` None) of the block at `address` of a device's pool."""

    time: int
    pool: str
    device: str
    address: int
    size: int | None
    name: str = ""


def paired(events: Sequence[MemoryEvent]) -> tuple[Allocations, int]:
    """Allocations with their releases, by address; and how many releases had no allocation before them."""
    rows: list[list[int]] = []
    names: list[str] = []
    open_blocks: dict[tuple[str, str, int], int] = {}
    lost = 0
    for event in events:
        key = (event.pool, event.device, event.address)
        if event.size is not None:
            open_blocks[key] = len(rows)
            rows.append([event.size, event.time, -1])
            names.append(event.name)
        elif key in open_blocks:
            rows[open_blocks.pop(key)][2] = event.time
        else:
            lost += 1
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    order = np.argsort(columns[:, 1], kind="stable")
    size, start, end = columns[order].T
    return Allocations([names[row] for row in order.tolist()], size, start, end), lost


def running_totals(events: Sequence[MemoryEvent], component: str, device: str) -> MemoryCurve:
    """The bytes that are allocated after each event of one device's pool, counted from the events."""
    live: dict[int, int] = {}
    total = 0
    times, totals = [], []
    for event in events:
        total -= live.pop(event.address, 0)
        if event.size is not None:
            live[event.address] = event.size
            total += event.size
        times.append(event.time)
        totals.append(total)
    return MemoryCurve(component, device, _column(times), _column(totals), None, None)


def _column(values: Sequence[int]) -> Int64s:
    return np.array(values, dtype=np.int64)
