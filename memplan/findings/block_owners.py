"""Who holds memory: blocks by what asked for them, those alive at a moment, and those that pile up."""

from __future__ import annotations

import numpy as np

from memplan.core.arrays import Int64s
from memplan.findings.finding import threshold
from memplan.traces.profile import Allocations

_PARTS = 8


def blocks_alive_at(blocks: Allocations, time_ns: int) -> Int64s:
    """Rows of the blocks that are allocated at `time_ns`."""
    alive = (blocks.allocation_ns <= time_ns) & ((blocks.release_ns > time_ns) | (blocks.release_ns < 0))
    return np.flatnonzero(alive).astype(np.int64)


def owners_of(blocks: Allocations, rows: Int64s) -> list[tuple[str, int]]:
    """Bytes of the blocks in `rows` by what asked for them, the largest first."""
    sums: dict[str, int] = {}
    for row in rows.tolist():
        sums[blocks.name[row]] = sums.get(blocks.name[row], 0) + int(blocks.size[row])
    return sorted(sums.items(), key=lambda entry: (-entry[1], entry[0]))


def accumulated(blocks: Allocations, until_ns: int | None = None) -> list[tuple[str, int]]:
    """
    Who piles up blocks, and how many bytes: blocks that are never released, asked for again and again.

    What a model or an optimizer keeps is made once, in one stretch, and while a model is loaded little else is
    released. Who leaks asks in most of eight equal parts of the history, or in three and more stretches for as many
    bytes each, while far more blocks come and go. Blocks of unknown owners tell nothing.
    """
    known = blocks.allocation_ns >= 0
    if not known.any():
        return []
    begin = int(blocks.allocation_ns[known].min())
    end = int(blocks.allocation_ns[known].max()) if until_ns is None else until_ns
    kept = np.flatnonzero(known & (blocks.release_ns < 0) & (blocks.allocation_ns <= end))
    passing = int((known & (blocks.release_ns >= 0)).sum())
    if end <= begin or not len(kept):
        return []
    by_owner: dict[str, list[int]] = {}
    for row in (row for row in kept.tolist() if blocks.name[row]):
        by_owner.setdefault(blocks.name[row], []).append(row)
    found = []
    for name, mine in by_owner.items():
        rows = np.array(mine, dtype=np.int64)
        rows = rows[np.argsort(blocks.allocation_ns[rows], kind="stable")]
        often = passing >= threshold("piling_churn") * len(rows)
        if often and _piles(blocks.allocation_ns[rows] - begin, blocks.size[rows], end - begin):
            found.append((name, int(blocks.size[rows].sum())))
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))


def _piles(time: Int64s, size: Int64s, length: int) -> bool:
    parts = np.unique(np.minimum(time * _PARTS // length, _PARTS - 1))
    if len(parts) >= threshold("piling_parts") * _PARTS:
        return True
    bounds = np.flatnonzero(np.diff(time) > length / (2 * _PARTS)) + 1
    stretches = np.add.reduceat(size, np.append(0, bounds))
    return len(stretches) >= 3 and int(stretches.max()) <= 2 * int(stretches.min())
