"""Stretches of small kernels between two main ones, of which a run has the same in every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.align.assignment import KernelAssignment
from memplan.align.op_families import family_table
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Int32s, Int64s

_MOST_KERNELS, _MOST_ROWS = 80, 16
"""Kernels, and rows of the plan, of a stretch at most."""
_MOST_STRETCHES = 250
"""Kinds of stretches that are looked at: those of most kernels."""


@dataclass(frozen=True, slots=True)
class PartStretch:
    """
    All stretches of a kind, which stand behind kernels `begins` - 1 of the `kernels` (those that run one by one).

    `kinds` are the classes of their kernels, `tokens` those of the ops they may be of, the first and last of which run
    the main kernels before and behind them; `offsets` are the rows of these counted from `rows`, that of the first one
    of each stretch. `cut` is which of these ops each kernel is matched with, -1 for none. It is `open` where it may be
    cut otherwise. `places` counts the kernels of one.
    """

    kernels: Int64s
    begins: Int64s
    rows: Int64s
    places: Int64s
    kinds: Int64s
    tokens: Int64s
    offsets: Int64s
    cut: Int64s
    open: bool


def part_stretches(
    sequence: PlannedSequence, kernels: TokenClasses, kernel_class: Int32s, inside: Bools, found: KernelAssignment
) -> list[PartStretch]:
    """The kinds of stretches of an assignment, those of most kernels first."""
    known = family_table()
    heavy = np.isin(sequence.classes.main[sequence.token], list(known.heavy))
    chain = np.flatnonzero(~inside & ~np.isin(kernels.main, list(known.apart))[kernel_class])
    row, step = found.row[chain], found.step[chain]
    anchor = found.core[chain] & (row >= 0) & (found.first[chain] == found.last[chain])
    anchor &= heavy[row] & np.isin(kernels.main, list(known.heavy))[kernel_class[chain]]
    at = np.flatnonzero(anchor)
    if len(at) < 2:
        return []
    begins, ends = at[:-1] + 1, at[1:]
    first, last = row[at[:-1]], row[at[1:]]
    size = ends - begins
    good = (size > 0) & (size <= _MOST_KERNELS) & (step[at[:-1]] == step[at[1:]])
    # Nothing of several ops, of other steps or of what stands beside the plan.
    strange = (found.first[chain] != found.last[chain]) | ((row >= 0) & (sequence.op[row] < 0))
    strange |= np.append(False, step[1:] != step[:-1])
    total = np.concatenate(([0], np.cumsum(strange)))
    good &= total[ends] == total[begins]
    begins, ends, first, last, size = (each[good] for each in (begins, ends, first, last, size))
    if not len(begins):
        return []
    ran = _ran(found, len(sequence))
    _, step_number = np.unique(found.step, return_inverse=True)
    number = step_number[chain[begins]]
    hashes = _hashes(sequence, kernel_class[chain], row, begins, ends, first, last, number, ran)
    _, head, kind, count = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(-count * size[head], kind="stable")[:_MOST_STRETCHES]
    members = np.split(np.argsort(kind, kind="stable"), np.cumsum(count)[:-1])
    stretches = []
    for which in order.tolist():
        one = int(head[which])
        made = _stretch(sequence, heavy, chain, kernel_class, row, begins, ends, first, last, one, members[which], ran[number[one]])
        if made is not None:
            stretches.append(made)
    return stretches


def _ran(found: KernelAssignment, rows: int) -> Bools:
    """Whether any kernel runs each row of each step."""
    steps, step = np.unique(found.step, return_inverse=True)
    ran = np.zeros((len(steps), rows), dtype=np.bool_)
    matched = found.row >= 0
    ran[step[matched], found.row[matched]] = True
    return ran


def _hashes(
    sequence: PlannedSequence,
    kinds: Int32s,
    row: Int64s,
    begins: Int64s,
    ends: Int64s,
    first: Int64s,
    last: Int64s,
    step: Int64s,
    ran: Bools,
) -> Int64s:
    """A number for each stretch that is equal for those of one kind."""
    chance = np.random.default_rng(0)
    size = ends - begins
    of = np.repeat(np.arange(len(begins)), size)
    place = np.arange(len(of)) - np.repeat(np.cumsum(size) - size, size)
    kernel = begins[of] + place
    away = np.where(row[kernel] >= 0, row[kernel] - first[of], -len(sequence) - 1)
    token = np.where(row[kernel] >= 0, sequence.token[row[kernel]], -1)
    key = np.zeros(len(of), dtype=np.uint64)
    for column in (kinds[kernel], away, token, place):
        key = _mixed(key ^ _mixed(column.astype(np.int64).view(np.uint64)))
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(key)))
    stretch = total[np.cumsum(size)] - total[np.cumsum(size) - size]
    # The plan between both ends: pairs of neighbours, and what of it is left out.
    tokens = sequence.token.astype(np.int64)
    pairs = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mixed((tokens[:-1] * 65599 + tokens[1:]).view(np.uint64)))))
    missed = np.concatenate((np.zeros((len(ran), 1), np.int64), np.cumsum(~ran, axis=1)), axis=1)
    low, high = np.minimum(first, last), np.maximum(first, last)
    for column in (
        (pairs[high] - pairs[low]),
        (last - first).view(np.uint64),
        tokens[first].view(np.uint64),
        (missed[step, high] - missed[step, low]).view(np.uint64),
    ):
        stretch = _mixed(stretch ^ _mixed(column))
    del chance
    return stretch.view(np.int64)


def _mixed(value: np.ndarray) -> np.ndarray:
    """Bits of 64-bit numbers spread over all of them (splitmix64)."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _stretch(sequence, heavy, chain, kernel_class, row, begins, ends, first, last, one, members, ran):
    begin, end, low, high = int(begins[one]), int(ends[one]), int(first[one]), int(last[one])
    mine = row[begin:end]
    seen = list(dict.fromkeys(mine[mine >= 0].tolist()))
    inner = [each for each in seen if each not in (low, high)]
    if low < high <= low + _MOST_ROWS and all(low <= each <= high for each in seen):
        here = set(inner)
        inner = [
            each for each in range(low + 1, high)
            if each in here or (not heavy[each] and not ran[each] and sequence.op[each] >= 0)
        ]
    if any(heavy[each] and len(sequence.rules[sequence.token[each]].kernels) and not sequence.rules[sequence.token[each]].written_out for each in inner):
        return None
    rows = [low, *inner, high]
    if len(rows) > _MOST_ROWS:
        return None
    number = {each: place for place, each in reversed(list(enumerate(rows)))}
    cut = np.array([number[each] if each >= 0 else -1 for each in mine.tolist()], dtype=np.int64)
    if low == high:
        return None
    return PartStretch(
        chain, begins[members], first[members], np.arange(end - begin), kernel_class[chain[begin:end]].astype(np.int64),
        sequence.token[rows].astype(np.int64), np.array(rows, dtype=np.int64) - low, cut,
        len(np.unique(cut)) > 1 or len(inner) > 1 or bool((cut < 0).any()),
    )


__all__ = ["PartStretch", "part_stretches"]
