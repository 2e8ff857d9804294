"""
Equal ops in a row that are written out, of which one seems to run kernels of the next.

The rotary embeddings of queries and keys, or the norms of both with the gradients of their weights: where the kernels
are some and the same ones once more, each has one half.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Int32s, Int64s

_SIZES = (1, 2)
"""Rows of which equal ones follow: one op, or one and what stands with it."""
_FEWEST = 4
"""Kernels that a half has at least: fewer are alike by chance."""
_BESIDE = 3
"""Kernels before and behind the halves that may be another op's, and that another op may have of them."""
_MOST = 200
"""Kernels of both up to which halves are sought."""


def take_halves(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where two such ops ran."""
    sequence, kernel_class = both.sequence, both.kernel_class
    known: dict[bytes, tuple[int, int]] = {}
    for size in _SIZES:
        for first, members in _of_both(sequence, found, size):
            kinds = kernel_class[members]
            text = kinds.tobytes()
            if text not in known:
                known[text] = _halves(kinds)
            begin, half = known[text]
            mine = members[begin : begin + 2 * half]
            inside = (found.row[mine] >= first) & (found.row[mine] < first + 2 * size)
            offset = (found.row[mine] - first) % size
            # What another op had has the offset of its like in the other half.
            offset = np.where(inside, offset, np.roll(offset, half))
            row = first + offset + np.repeat([0, size], half)
            found.core[mine[~inside]] = False
            found.match(mine, row)


def _of_both(sequence: PlannedSequence, found: KernelAssignment, size: int) -> Iterator[tuple[int, Int64s]]:
    """
    The first of twice `size` rows, one half like the other, and the kernels, ascending, that run them in one step.

    With those right behind, which may be of them, too.
    """
    token, rows = sequence.token, len(sequence)
    written = np.array([rule.written_out for rule in sequence.rules])
    last = rows - 2 * size + 1
    alike = np.ones(max(last, 0), dtype=np.bool_)
    for more in range(size):
        alike &= token[more : more + last] == token[more + size : more + size + last]
    pairs = np.flatnonzero(alike & written[token[: len(alike)]] & (sequence.op[: len(alike)] >= 0))
    alone = np.flatnonzero((found.row >= 0) & (found.first == found.last))
    if not len(pairs) or not len(alone):
        return
    key = found.step[alone] * rows + found.row[alone]
    order = np.argsort(key, kind="stable")
    kernels, key = alone[order], key[order]
    steps = np.unique(found.step) * rows
    for first in pairs.tolist():
        begin, end = (np.searchsorted(key, steps + first + more) for more in (0, 2 * size))
        for place in np.flatnonzero((end - begin >= 2 * _FEWEST - _BESIDE) & (end - begin <= _MOST)).tolist():
            mine = np.sort(kernels[begin[place] : end[place]])
            after = np.arange(mine[-1] + 1, min(mine[-1] + 1 + _BESIDE, len(found.row)))
            free = (found.first[after] == found.last[after]) & (found.row[after] >= 0) & ~found.core[after]
            yield first, np.concatenate([mine, after[np.cumprod(free).astype(np.bool_)]])


def _halves(kinds: Int32s) -> tuple[int, int]:
    """Where the longest two equal halves of `kinds` begin, and how long each is: 0 where there are none."""
    found, count = kinds.tolist(), len(kinds)
    for half in range(count // 2, _FEWEST - 1, -1):
        over = count - 2 * half
        for begin in range(max(0, over - 2 * _BESIDE), min(over, _BESIDE) + 1):
            if found[begin : begin + half] == found[begin + half : begin + 2 * half]:
                return begin, half
    return 0, 0


__all__ = ["take_halves"]
