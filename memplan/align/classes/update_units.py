"""
Updates of weights that a run writes out in elementwise kernels: one unit for each weight, told by what repeats.

Between the last product of a step and the first of the next the same series of kernels runs for one weight after the
other, each on operands of that weight's size. A unit counts as one kernel while an alignment is made: which weight it
belongs to is one question, and how many pieces of one size a weight has is then a matter of counting.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.align.classes.lowering import rule_of
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass
from memplan.align.classes.weight_pieces import WeightPiece
from memplan.core.arrays import Bools, Int32s, Int64s

_LEAST_UNITS, _LEAST_KERNELS = 3, 3
"""Units of one stretch, and kernels on the weight's size in each, from which a series counts as one that repeats."""
_FEWEST_SIZES = 2
"""Sizes of weights from which kernels over one after the other are a sweep over all of them."""
_HALF = 0.5
"""Share of the series that a unit must have: neighbours may be missing or fused."""
_LONGEST = 40
"""Kernels at most of a unit."""


@dataclass(frozen=True, slots=True)
class UpdateUnits:
    """
    Kernels with those of each unit as one.

    `kept` are the kernels that stand for themselves or for the unit they begin, `owner[kernel]` is the place among
    them of each kernel; `classes` and `kernel_class` tell what they are, `seen` counts updates by what they
    update, of which there are none where no unit is.
    """

    kept: Int64s
    owner: Int64s
    classes: tuple[TokenClass, ...]
    kernel_class: Int32s
    seen: Mapping[WeightPiece, int]


def update_units(
    found: Sequence[TokenClass], kernel_class: Int32s, pieces: Collection[WeightPiece], named: Bools
) -> UpdateUnits:
    """The units among kernels of classes `found` that update any of `pieces`; kernels that are `named` are in none."""
    count = len(kernel_class)
    unit = np.full(count, -1, dtype=np.int64)
    updated: list[WeightPiece] = []
    bits: list[int] = []
    if pieces and count:
        classes = _Candidates(found, {piece.elements for piece in pieces})
        for members in classes.units(kernel_class, named):
            unit[members] = len(updated)
            kind = max(
                (found[kernel_class[kernel]] for kernel in members), key=lambda kind: max(kind.inputs, default=0)
            )
            updated.append(WeightPiece(_size(kind), kind.rows))
            bits.append(kind.bits)
    first = unit < 0
    _, begins = np.unique(unit, return_index=True)
    first[begins] = True
    kept = np.flatnonzero(first)
    place = np.cumsum(first) - 1
    owner = place.copy()
    inside = unit >= 0
    if len(updated):
        begin_of = np.full(len(updated), -1, dtype=np.int64)
        begin_of[unit[begins[unit[begins] >= 0]]] = place[begins[unit[begins] >= 0]]
        owner[inside] = begin_of[unit[inside]]
    index: dict[TokenClass, int] = {}
    reduced = kernel_class[kept].copy()
    for at in np.flatnonzero(unit[kept] >= 0).tolist():
        number = int(unit[kept[at]])
        kind = unit_class(updated[number], bits[number])
        reduced[at] = index.setdefault(kind, len(found) + len(index))
    seen = Counter(updated)
    if seen:  # beside those that one kernel does
        seen += _done_at_once(found, kernel_class)
    return UpdateUnits(kept, owner, (*found, *index), reduced, seen)


def _done_at_once(found: Sequence[TokenClass], kernel_class: Int32s) -> Counter[WeightPiece]:
    """Updates by what they update that a kernel does alone."""
    optimizer = family_table().number("optimizer")
    counts = np.bincount(kernel_class, minlength=len(found)).tolist()
    done: Counter[WeightPiece] = Counter()
    for kind, count in zip(found, counts, strict=True):
        if kind.families[0] == optimizer and _size(kind) > 1:
            done[WeightPiece(_size(kind), kind.rows)] += count
    return done


def unit_class(piece: WeightPiece, bits: int) -> TokenClass:
    """The class of the update of a piece, planned or run."""
    size = piece.elements
    return TokenClass((family_table().number("optimizer"),), (size, size), (size,), bits, rows=piece.rows)


def _size(kind: TokenClass) -> int:
    return max(kind.inputs, default=0)


class _Candidates:
    """Classes of kernels that may be of an update: their family, and the size of weight that they work on."""

    def __init__(self, found: Sequence[TokenClass], sizes: set[int]) -> None:
        known = family_table()
        rule = rule_of(known.number("optimizer"))
        allowed = rule.parts | {*rule.kernels}
        largest = [max((*kind.inputs, *kind.outputs), default=0) for kind in found]
        main = [kind.families[0] for kind in found]
        self.scalar = np.array([size <= 1 for size in largest])
        self.size = np.array(
            [size if size in sizes and family in allowed else 0 for size, family in zip(largest, main, strict=True)],
            dtype=np.int64,
        )
        self.helps = np.array([family in allowed for family in main]) & self.scalar
        self.main = np.array(main, dtype=np.int64)
        self.rows = np.array([kind.rows for kind in found], dtype=np.int64)
        self.whole = known.number("optimizer")
        self.norm = self.main == known.number("vector_norm")
        self.heavy = np.isin(self.main, list(known.heavy))

    def units(self, kernel_class: Int32s, named: Bools) -> Iterator[list[int]]:
        """The kernels of every unit."""
        series: Counter[tuple[int, ...]] = Counter()
        runs: list[list[int]] = []
        for begin, end in self._stretches(kernel_class):
            inside = np.arange(begin, end)
            chosen = inside[(self.size[kernel_class[begin:end]] > 0) & ~named[begin:end]]
            swept = list(self._swept(chosen, kernel_class))
            if swept:
                yield from swept
                chosen = chosen[~np.isin(chosen, np.concatenate(swept))]
            if len(chosen) < _LEAST_UNITS * _LEAST_KERNELS:
                continue
            kinds = kernel_class[chosen]
            edges = np.flatnonzero((np.diff(self.size[kinds]) != 0) | (np.diff(chosen) > _LONGEST)) + 1
            here: Counter[tuple[int, ...]] = Counter()
            for members in np.split(chosen, edges):
                families = tuple(self.main[kernel_class[members]].tolist())
                period = _period(families)
                here[families[:period]] += len(members) // period
                runs.append(members.tolist())
            series |= here
        usual = max(
            (one for one, times in series.items() if len(one) >= _LEAST_KERNELS and times >= _LEAST_UNITS),
            key=lambda one: (series[one] * len(one), len(one)),
            default=(),
        )
        if not usual:
            return
        for run in runs:
            for unit in self._cut(run, kernel_class, usual):
                if len(unit) >= max(_LEAST_KERNELS, _HALF * len(usual)):
                    yield self._with_scalars(unit, kernel_class, named)

    def _swept(self, chosen: Int64s, kernel_class: Int32s) -> Iterator[list[int]]:
        """
        Units of an optimiser that does one thing to all weights before the next (`foreach`), sweep by sweep.

        A sweep is a run of kernels of one family that go over the same sizes in the same order as others do. The first
        one behind norms of the gradients clips them. A kernel that does all of an update is in none.
        """
        if len(chosen) < _LEAST_UNITS * _LEAST_KERNELS:
            return
        edges = np.flatnonzero(np.diff(self.main[kernel_class[chosen]]) != 0) + 1
        runs = [
            run.tolist()
            for run in np.split(chosen, edges)
            if len(run) >= _LEAST_UNITS and self.main[kernel_class[run[0]]] != self.whole
        ]
        sizes = [tuple(self.size[kernel_class[run]].tolist()) for run in runs]
        left = set(range(len(runs)))
        for weights, _ in Counter(sizes).most_common():
            count = len(weights)
            mine = [at for at in sorted(left) if sizes[at] == weights * (len(sizes[at]) // count)]
            sweeps = [runs[at][begin : begin + count] for at in mine for begin in range(0, len(runs[at]), count)]
            before = [
                self.norm[kernel_class[sweep[0] - count : sweep[0]]].any() for sweep in sweeps if sweep[0] >= count
            ]
            sweeps = sweeps[1:] if before and before[0] else sweeps
            if len(sweeps) < _LEAST_KERNELS or len(set(weights)) < _FEWEST_SIZES:
                continue
            left.difference_update(mine)
            yield from (list(unit) for unit in zip(*sweeps, strict=True))

    def _stretches(self, kernel_class: Int32s) -> Iterator[tuple[int, int]]:
        """Kernels between heavy ones."""
        heavy = np.flatnonzero(self.heavy[kernel_class])
        edges = np.concatenate(([-1], heavy, [len(kernel_class)]))
        for at in np.flatnonzero(np.diff(edges) > _LEAST_UNITS * _LEAST_KERNELS).tolist():
            yield int(edges[at]) + 1, int(edges[at + 1])

    def _cut(self, run: Sequence[int], kernel_class: Int32s, usual: Sequence[int]) -> Iterator[list[int]]:
        """A run of kernels on weights of one size as one unit after the other: each goes through `usual` once."""
        at: dict[int, list[int]] = defaultdict(list)
        for place, family in enumerate(usual):
            at[family].append(place)
        members: list[int] = []
        done = -1
        for kernel in run:
            places = at.get(int(self.main[kernel_class[kernel]]))
            if places is None:
                continue
            following = next((place for place in places if place > done), None)
            if following is None:
                yield members
                members, following = [], places[0]
            members.append(kernel)
            done = following
        yield members

    def _with_scalars(self, members: list[int], kernel_class: Int32s, named: Bools) -> list[int]:
        """A unit with the kernels on scalars between its own and before its first."""
        begin = members[0]
        while begin > 0 and self.helps[kernel_class[begin - 1]] and not named[begin - 1]:
            begin -= 1
        inside = range(begin, members[-1] + 1)
        mine = set(members)
        return [
            kernel for kernel in inside if kernel in mine or (self.helps[kernel_class[kernel]] and not named[kernel])
        ]


def _period(families: Sequence[int]) -> int:
    """The length of the shortest series that `families` repeat."""
    count = len(families)
    for period in range(1, count // 2 + 1):
        if count % period == 0 and all(families[place] == families[place - period] for place in range(period, count)):
            return period
    return count


def ways_run(
    ways: Mapping[int, Sequence[Sequence[WeightPiece]]],
    seen: Mapping[WeightPiece, int],
    weight_of: Mapping[int, int],
) -> Mapping[int, Sequence[WeightPiece]]:
    """
    For each update the way in which a run does it: the one whose pieces are seen, whole where none is seen more.

    A bias goes by its weight (`weight_of`): vectors of its pieces' size are many.
    """
    by_size: Counter[int] = Counter()
    for piece, times in seen.items():
        by_size[piece.elements] += times

    def count(piece: WeightPiece) -> int:
        exact = sum(times for other, times in seen.items() if other == piece)
        shaped = any(other.rows for other in seen if other.elements == piece.elements)
        return exact or (by_size[piece.elements] if not piece.rows or not shaped else 0)

    chosen: dict[tuple[Sequence[WeightPiece], ...], Sequence[WeightPiece]] = {}
    for each in ways.values():
        key = tuple(each)
        if key not in chosen:
            chosen[key] = max(each, key=lambda way: (min(count(piece) / way.count(piece) for piece in way), -len(way)))
    found = {op: chosen[tuple(each)] for op, each in ways.items()}
    for bias, weight in weight_of.items():
        if len(ways[bias]) == len(ways[weight]):
            found[bias] = ways[bias][ways[weight].index(found[weight])]
    return found
