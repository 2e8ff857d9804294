"""Placement below a capacity that may be too small for all: what can be left out so that everything else fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.placement.offsets.greedy import Rectangles, timed_rectangles

_SOME, _MANY = 2_000, 20_000
"""With more buffers than that, fewer orders are tried."""
_RETRIES, _RETRIED = 16, 160_000
"""How often what was left out is placed before all else, and how many buffers are placed anew for that in all."""
_HOPELESS = 20
"""Where more than such a part of the buffers is left out, it isn't tried again."""


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


def pack_below(
    size: Int64s, start: Int64s, end: Int64s, fixed: Int64s, capacity: int, alignment: int, *, again: bool = True
) -> Spill:
    """
    Buffers of `size` bytes alive over the steps `[start, end)` below `capacity` bytes, as far as greedy orders do.

    What is left out costs the fewest bytes times steps of the sets found. `fixed` is an offset that is given, -1 for
    none; given ones may not overlap each other. With `again`, what is left out is tried again before all else.
    """
    alive = np.flatnonzero((start < end) & (size > 0))
    modulus, residue = np.full(len(alive), alignment), np.zeros(len(alive), np.int64)
    ready = timed_rectangles(
        size[alive], start[alive], end[alive], fixed[alive], modulus, residue, counted=len(alive)
    )  # fmt: skip
    free = np.flatnonzero(ready.fixed < 0)
    length = ready.end - ready.start
    weight = ready.size * length
    found: list[tuple[int, Int64s, Bools, str]] = []
    best_order, best_fit = free, False
    for name, order, fit in _orders(ready, free, length):
        placed, left = _below(ready, order, fit, capacity, alignment)
        lost = int(weight[left].sum())
        if not found or lost < min(item[0] for item in found):
            best_order, best_fit = order, fit
        found.append((lost, placed, left, f"greedy, {name}, {'best' if fit else 'first'} fit"))
        if not lost:
            break
    lost, placed, left, name = min(found, key=lambda item: item[0])
    early, urgent = left, np.zeros(len(alive), np.int64)
    for _ in range(min(_RETRIES, _RETRIED // max(len(alive), 1)) if lost and again else 0):
        if early.sum() * _HOPELESS > len(alive):
            break
        urgent[early] += 1
        order = best_order[np.argsort(-urgent[best_order], kind="stable")]
        offsets, early = _below(ready, order, best_fit, capacity, alignment)
        if weight[early].sum() < lost:
            lost, placed, left = int(weight[early].sum()), offsets, early
        if not lost:
            break
    offsets, out = np.zeros(len(size), np.int64), np.zeros(len(size), dtype=bool)
    offsets[alive], out[alive] = placed, left
    return Spill(offsets, out, lost, name)


def _orders(ready: Rectangles, free: Int64s, length: Int64s) -> list[tuple[str, Int64s, bool]]:
    """Orders that leave out little, best first: by name, and whether what fits best is taken."""
    size, start, end = ready.size[free], ready.start[free], ready.end[free]
    keys: list[tuple[str, tuple[Int64s, ...], bool]] = [
        ("size, then birth", (start, -size), False),
        ("death", (-length[free], -end), True),
        ("duration", (-size, -length[free]), False),
        ("death", (-length[free], -end), False),
        ("size", (-length[free], -size), False),
        ("area", (-size * length[free],), False),
    ]
    most = 2 if len(free) > _MANY else 4 if len(free) > _SOME else len(keys)
    return [(name, free[np.lexsort(key)], best_fit) for name, key, best_fit in keys[:most]]


def _below(ready: Rectangles, order: Int64s, best_fit: bool, capacity: int, alignment: int) -> tuple[Int64s, Bools]:
    """Placed in `order`; what lies above `capacity` is stacked above all else, where it is in nobody's way."""
    _, offsets, _ = ready.place(order, best_fit)
    above = (ready.fixed < 0) & (offsets + ready.size > capacity)
    out = np.flatnonzero(above)
    top = max(capacity, int((offsets + ready.size)[~above].max(initial=0)))
    need = -(-ready.size[out] // alignment) * alignment
    offsets[out] = -(-top // alignment) * alignment + np.cumsum(need) - need
    return offsets, above
