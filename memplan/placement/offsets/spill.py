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
_ENTRIES, _WIDENING = 4, 2
"""Time buckets hold so many entries a buffer, and each is of `2**_WIDENING` times fewer steps than a wider one."""


@dataclass(frozen=True, slots=True)
class Spill:
    """
    An offset for each buffer, and which ones lie above the capacity; the others all lie below.

    `lost` is the bytes times steps of those left out, 0 where all fit. Those that take room were placed in
    `order`, which counts them alone, each where it fits best (`best_fit`) or first.
    """

    offsets: Int64s
    out: Bools
    lost: int
    method: str
    order: Int64s
    best_fit: bool


@dataclass(frozen=True, slots=True)
class CappedPacking:
    """
    Buffers of `size` bytes alive over the steps `[start, end)`, for placement below `capacity` bytes.

    `fixed` is an offset that is given, -1 for none; given ones may not overlap each other.
    """

    size: Int64s
    start: Int64s
    end: Int64s
    fixed: Int64s
    capacity: int
    alignment: int

    def greedy(self, near: Spill | None = None) -> Spill:
        """
        What is left out costs the fewest bytes times steps of the greedy orders; of many buffers those in the order of
        `near`, of the same buffers with others given, alone.
        """
        alive, ready = self._ready()
        free = np.flatnonzero(ready.fixed < 0)
        length = ready.end - ready.start
        if near is not None and len(free) > _SOME:
            return self._below(alive, ready, near.order, near.best_fit, near.method)
        found: Spill | None = None
        for name, order, fit in _orders(ready, free, length):
            method = f"greedy, {name}, {'best' if fit else 'first'} fit"
            spill = self._below(alive, ready, order, fit, method)
            if found is None or spill.lost < found.lost:
                found = spill
            if not spill.lost:
                break
        if found is None:
            raise ValueError("no order was tried")
        return found

    def again(self, found: Spill) -> Spill:
        """`found`, or better: what is left out is tried again before all else."""
        alive, ready = self._ready()
        best, out = found, found.out[alive]
        urgent = np.zeros(len(alive), np.int64)
        count = self._taking_room.sum()
        for _ in range(min(_RETRIES, _RETRIED // max(count, 1))):
            if not best.lost or out.sum() * _HOPELESS > count:
                break
            urgent[out] += 1
            order = found.order[np.argsort(-urgent[found.order], kind="stable")]
            spill = self._below(alive, ready, order, found.best_fit, found.method)
            out = spill.out[alive]
            best = spill if spill.lost < best.lost else best
        return best

    @property
    def _taking_room(self) -> Bools:
        return (self.start < self.end) & (self.size > 0)

    def _ready(self) -> tuple[Int64s, Rectangles]:
        """
        Which buffers take room, and these made ready.

        Those that are always there and are stacked from 0 are one rectangle behind the others: nothing else gets below
        its end.
        """
        last = int(self.end.max(initial=0))
        always = np.flatnonzero(self._taking_room & (self.fixed >= 0) & (self.start == 0) & (self.end == last))
        always = always[np.argsort(self.fixed[always], kind="stable")]
        tops = self.fixed[always] + self.size[always]
        stacked = np.cumprod(self.fixed[always] == np.concatenate([[0], tops[:-1]])).astype(bool)
        alive = np.setdiff1d(np.flatnonzero(self._taking_room), always[stacked])
        bottom = tops[stacked][-1:]
        ones, zeros = np.ones(len(bottom), np.int64), np.zeros(len(bottom), np.int64)

        def column(values: Int64s, of_bottom: Int64s) -> Int64s:
            return np.concatenate([values, of_bottom])

        return alive, timed_rectangles(
            column(self.size[alive], bottom),
            column(self.start[alive], zeros),
            column(self.end[alive], ones * last),
            column(self.fixed[alive], zeros),
            column(np.full(len(alive), self.alignment), ones),
            column(np.zeros(len(alive), np.int64), zeros),
            counted=len(alive),
            room=_ENTRIES,
            widening=_WIDENING,
        )  # fmt: skip

    def _below(self, alive: Int64s, ready: Rectangles, order: Int64s, best_fit: bool, method: str) -> Spill:
        """Placed in `order`; what lies above the capacity is stacked above all else, where it is in nobody's way."""
        _, placed, _ = ready.place(order, best_fit)
        size, length = self.size[alive], (self.end - self.start)[alive]
        above = (self.fixed[alive] < 0) & (placed + size > self.capacity)
        offsets, out = np.where(self._taking_room & (self.fixed >= 0), self.fixed, 0), np.zeros(len(self.size), bool)
        bottom = int(ready.size[len(alive) :].sum())
        top = max(self.capacity, bottom, int((placed + size)[~above].max(initial=0)))
        need = -(-size[above] // self.alignment) * self.alignment
        placed[above] = -(-top // self.alignment) * self.alignment + np.cumsum(need) - need
        offsets[alive], out[alive] = placed, above
        lost = int((size * length)[above].sum())
        return Spill(offsets, out, lost, method, order, best_fit)


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
