"""Static orders in which greedy placement takes the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.blocks import Blocks
from memplan.placement.offsets.bounds import step_loads

MOST_FOR_ALL = 100_000
"""Most blocks for which every order is tried."""


@dataclass(frozen=True, slots=True)
class Features:
    """What orders are made of, by block: ranks of first and last section, duration in time, size, most bytes alive."""

    start: Int64s
    end: Int64s
    duration: Int64s
    size: Int64s
    total: Int64s


def features(blocks: Blocks) -> Features:
    """Features of every block; a block that is never alive has duration 0."""
    count = blocks.count
    start = np.full(count, np.iinfo(np.int64).max)
    end = np.zeros(count, np.int64)
    owner = np.repeat(np.arange(count), np.diff(blocks.part_ptr))
    np.minimum.at(start, owner, blocks.part_start)
    np.maximum.at(end, owner, blocks.part_end)
    start = np.minimum(start, end)
    times = blocks.times if len(blocks.times) else np.zeros(1, np.int64)
    total = np.zeros(count, np.int64)
    if blocks.graph:  # no time to speak of: what a block excludes stands for how long it lives
        np.add.at(total, blocks.pair_a, blocks.size[blocks.pair_b])
        np.add.at(total, blocks.pair_b, blocks.size[blocks.pair_a])
        degree = np.bincount(blocks.pair_a, minlength=count) + np.bincount(blocks.pair_b, minlength=count)
        return Features(start, end, degree.astype(np.int64), blocks.size, total)
    alive = np.flatnonzero(start < end)
    total[alive] = _range_max(step_loads(blocks), start[alive], end[alive])
    return Features(start, end, times[end] - times[start], blocks.size, total)


def _range_max(values: Int64s, start: Int64s, end: Int64s) -> Int64s:
    """Maximum of `values[start:end]` for each pair, ranges not empty (sparse table, one level at a time)."""
    out = np.zeros(len(start), np.int64)
    level = np.frexp((end - start).astype(np.float64))[1] - 1
    table = values
    for power in range(int(level.max(initial=0)) + 1):
        if power:
            table = np.maximum(table[: -(1 << (power - 1))], table[1 << (power - 1) :])
        mine = level == power
        out[mine] = np.maximum(table[start[mine]], table[end[mine] - (1 << power)])
    return out


def portfolio(known: Features) -> list[tuple[str, Int64s]]:
    """Orders by name, the ones that most often win first."""
    area = known.size.astype(np.float64) * known.duration
    keys: list[tuple[str, tuple[Int64s | np.ndarray[tuple[int], np.dtype[np.float64]], ...]]] = [
        ("most alive, then size", (-known.total, -known.size, -known.duration)),
        ("size", (-known.size, -known.duration)),
        ("size, then birth", (-known.size, known.start)),
        ("area", (-area, -known.size)),
        ("birth", (known.start, -known.size, -known.duration)),
        ("duration", (-known.duration, -known.size)),
        ("most alive, then area", (-known.total, -area)),
        ("most alive, then duration", (-known.total, -known.duration, -known.size)),
        ("death", (-known.end, -known.size, -known.duration)),
    ]
    if len(known.size) > MOST_FOR_ALL:  # long blocks that come late look at nearly all that is placed
        keys = [(name, key) for name, key in keys if name in ("most alive, then size", "most alive, then duration")]
    return [(name, np.lexsort(key[::-1])) for name, key in keys]
