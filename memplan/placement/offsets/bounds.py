"""Proven lower bounds on the peak of one pool."""

from __future__ import annotations

from math import gcd

import numpy as np

from memplan.core.arrays import Int64s
from memplan.placement.offsets.blocks import Blocks

EXAMINED = 256
"""Steps at which the bound is refined; any choice of steps gives a valid bound."""


def step_loads(blocks: Blocks, granule: int = 1) -> Int64s:
    """Bytes occupied in each section `[times[k], times[k + 1])`, every rectangle rounded up to `granule`."""
    height = -((blocks.part_lo - blocks.part_hi) // granule) * granule
    change = np.zeros(max(len(blocks.times), 1), np.int64)
    np.add.at(change, blocks.part_start, height)
    np.subtract.at(change, blocks.part_end, height)
    return np.cumsum(change)[: max(len(blocks.times) - 1, 0)]


def lift(live: int, reserved: tuple[tuple[int, int], ...]) -> int:
    """Lowest address below which `live` bytes are free of `reserved` ranges."""
    top = live
    end = 0
    for start, stop in sorted(reserved):
        if live and max(start, end) < top:
            top += max(stop - max(start, end), 0)
        end = max(end, stop)
    return top


def granule_of(blocks: Blocks) -> int:
    """Largest number that divides every address that blocks may have and the distances inside them."""
    granule = 0
    for values in (blocks.modulus, blocks.residue, blocks.part_lo):
        granule = gcd(granule, int(np.gcd.reduce(values)) if len(values) else 0)
    return max(granule, 1)


def peak_bound(blocks: Blocks, reserved: tuple[tuple[int, int], ...]) -> tuple[int, str]:
    """
    Bytes that every placement of `blocks` in one pool needs, and how that is known.

    At each step the blocks alive together need the sum of their sizes, each but the topmost rounded up to the common
    alignment. Pinned blocks and blocks that must not share addresses give further bounds; the largest counts.
    """
    best, method = 0, "nothing alive"
    if len(blocks.part_lo):
        granule = granule_of(blocks)
        live = step_loads(blocks, granule)
        best, method = int(step_loads(blocks).max()), "max live"
        if granule > 1:
            height = blocks.part_hi - blocks.part_lo
            slack = -height % granule
            for section in np.argsort(-live, kind="stable")[:EXAMINED]:
                if int(live[section]) <= best:
                    break
                alive = (blocks.part_start <= section) & (blocks.part_end > section)
                aligned = int(live[section]) - int(slack[alive].max(initial=0))
                if aligned > best:
                    best, method = aligned, "max live, aligned"
        lifted = lift(best, reserved)
        if lifted > best:
            best, method = lifted, f"{method}, above reserved ranges"
    pinned = blocks.fixed >= 0
    for name, tops in (
        ("pinned", (blocks.fixed + blocks.size)[pinned]),
        ("largest block", blocks.size + blocks.residue),
    ):
        if len(tops) and int(tops.max()) > best:
            best, method = int(tops.max()), name
    return best, method
