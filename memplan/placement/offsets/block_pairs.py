"""Which blocks are there at the same time, and how far apart that keeps them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.core.errors import InputError
from memplan.placement.offsets.problem import Buffer, Problem

FAR = 2**62
"""Above every address and every capacity; what has no limit."""
MAX_PAIRS = 40_000_000
"""Most pairs of blocks that are written out; about 1 GB."""


def interval_ranks(buffers: tuple[Buffer, ...]) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Distinct times, and rank of start, rank of end and buffer of every interval that is not empty."""
    if all(len(buffer.intervals) == 1 for buffer in buffers):  # the common case, and there may be a million of them
        spans = [buffer.intervals[0] for buffer in buffers]
        owner = np.arange(len(buffers), dtype=np.int64)
    else:
        spans = [interval for buffer in buffers for interval in buffer.intervals]
        lengths = np.fromiter((len(buffer.intervals) for buffer in buffers), np.int64, len(buffers))
        owner = np.repeat(np.arange(len(buffers), dtype=np.int64), lengths)
    table = np.array(spans, np.int64).reshape(-1, 2)
    sizes = np.fromiter((buffer.size for buffer in buffers), np.int64, len(buffers))
    keep = (table[:, 0] < table[:, 1]) & (sizes[owner] > 0)
    table, owner = table[keep], owner[keep]
    times, ranks = np.unique(table, return_inverse=True)
    ranks = ranks.reshape(-1, 2).astype(np.int64)
    return times, np.ascontiguousarray(ranks[:, 0]), np.ascontiguousarray(ranks[:, 1]), owner


def disjoint_parts(
    buffers: tuple[Buffer, ...], block_of: Int64s, rel: Int64s, count: int, starts: Int64s, ends: Int64s, owner: Int64s
) -> tuple[Int64s, Int64s]:
    """Disjoint rectangles by block: `part_ptr` and rows lo, hi, start, end."""
    sizes = np.fromiter((buffer.size for buffer in buffers), np.int64, len(buffers))
    low = rel[owner]
    rows = np.stack([low, low + sizes[owner], starts, ends])
    block = block_of[owner]
    order = np.lexsort((starts, block))
    rows, block = rows[:, order], block[order]
    per_block = np.bincount(block, minlength=count)
    if (per_block > 1).any():
        bounds = np.concatenate([[0], np.cumsum(per_block)])
        pieces: list[Int64s] = []
        done = 0
        for b in np.flatnonzero(per_block > 1):
            pieces.append(rows[:, done : bounds[b]])
            merged = _disjoint(rows[:, bounds[b] : bounds[b + 1]])
            pieces.append(merged)
            per_block[b] = merged.shape[1]
            done = int(bounds[b + 1])
        rows = np.concatenate([*pieces, rows[:, done:]], axis=1)
    return np.concatenate([[0], np.cumsum(per_block)]).astype(np.int64), np.ascontiguousarray(rows)


def _disjoint(rows: Int64s) -> Int64s:
    """The same area as `rows` (lo, hi, start, end) in as few disjoint rectangles as slabs of equal time allow."""
    cuts = np.unique(rows[2:])
    open_since: dict[tuple[int, int], int] = {}
    out: list[tuple[int, int, int, int]] = []
    for left in cuts:
        alive = rows[:, (rows[2] <= left) & (rows[3] > left)]
        spans: set[tuple[int, int]] = set()
        for k in np.argsort(alive[0], kind="stable"):
            lo, hi = int(alive[0, k]), int(alive[1, k])
            touching = next((span for span in spans if span[1] >= lo), None)
            if touching is not None:
                spans.discard(touching)
                lo, hi = touching[0], max(touching[1], hi)
            spans.add((lo, hi))
        closed = [span for span in open_since if span not in spans]
        out.extend((*span, open_since.pop(span), int(left)) for span in closed)
        for span in spans:
            open_since.setdefault(span, int(left))
    return np.array(sorted(out, key=lambda row: (row[2], row[0])), np.int64).reshape(-1, 4).T


def pairs_of(
    pairs: tuple[tuple[int, int], ...],
    index: dict[int, int],
    buffers: tuple[Buffer, ...],
    block_of: Int64s,
    rel: Int64s,
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Forbidden differences of block bases for buffers that must not overlap in address."""
    first = np.fromiter((index[a] for a, _ in pairs), np.int64, len(pairs))
    second = np.fromiter((index[b] for _, b in pairs), np.int64, len(pairs))
    return _forbidden(first, second, buffers, block_of, rel)


def _forbidden(
    first: Int64s, second: Int64s, buffers: tuple[Buffer, ...], block_of: Int64s, rel: Int64s
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    sizes = np.fromiter((buffer.size for buffer in buffers), np.int64, len(buffers))
    block_a, block_b = block_of[first], block_of[second]
    # base_b + rel_j < base_a + rel_i + size_i and base_a + rel_i < base_b + rel_j + size_j
    low = rel[first] - rel[second] - sizes[second]
    high = rel[first] + sizes[first] - rel[second]
    occupied = (sizes[first] > 0) & (sizes[second] > 0)
    inside = block_a == block_b
    clash = np.flatnonzero(inside & occupied & (low < 0) & (high > 0))
    if len(clash):
        ids = buffers[int(first[clash[0]])].id, buffers[int(second[clash[0]])].id
        raise InputError("buffers {} and {} must not share addresses but are tied onto each other", ids[0], ids[1])
    keep = occupied & ~inside
    swap = block_a > block_b
    table = np.stack([
        np.where(swap, block_b, block_a), np.where(swap, block_a, block_b),
        np.where(swap, -high, low), np.where(swap, -low, high),
    ])[:, keep]  # fmt: skip
    table = np.unique(table, axis=1)
    return table[0], table[1], table[2], table[3]


def forbidden_differences(buffers: tuple[Buffer, ...], rel: Int64s, first: int, second: int) -> tuple[int, int]:
    """Between which differences of block bases (second less first) two buffers share addresses."""
    distance = int(rel[first] - rel[second])
    return distance - buffers[second].size, distance + buffers[first].size


def graph_pairs(
    problem: Problem, index: dict[int, int], block_of: Int64s, rel: Int64s, starts: Int64s, ends: Int64s, owner: Int64s
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """All pairs of buffers that must not overlap in address, when lifetimes alone do not say so."""
    n = len(problem.buffers)
    if problem.conflicts is not None:
        meeting = np.array(sorted(problem.conflicts), np.int64).reshape(-1, 2)
        lookup = np.vectorize(index.__getitem__, otypes=[np.int64])
        meeting = lookup(meeting) if meeting.size else meeting
        tied = block_of[meeting[:, 0]] == block_of[meeting[:, 1]]
        meeting = meeting[~tied]  # aliases of each other
    else:
        meeting = overlapping_pairs(starts, ends, owner)
        meeting = meeting[block_of[meeting[:, 0]] != block_of[meeting[:, 1]]]
    key = np.unique(meeting.min(axis=1, initial=n) * n + meeting.max(axis=1, initial=0)) if len(meeting) else meeting
    if problem.exclusions and problem.conflicts is None:
        excluded = np.array([sorted((index[a], index[b])) for a, b in problem.exclusions], np.int64)
        key = np.setdiff1d(key, excluded[:, 0] * n + excluded[:, 1])
    key = key.reshape(-1)
    separated = np.array([sorted((index[a], index[b])) for a, b in problem.separations], np.int64).reshape(-1, 2)
    key = np.unique(np.concatenate([key, separated[:, 0] * n + separated[:, 1]]))
    return _forbidden(key // max(n, 1), key % max(n, 1), problem.buffers, block_of, rel)


def overlapping_pairs(starts: Int64s, ends: Int64s, owner: Int64s) -> NDArray[np.int64]:
    """
    Pairs of `owner` with intervals that overlap, shape `[pairs, 2]`, possibly repeated.

    Raises `InputError` above `MAX_PAIRS`.
    """
    order = np.argsort(starts, kind="stable")
    starts, ends, owner = starts[order], ends[order], owner[order]
    last = np.searchsorted(starts, ends, side="left")
    reach = last - np.arange(len(starts)) - 1  # later intervals that start before this one ends
    total = int(reach.sum())
    if total > MAX_PAIRS:
        raise InputError("{} pairs of buffers are alive together, too many to list beside exclusions", total,
                         remedy="drop the exclusions or split the graph")  # fmt: skip
    left = np.repeat(np.arange(len(starts)), reach)
    right = np.arange(total) - np.repeat(np.cumsum(reach) - reach, reach) + left + 1
    return np.stack([owner[left], owner[right]], axis=1)
