"""Placement below a capacity that may be too small for all: what can be left out so that everything else fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.placement.offsets.greedy import Rectangles, timed_rectangles

_SOME, _MANY = 2_000, 20_000
"""With more buffers than that, fewer orders are tried."""


@dataclass(frozen=True, slots=True)
class Spill:
    """
    An offset for each buffer, and which ones lie above the capacity; the others all lie below.

    `lost` is the bytes times steps of those left out, 0 where all fit.
    """

    offsets: Int64s
    out: Bools
    lost: int
    method: str


def pack_below(size: Int64s, start: Int64s, end: Int64s, fixed: Int64s, capacity: int, alignment: int) -> Spill:
    """
    Buffers of `size` bytes alive over the steps `[start, end)` below `capacity` bytes, as far as greedy orders do.

    What is left out costs the fewest bytes times steps of the sets found. `fixed` is an offset that is given, -1 for
    none; given ones may not overlap each other.
    """
    alive = np.flatnonzero((start < end) & (size > 0))
    modulus, residue = np.full(len(alive), alignment), np.zeros(len(alive), np.int64)
    ready = timed_rectangles(
        size[alive], start[alive], end[alive], fixed[alive], modulus, residue, counted=len(alive)
    )  # fmt: skip
    free = np.flatnonzero(ready.fixed < 0)
    length = ready.end - ready.start
    weight = ready.size * length
    found = []
    for name, order in _orders(ready, free, length):
        placed, left = _below(ready, order, capacity, alignment)
        found.append((int(weight[left].sum()), placed, left, name))
        if not found[-1][0]:
            break
    lost, placed, left, name = min(found, key=lambda item: item[0])
    offsets, out = np.zeros(len(size), np.int64), np.zeros(len(size), dtype=bool)
    offsets[alive], out[alive] = placed, left
    return Spill(offsets, out, lost, f"greedy, {name}, first fit")


def _orders(ready: Rectangles, free: Int64s, length: Int64s) -> list[tuple[str, Int64s]]:
    """Orders that leave out little, by name, best first."""
    size, start, end = ready.size[free], ready.start[free], ready.end[free]
    keys: list[tuple[str, tuple[Int64s, ...]]] = [
        ("size, then birth", (start, -size)),
        ("duration", (-size, -length[free])),
        ("death", (-length[free], -end)),
        ("size", (-length[free], -size)),
        ("area", (-size * length[free],)),
    ]
    most = 2 if len(free) > _MANY else 3 if len(free) > _SOME else len(keys)
    return [(name, free[np.lexsort(key)]) for name, key in keys[:most]]


def _below(ready: Rectangles, order: Int64s, capacity: int, alignment: int) -> tuple[Int64s, Bools]:
    """Placed in `order`; what lies above `capacity` is stacked above all else, where it is in nobody's way."""
    _, offsets, _ = ready.place(order, best_fit=False)
    above = (ready.fixed < 0) & (offsets + ready.size > capacity)
    out = np.flatnonzero(above)
    top = max(capacity, int((offsets + ready.size)[~above].max(initial=0)))
    need = -(-ready.size[out] // alignment) * alignment
    offsets[out] = -(-top // alignment) * alignment + np.cumsum(need) - need
    return offsets, above
