"""Compiled loops over gaps: which copies are needed, what stays in HBM in a given order of preference."""

from __future__ import annotations

from typing import Any

import numpy as np

from memplan.core.jit import jit


@jit
def needed_copies(
    chosen: Any,  # bool[gaps]
    storage: Any,  # int64[gaps], ascending; within a storage by start
    leaves: Any,  # int64[gaps]: step before the gap, -1: it begins the schedule
    changed: Any,  # bool[gaps]: written since the gap before (or since the schedule began)
    current: Any,  # bool[gaps]: the host's copy is up to date when the schedule begins, whatever is chosen
    copied: Any,  # int64[gaps], written: step after which the gap's bytes are copied out, -1: they needn't be
) -> None:
    """Copies out that the chosen gaps need: none where the host still has what was last written."""
    valid = False
    for gap in range(chosen.size):
        copied[gap] = -1
        if gap == 0 or storage[gap] != storage[gap - 1]:
            valid = current[gap] or (leaves[gap] < 0 and chosen[gap])
        if changed[gap]:
            valid = False
        if chosen[gap] and leaves[gap] >= 0:
            if not valid:
                copied[gap] = leaves[gap]
            valid = True


@jit
def _tree(load: Any) -> Any:
    """A tree of maxima over `load`: the largest below each node, what was added above, leaves and levels."""
    leaves, levels = 1, 0
    while leaves < load.size:
        leaves *= 2
        levels += 1
    most = np.full(2 * leaves, -(2**62), np.int64)
    most[leaves : leaves + load.size] = load
    for node in range(leaves - 1, 0, -1):
        most[node] = max(most[2 * node], most[2 * node + 1])
    return most, np.zeros(leaves, np.int64), leaves, levels


@jit
def _push(most: Any, extra: Any, leaves: int, levels: int, leaf: int) -> None:
    """Hand what was added above `leaf` down to its neighbourhood."""
    for level in range(levels, 0, -1):
        node = (leaf + leaves) >> level
        amount = extra[node]
        if amount:
            for child in (2 * node, 2 * node + 1):
                most[child] += amount
                if child < leaves:
                    extra[child] += amount
            extra[node] = 0


@jit
def _add(most: Any, extra: Any, leaves: int, low: int, high: int, amount: int) -> None:
    """Add `amount` to the values of `[low, high)` in a tree of maxima."""
    left, right = low + leaves, high + leaves
    first, last = left, right - 1
    while left < right:
        if left & 1:
            most[left] += amount
            if left < leaves:
                extra[left] += amount
            left += 1
        if right & 1:
            right -= 1
            most[right] += amount
            if right < leaves:
                extra[right] += amount
        left >>= 1
        right >>= 1
    for end in (first, last):
        node = end >> 1
        while node >= 1:
            most[node] = max(most[2 * node], most[2 * node + 1]) + extra[node]
            node >>= 1


@jit
def _most(most: Any, extra: Any, leaves: int, levels: int, low: int, high: int) -> int:
    """Largest value of `[low, high)`."""
    _push(most, extra, leaves, levels, low)
    _push(most, extra, leaves, levels, high - 1)
    best = -(2**62)
    left, right = low + leaves, high + leaves
    while left < right:
        if left & 1:
            best = max(best, most[left])
            left += 1
        if right & 1:
            right -= 1
            best = max(best, most[right])
        left >>= 1
        right >>= 1
    return best


@jit
def keep_in_order(
    order: Any,  # int64[units]: the first to keep in HBM first
    unit_ptr: Any,  # int64[units + 1]: the windows of each unit
    low: Any,  # int64[windows]: steps [low, high) in which a kept unit's storage takes `size` more
    high: Any,
    size: Any,
    load: Any,  # int64[steps]: bytes less the limit at each step with every unit away
    kept: Any,  # bool[units], written
) -> None:
    """Keep each unit in turn where its bytes have room in all its windows."""
    most, extra, leaves, levels = _tree(load)
    for unit in order:
        fits = True
        for at in range(unit_ptr[unit], unit_ptr[unit + 1]):
            if low[at] < high[at] and _most(most, extra, leaves, levels, low[at], high[at]) + size[at] > 0:
                fits = False
                break
        kept[unit] = fits
        if fits:
            for at in range(unit_ptr[unit], unit_ptr[unit + 1]):
                if low[at] < high[at]:
                    _add(most, extra, leaves, low[at], high[at], size[at])


@jit
def leave_in_order(
    order: Any,  # int64[units]: the first to leave HBM first
    unit_ptr: Any,
    low: Any,
    high: Any,
    size: Any,
    load: Any,  # int64[steps]: bytes less the limit at each step with every unit in HBM
    moved: Any,  # bool[units], written
) -> None:
    """Move each unit in turn that frees bytes at a step where too many are."""
    most, extra, leaves, levels = _tree(load)
    for unit in order:
        if most[1] <= 0:
            break
        helps = False
        for at in range(unit_ptr[unit], unit_ptr[unit + 1]):
            if low[at] < high[at] and _most(most, extra, leaves, levels, low[at], high[at]) > 0:
                helps = True
                break
        moved[unit] = helps
        if helps:
            for at in range(unit_ptr[unit], unit_ptr[unit + 1]):
                if low[at] < high[at]:
                    _add(most, extra, leaves, low[at], high[at], -size[at])
