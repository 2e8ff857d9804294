"""
The likeliest maker of every block, as a path through both in order: a compiled loop.

A host asks for memory in the order in which it issues kernels, so that block `j` is made by kernel `k` or a later one
than the block before. Of every pair in a window the loop keeps the best score of a path that ends there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int32s, Int64s
from memplan.core.jit import jit_inlined, jit_inner, jit_numpy_division

Shorts = NDArray[np.int16]
Scores = NDArray[np.float32]

_SLACK = 1024
"""Bytes by which a block may exceed what it holds: rounding to 512 and a tail of 32."""
_NEVER = np.float32(-1e30)
_TIGHT, _LOOSE = 1.0, 0.3
_FOREIGN, _LONG_LIVED = 0.0, -1.0
"""Scores of a block that is no output: a short-lived one is scratch, a lasting one hardly."""
_BRIEF = -1.5
"""What it costs to take a block that is gone before the next is asked for as an output."""
_TOO_EARLY = -4.0
"""What it costs that a kernel started before the block was there."""
_BEGIN_LATER = 0.5
"""Share of the price of leaving out the makers before the first block: the host may have asked for theirs before."""
_END_EARLIER = 0.5
"""Share of that price for the makers after the last block: the profile may have ended before the host came to them."""
_SAME_FAMILY, _OTHER_FAMILY = 1.0, -1.0


@jit_numpy_division
def _fits(block: int, output: int) -> float:
    """How well a block of so many bytes holds an output."""
    over = block - output
    if over < 0 or output <= 0:
        return 0.0
    if over <= _SLACK:
        return _TIGHT
    return _LOOSE if over * 16 <= output else 0.0


@jit_inlined
def _best_output(block: int, output: Int64s, begin: int, end: int, mask: int) -> tuple[int, float]:
    """Which of the outputs `begin` to `end` that no bit of `mask` tells taken holds a block best, and how well."""
    found, quality = -1, 0.0
    for number in range(begin, end):
        bit = np.int64(1) << min(number - begin, 62)
        if mask & bit:
            continue
        fit = _fits(block, output[number])
        if fit > quality:
            found, quality = number - begin, fit
    return found, quality


@jit_numpy_division
def trace(
    size: Int64s,
    brief: NDArray[np.bool_],
    family: Int32s,
    gain: Scores,
    asked_ns: Int64s,
    first: Int64s,
    output: Int64s,
    maker_family: Int32s,
    skip: Scores,
    start_ns: Int64s,
    least: Int64s,
    width: int,
    slack_ns: int,
) -> tuple[Int64s, Int64s, Scores]:
    """
    For every block its maker, the output of the maker that it is (-1: none of them), and its score.

    `output[first[k] : first[k + 1]]` are the bytes of the outputs of maker `k`, `skip[k]` is what it costs when none
    of them has a block; `least[j]` is the first maker that block `j` can have.
    """
    blocks, makers = len(size), len(skip)
    came = np.full((blocks, width), -1, dtype=np.int32)
    which = np.full((blocks, width), -1, dtype=np.int16)
    low = np.zeros(blocks, dtype=np.int64)
    left = np.zeros(makers + 1, dtype=np.float64)
    for maker in range(makers):
        left[maker + 1] = left[maker] + skip[maker]
    score, used = np.full(width, _NEVER, dtype=np.float32), np.zeros(width, dtype=np.int64)
    fresh, taken = np.empty(width, dtype=np.float32), np.zeros(width, dtype=np.int64)
    base, top = 0, 0
    for block in range(blocks):
        begin = max(base, top - width * 3 // 4, min(least[block], makers - 1))
        low[block] = begin
        best, best_from = np.float32(_BEGIN_LATER * left[begin]), -1
        if block > 0:
            best = _NEVER
            for maker in range(base, min(begin, base + width)):
                value = score[maker - base] + np.float32(left[maker + 1])
                if used[maker - base] == 0:
                    value -= skip[maker]
                if value > best:
                    best, best_from = value, maker
        top_score = _NEVER
        for place in range(width):
            maker = begin + place
            fresh[place] = _NEVER
            if maker >= makers:
                continue
            reached = best - np.float32((_BEGIN_LATER if block == 0 else 1.0) * left[maker])
            source, mask = best_from, 0
            if block > 0 and base <= maker < base + width:
                stay = score[maker - base]
                if stay > reached:
                    reached, source, mask = stay, maker, used[maker - base]
            found, quality = _best_output(size[block], output, first[maker], first[maker + 1], mask)
            plain = _FOREIGN if brief[block] else _LONG_LIVED
            value = plain
            if found >= 0:
                made = gain[block] * quality
                if family[block] and maker_family[maker]:
                    made += _SAME_FAMILY if family[block] == maker_family[maker] else _OTHER_FAMILY
                if brief[block]:
                    made += _BRIEF
                if made > plain:
                    value = made
                else:
                    found = -1
            if start_ns[maker] + slack_ns < asked_ns[block]:
                value += _TOO_EARLY
            fresh[place] = reached + np.float32(value)
            taken[place] = mask
            if found >= 0:
                taken[place] = mask | (np.int64(1) << min(found, 62))
            came[block, place], which[block, place] = source, found
            if fresh[place] > top_score:
                top_score, top = fresh[place], maker
            if block > 0 and base <= maker < base + width:
                value_on = score[maker - base] + np.float32(left[maker + 1])
                if used[maker - base] == 0:
                    value_on -= skip[maker]
                if value_on > best:
                    best, best_from = value_on, maker
        score, fresh = fresh, score
        used, taken = taken, used
        base = begin
    at, best = base, _NEVER
    for maker in range(base, min(base + width, makers)):
        value_end = score[maker - base] - np.float32(_END_EARLIER * (left[makers] - left[maker + 1]))
        if value_end > best:
            best, at = value_end, maker
    return _followed_back(at, low, came, which, gain)


@jit_inner
def _followed_back(at: int, low: Int64s, came: Int32s, which: Shorts, gain: Scores) -> tuple[Int64s, Int64s, Scores]:
    """The path that ends at maker `at`: of every block its maker, the output that it is, and its score."""
    blocks, width = came.shape
    maker_of = np.full(blocks, -1, dtype=np.int64)
    output_of = np.full(blocks, -1, dtype=np.int64)
    reached_by = np.zeros(blocks, dtype=np.float32)
    for block in range(blocks - 1, -1, -1):
        place = at - low[block]
        if place < 0 or place >= width:
            break
        maker_of[block], output_of[block] = at, which[block, place]
        reached_by[block] = gain[block]
        at = came[block, place]
        if at < 0:
            break
    return maker_of, output_of, reached_by
