"""Allocations and releases of memory blocks as events, and what follows from them: allocations and running totals."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.profile import Allocations, MemoryCurve

_ADDRESS = (1 << 63) - 1
"""Bits of an address that a device has; a reader may tell processes apart by those above."""
_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class BlockEvent:
    """One allocation (`size` in bytes) or release (`size` None) of the block at `address` of a device's pool."""

    time: int
    pool: str
    device: str
    address: int
    size: int | None
    name: str = ""


def allocations_of_events(events: Iterable[BlockEvent]) -> tuple[Allocations, int]:
    """
    Allocations with their releases, by address; and how many releases had no allocation before them.

    The events are looked at one by one, and each name is kept once.
    """
    # Not lists: to make columns of millions of numbers in lists holds up every other thread.
    sizes, starts, ends, places = array("q"), array("q"), array("q"), array("q")
    names: list[str] = []
    known_names: dict[str, str] = {}
    open_blocks: dict[tuple[str, str, int], int] = {}
    lost = 0
    curves: dict[tuple[str, str], str] = {}
    found: list[str] = []
    for event in events:
        key = (event.pool, event.device, event.address)
        if event.size is not None:
            open_blocks[key] = len(sizes)
            sizes.append(event.size)
            starts.append(event.time)
            ends.append(-1)
            places.append(event.address & _ADDRESS)
            names.append(known_names.setdefault(event.name, event.name))
            found.append(curves.setdefault((event.pool, event.device), _curve_name(event, curves)))
        elif key in open_blocks:
            ends[open_blocks.pop(key)] = event.time
        else:
            lost += 1
    columns = [np.array(column, dtype=np.int64) for column in (sizes, starts, ends)]
    order = np.argsort(columns[1], kind="stable")
    size, start, end = (column[order] for column in columns)
    addresses = np.array(places, dtype=np.int64)
    return Allocations(
        [names[row] for (row,) in rows_of((order,))], size, start, end,
        [found[row] for (row,) in rows_of((order,))], addresses[order] if addresses.all() else None,
    ), lost  # fmt: skip


def rows_of(columns: Sequence[Int64s]) -> Iterator[tuple[int, ...]]:
    """The numbers of each row of `columns`: a stretch of rows at a time, so that other threads come to their turn."""
    for begin in range(0, len(columns[0]), _ROWS):
        yield from zip(*(column[begin : begin + _ROWS].tolist() for column in columns), strict=True)


def _curve_name(event: BlockEvent, known: Mapping[tuple[str, str], str]) -> str:
    """The curve of a pool: its name, for further devices with the device."""
    if event.pool not in known.values():
        return event.pool
    return f"{event.pool} NPU:{event.device}" if event.device.isdigit() else f"{event.pool} {event.device}"


def running_totals(events: Sequence[BlockEvent], component: str, device: str) -> MemoryCurve:
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
