"""
Landmarks of a long run: what a step has rarely, and which of them each is that a run has.

What runs once a micro-batch, such as the head, says which micro-batch it is where all layers look alike; where a stage
has nothing of the kind, one op that follows another once a micro-batch does, such as the first of a way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memplan.align.pairs.pair_columns import EndCosts
from memplan.align.pairs.pair_prices import PairPrices
from memplan.core.arrays import Floats, Int32s, Int64s

ABLE = 100.0
"""The ratio from which a kernel counts as one that runs an op."""
_RARE = 1.5
"""How much more often than the rarest of them landmarks may come."""
_MOST_PAIRS = 8_000_000
"""Pairs of a planned and a measured landmark that are held at once."""
_LEAST_CHAINED = 0.5
"""Share of the measured landmarks below which a chain of them isn't gone by."""
_STEADY, _OFF = 0.25, 0.02
"""Share by which two distances may differ that are of the same ops, and that from which all are taken anew."""
_QUANTILES, _SAME_STEPS = (0.5, 0.15), 0.2
"""
Among how often kinds ran, those that may be how many steps there are: most kinds are one kernel, or (weights apart that
a plan has as one) some are; and by what share two of them are the same.
"""
_NONE = -1


@dataclass(frozen=True, slots=True)
class LandmarkChain:
    """
    Kernels that are landmarks, ascending, and the row of each, counted on over steps.

    `place` says where each row of one step stands in kernels of the run, at whose end the next step begins; `score`
    how likely the chain is, as `chain_of` counts.
    """

    kernel: Int64s
    row: Int64s
    place: Floats
    score: float

    def places(self) -> Floats:
        """Where the landmarks are planned, in kernels."""
        rows = len(self.place) - 1
        known: Floats = self.place[self.row % rows] + self.row // rows * self.place[-1]
        return known

    def scale(self) -> float:
        """How much further apart they are in the run than planned, where nothing is left out between them."""
        ran, planned = np.diff(self.kernel), np.diff(self.places())
        steady = np.abs(ran - planned) <= _STEADY * np.maximum(ran, planned) + 1.0
        return float(ran[steady].sum()) / float(planned[steady].sum()) if steady.any() else 1.0

    def about(self, kernels: int) -> Int64s:
        """The row near which each of so many kernels stands: between landmarks, and beyond them, in proportion."""
        rows = len(self.place) - 1
        whole = self.place[-1]
        known, every = self.places(), np.arange(kernels)
        along = np.interp(every, self.kernel, known)
        along += np.minimum(every - self.kernel[0], 0) + np.maximum(every - self.kernel[-1], 0)
        along = np.maximum(along, 0.0)
        turn = np.floor_divide(along, whole)
        row = np.searchsorted(self.place, along - turn * whole, side="right") - 1
        about: Int64s = np.clip(row, 0, rows - 1).astype(np.int64) + turn.astype(np.int64) * rows
        return about


def landmark_chain(
    model: PairPrices, kernel_class: Int32s, among: Int64s, every: Floats, ends: EndCosts
) -> LandmarkChain | None:
    """
    The landmarks of a run among the rows of `model`; `None` where nothing is rare, or where it isn't found.

    `among` is where each kernel stands among those of all kinds, `every` how many ops of any kind a step has before
    each row and as a whole; `ends` what it costs to begin and end in a step.
    """
    rows, ran = _kinds(model, kernel_class)
    for planned, seen in ((rows, ran), (_following(rows), _following(ran))):
        landmarks = _rare(planned, seen)
        found = []
        for place in _places(rows, ran):
            chain = _chained(*landmarks, among, place, every, ends)
            # How many kernels a step has isn't known of a run of a part of one until its landmarks tell.
            scale = 1.0 if chain is None else chain.scale()
            if chain is not None and abs(scale - 1.0) > _OFF:
                chain = _chained(*landmarks, among, place * scale, every, ends)
            if chain is not None:
                found.append(chain)
        if found:
            return max(found, key=lambda chain: chain.score)
    return None


def _chained(
    planned: Int64s, seen: Int64s, among: Int64s, place: Floats, every: Floats, ends: EndCosts
) -> LandmarkChain | None:
    """The chain of landmarks among rows and kernels, -1 where they are none."""
    from memplan.align.pairs.chain_loops import chain_of

    marks, found = np.flatnonzero(planned >= 0), np.flatnonzero(seen >= 0)
    often = np.bincount(planned[marks], minlength=1)
    pairs = often[seen[found]]
    if len(found) < 2 or pairs.sum() > _MOST_PAIRS:
        return None
    offset = np.cumsum(pairs) - pairs
    score, back = np.empty(int(pairs.sum())), np.empty(int(pairs.sum()), dtype=np.int64)
    ordered = marks[np.argsort(planned[marks], kind="stable")]
    first = np.concatenate(([0], np.cumsum(often)))
    rank = np.cumsum(planned >= 0, dtype=np.int64)
    # As many kernels of all kinds for each op as of the heavy ones.
    all_kinds = every * (float(among[-1] + 1) / len(seen) * float(place[-1]) / float(every[-1]))
    last = chain_of(
        seen[found], found, among[found], len(seen), ordered, first, rank, place, all_kinds,
        tuple(ends), score, back, offset,
    )  # fmt: skip
    worth = float(score[last]) if last >= 0 else 0.0
    chained = []
    while last >= 0:
        chained.append(last)
        last = int(back[last])
    if len(chained) < max(2, _LEAST_CHAINED * min(len(found), len(marks))):
        return None
    pair = np.array(chained[::-1], dtype=np.int64)
    which = np.searchsorted(offset, pair, side="right") - 1
    row = ordered[first[seen[found[which]]] + pair - offset[which]]
    turn = np.cumsum(np.diff(row, prepend=row[:1] - 1) <= 0)
    return LandmarkChain(found[which], row + turn * len(planned), place, worth)


def _kinds(model: PairPrices, kernel_class: Int32s) -> tuple[Int64s, Int64s]:
    """Which kind of op each row is, and each kernel likeliest runs, -1 where it could run none; equal ones are one."""
    core = model.ratios.core
    present = np.unique(model.ops.token)
    kind = np.unique(core[present][:, np.unique(kernel_class)], axis=0, return_inverse=True)[1]
    of_token = np.full(len(core), _NONE, dtype=np.int64)
    of_token[present] = kind
    best = present[core[present].argmax(axis=0)]
    able = core[present].max(axis=0) >= ABLE
    of_class = np.where(able, of_token[best], _NONE)
    return of_token[model.ops.token], of_class[kernel_class]


def _places(rows: Int64s, ran: Int64s) -> Iterator[Floats]:
    """
    Where each row begins, in kernels, and where a step ends: how often each kind ran for each time it is planned.

    How many steps a run has is not known: as many as each kind ran which is one kernel. Those it may be are tried.
    """
    often = np.bincount(rows).astype(np.float64)
    times = np.bincount(ran[ran >= 0], minlength=len(often)) / np.maximum(often, 1.0)
    seen = times[times > 0]
    tried: list[float] = []
    for share in _QUANTILES:
        steps = float(np.quantile(seen, share, method="nearest")) if len(seen) else 1.0
        if all(abs(steps / other - 1.0) > _SAME_STEPS for other in tried):
            tried.append(steps)
            each = np.maximum(times / steps, 1e-3)
            each *= (len(ran) / steps) / float((each * often).sum())
            yield np.concatenate(([0.0], np.cumsum(each[rows])))


def _following(kinds: Int64s) -> Int64s:
    """Pairs of neighbours as kinds: which follows which; -1 where either is unknown."""
    before = np.concatenate(([_NONE], kinds[:-1]))
    pairs: Int64s = np.where((before >= 0) & (kinds >= 0), before * (1 << 20) + kinds, _NONE)
    return pairs


def _rare(planned: Int64s, seen: Int64s) -> tuple[Int64s, Int64s]:
    """The rarest kinds of those that a run has, numbered anew; -1 for all others."""
    kinds, often = np.unique(planned[planned >= 0], return_counts=True)
    ran = np.isin(kinds, seen)
    if not ran.any():
        return np.full_like(planned, _NONE), np.full_like(seen, _NONE)
    chosen = kinds[ran & (often <= _RARE * often[ran].min())]

    def numbered(values: Int64s) -> Int64s:
        at = np.minimum(np.searchsorted(chosen, values), len(chosen) - 1)
        numbers: Int64s = np.where(chosen[at] == values, at, _NONE)
        return numbers

    return numbered(planned), numbered(seen)
