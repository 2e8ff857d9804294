"""The alignment of one rank's kernels with the rows of a plan: which row each kernel belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.op_families import family_table
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.run_habits import with_habits
from memplan.align.second_opinions import agreement
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Float32s, Floats, Int32s, Int64s
from memplan.core.ascending import rising

_MOST_CELLS = 12_000_000
"""Cells held at once: four states of four bytes each."""
_PIECE, _OVERLAP = 60_000, 300
"""Kernels of a piece, and by how many neighbours overlap: what is near an end is taken from the piece that goes on."""
_WIDTH, _BEHIND = 72, 28
"""Rows that a kernel is compared with, and how many of them lie before where a coarse alignment puts it."""
_COARSE_KERNELS, _COARSE_OVERLAP, _COARSE_LEAST, _COARSE_ROWS, _COARSE_BEHIND = 192, 32, 16, 448, 96
"""The same of the coarse alignment, whose pieces follow one another."""
_FEW, _ABLE = 40, 100.0
"""One row in so many must be heavy to go by those alone; the ratio from which a kernel counts as one of them."""
_RARE, _FEW_MARKS, _CLEARER = 1.5, 8, 3.0
"""
Landmarks: how much more often than the rarest one they may come, how many other heavy rows there are for each at least,
and how much more likely a kernel must be one of them than another.
"""
_BESIDE = 40
"""Rows to either side of where a collective stands in which it is sought."""
_EDGE = 8
"""Rows that a collective before the first or after the last kernel of the chain may be from it."""
_SPARE = 6
"""Collectives beyond those rows by which a band is wider, so that it moves on without losing what it held."""
_SURE = 0.6
"""Probability from which a match of the coarse alignment counts."""
_FROM_NEAR = 0.6
"""How much less likely a piece begins a row further on than where the one before it ended."""
_MOVED = 0.01
"""Share of kernels that may move by more rows than a band has when habits are learnt."""
_LOST = 0.5
"""Share of kernels matched below which a piece of the coarse alignment is sought in the whole plan."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """
    For every kernel: the likeliest row (-1: none) and its probability, that of being in no plan, the rows fused in it.

    `of_scope` is the probability of the scope of `row`, or that no planned op runs the kernel where `row` has none.

    `place` is the row that is current there, whatever the kernel is; rows count on over repeated steps.
    """

    row: Int64s
    chance: Floats
    alone: Floats
    of_scope: Floats
    first: Int64s
    last: Int64s
    place: Int64s

    def part(self, begin: int, end: int) -> PairResult:
        """Kernels `begin` to `end` alone."""
        return self._of([column[begin:end] for column in self._columns()])

    @staticmethod
    def empty(kernels: int) -> PairResult:
        """Nothing matched yet."""
        nowhere = [np.full(kernels, -1, dtype=np.int64) for _ in range(4)]
        place = np.zeros(kernels, dtype=np.int64)
        chance, alone, of_scope = np.zeros(kernels), np.ones(kernels), np.ones(kernels)
        return PairResult(nowhere[0], chance, alone, of_scope, nowhere[1], nowhere[2], place)

    def put(self, which: Int64s, other: PairResult) -> None:
        """Replace kernels `which` by those of `other`."""
        for mine, theirs in zip(self._columns(), other._columns(), strict=True):
            mine[which] = theirs

    @staticmethod
    def joined(parts: Sequence[PairResult]) -> PairResult:
        """Pieces one after the other."""
        return PairResult(
            *(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True))
        )

    @staticmethod
    def _of(columns: Sequence[NDArray[Any]]) -> PairResult:
        return PairResult(*columns)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.row, self.chance, self.alone, self.of_scope, self.first, self.last, self.place


@dataclass(frozen=True, slots=True)
class _Model:
    """Columns that the loops take: classes, ratios, prices by row."""

    token: Int32s
    scope: Int64s
    ratios: Likelihoods
    names: Int64s
    place: Int64s
    time: Float32s
    stay: Float32s
    lead: Float32s
    bare: Float32s
    skip: Float32s
    skip_on: Float32s
    entry: Float32s
    ends: Float32s
    group: Int64s
    loose: Float32s
    prices: Floats
    start_inside: float

    def taken(self, rows: Int64s) -> _Model:
        """Those rows alone."""
        return self._by_row(lambda column: column[rows])

    def repeated(self, times: int) -> _Model:
        """The rows of so many steps."""
        return self._by_row(lambda column: np.tile(column, times))

    def _by_row(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> _Model:
        return replace(
            self,
            token=change(self.token),
            scope=change(self.scope),
            names=change(self.names),
            place=change(self.place),
            time=change(self.time),
            stay=change(self.stay),
            lead=change(self.lead),
            bare=change(self.bare),
            skip=change(self.skip),
            skip_on=change(self.skip_on),
            entry=change(self.entry),
            ends=change(self.ends),
            group=change(self.group),
            loose=change(self.loose),
        )


def align_pairs(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    row_names: Int64s,
    kernel_class: Int32s,
    kernel_names: Int64s,
    times: Float32s,
) -> PairResult:
    """
    Posterior of every kernel over the rows of `sequence`.

    `row_names` and `kernel_names` number names that both sides know, -1 for others; `times` are what kernels took in
    nanoseconds. Collectives run beside everything
    else, so the others are aligned without them; then those of each kind, each near where it stands. What is too large
    to be weighed whole is aligned coarsely first, by its products and attention alone, and then near that.
    """
    known = family_table()
    beside = np.isin(kernels.main, list(known.apart))[kernel_class]
    model = _model(sequence, ratios, row_names)
    chain, found = np.flatnonzero(~beside), PairResult.empty(len(kernel_class))
    if len(chain):
        classes, names = kernel_class[chain], kernel_names[chain]
        if len(chain) * len(sequence) <= _MOST_CELLS:
            low = np.zeros(len(chain), dtype=np.int64)

            def whole(model: _Model) -> PairResult:
                return _counted_on(_run(model, classes, names, low, len(sequence)), len(sequence))

            first, other = whole(model), whole(_other_prices(model))
            result = whole(replace(model, ratios=with_habits(ratios, model.token, first.row, classes)))
            # Habits tell where small kernels belong, not where in the step anything stands.
            if (np.abs(result.place - first.place) > _WIDTH).mean() > _MOVED:
                result = first
        else:
            places = _coarse_places(sequence, model, classes, names)
            some = slice(0, _PIECE)
            first, other = (
                _near(each, classes[some], names[some], places[some]) for each in (model, _other_prices(model))
            )
            model = replace(model, ratios=with_habits(model.ratios, model.token, first.row, classes[some]))
            result = _near(model, classes, names, places)
        found.put(chain, _doubted(sequence, result, (first, other), classes))
    collectives = np.flatnonzero(beside)
    _collectives(sequence, model, kernels, kernel_class, kernel_names, times, collectives, found)
    _parts_of_neighbours(sequence, kernels, kernel_class, collectives, found)
    return found


def _other_prices(model: _Model) -> _Model:
    """The model with other prices of going on with an op, and of other orders: a second opinion."""
    rules = pair_model()["second_opinion"]
    stay = np.where(model.stay < rules["stay"], model.stay, np.float32(rules["stay"]))
    lead = np.minimum(model.lead, np.float32(rules["stay"]))
    return replace(model, stay=stay, lead=lead, loose=model.loose * np.float32(rules["loose"]))


def _doubted(
    sequence: PlannedSequence, found: PairResult, others: Sequence[PairResult], kernel_class: Int32s
) -> PairResult:
    """The result, less sure where others don't agree with it (`second_opinions`)."""
    rows = len(sequence)
    # Other prices tell where small kernels belong, not where in the step anything stands.
    others = [
        each for each in others if (np.abs(each.place - found.place[: len(each.place)]) > _WIDTH).mean() <= _MOVED
    ]

    def scopes(row: Int64s) -> Int64s:
        return np.where(row >= 0, sequence.scope[row % rows] * len(found.row) * 2 + row // rows, -1)

    def ops(row: Int64s) -> Int64s:
        op = np.where(sequence.op >= 0, sequence.op, rows + np.arange(rows))
        return np.where(row >= 0, op[row % rows] + row // rows * 2 * rows, -1)

    # An update in pieces has a row for each of them, and is as likely as all of those together.
    several = np.bincount(sequence.op[sequence.op >= 0], minlength=1)[np.maximum(sequence.op, 0)] > 1
    pieced = (found.row >= 0) & (several & (sequence.op >= 0))[found.row % rows]
    chance = np.where(pieced, found.of_scope, found.chance)
    kind = np.where(found.row >= 0, sequence.token[found.row % rows], -1).astype(np.int64)
    of_op = agreement(ops(found.row), [ops(other.row) for other in others], kind, kernel_class)
    of_scope = agreement(scopes(found.row), [scopes(other.row) for other in others], kind, kernel_class)
    return replace(found, chance=chance * of_op, alone=found.alone * of_op, of_scope=found.of_scope * of_scope)


def _counted_on(found: PairResult, rows: int) -> PairResult:
    """Rows that count on over steps: one begins where the alignment falls back by more than half of the plan."""
    turn = np.cumsum(np.diff(found.place, prepend=found.place[:1]) < -rows // 2) * rows
    return replace(
        found,
        row=np.where(found.row >= 0, found.row + turn, -1),
        first=np.where(found.first >= 0, found.first + turn, -1),
        last=np.where(found.last >= 0, found.last + turn, -1),
        place=found.place + turn,
    )


def _collectives(
    sequence: PlannedSequence,
    model: _Model,
    kernels: TokenClasses,
    kernel_class: Int32s,
    kernel_names: Int64s,
    times: Float32s,
    which: Int64s,
    found: PairResult,
) -> None:
    """Align the collectives of each kind with the planned ones that such a kernel may run; adds to `found`."""
    if not len(which):
        return
    rows = len(sequence)
    before, after, off = _neighbours(found, which)
    found.place[which] = np.maximum(before, 0)
    count = np.cumsum(sequence.op >= 0)

    def planned_ops(row: Int64s) -> Int64s:
        """How many planned ops stand before rows: extra ones, which most runs have not, are no distance."""
        where: Int64s = count[row % rows] + row // rows * count[-1]
        return where

    runs = [frozenset(rule.kernels) for rule in sequence.rules]
    first = [rule.kernels[0] if rule.kernels else -1 for rule in sequence.rules]
    beside = pair_model()["beside"]
    # Neither far jumps nor another step: places tell.
    prices = np.array(
        [beside["unplanned"], beside["unplanned"], 0.0, 0.0, 0.0, *model.prices[5:7], 0.0, beside["swap"]]
    )
    main = kernels.main[kernel_class[which]]
    there = set(main.tolist())
    for kind in there:
        able = np.array(
            [kind in families and (own == kind or own not in there) for families, own in zip(runs, first, strict=True)]
        )
        planned = np.concatenate(([0], np.flatnonzero(able[sequence.token] & (sequence.op >= 0))))
        if len(planned) < 2:
            continue
        chosen = which[main == kind]
        step = found.place[chosen] // rows
        # What stands at the edge of one step may be of the next one or the one before.
        ends = (before[main == kind] - _EDGE, after[main == kind] + _EDGE)
        steps = np.unique(np.concatenate([step, *(np.maximum(end, 0) // rows for end in ends)]))
        whole = np.concatenate([planned + rows * turn for turn in steps.tolist()])
        some = model.taken(whole % rows)
        skip = np.full(len(whole), beside["skip"], dtype=np.float32)
        some = replace(
            some, place=planned_ops(whole), prices=prices, skip=skip, skip_on=skip, loose=np.zeros_like(skip)
        )
        spans = planned_ops(before[main == kind]), planned_ops(after[main == kind]), off[main == kind]
        low, width = np.zeros(len(chosen), dtype=np.int64), len(whole)
        if len(chosen) * width > _MOST_CELLS:
            low = np.maximum.accumulate(np.maximum(np.searchsorted(some.place, spans[0] - _BESIDE) - _SPARE, 0))
            width = int((np.searchsorted(some.place, spans[1] + _BESIDE) + _SPARE - low).clip(2, _COARSE_ROWS).max())
        result = _run(some, kernel_class[chosen], kernel_names[chosen], low, width, spans=spans, times=times[chosen])
        result = replace(
            result,
            row=np.where(result.row >= 0, whole[np.minimum(result.row, len(whole) - 1)], -1),
            first=whole[np.clip(result.first, 0, len(whole) - 1)],
            last=whole[np.clip(result.last, 0, len(whole) - 1)],
            place=np.where(result.row >= 0, whole[np.minimum(result.row, len(whole) - 1)], found.place[chosen]),
        )
        found.put(chosen, _one_each(result))


def _one_each(found: PairResult) -> PairResult:
    """Of kernels that are likeliest the same op's, the likelier alone."""
    order = np.lexsort((-found.chance, found.row))
    twice = np.zeros(len(found.row), dtype=np.bool_)
    twice[order[1:]] = found.row[order[1:]] == found.row[order[:-1]]
    return replace(
        found,
        row=np.where(twice, -1, found.row),
        of_scope=np.where(twice, found.alone, found.of_scope),
    )


def _neighbours(found: PairResult, which: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """
    Between which rows each of `which` stands: those of the nearest matched kernels before and after it.

    Also how many kernels that are in no plan lie between it and the nearer of the two.
    """
    chain = np.delete(np.arange(len(found.row)), which)
    if not len(chain):
        nothing = np.zeros(len(which), dtype=np.int64)
        return nothing, nothing, nothing
    at = np.searchsorted(chain, which)
    matched = np.flatnonzero(found.row[chain] >= 0)
    if not len(matched):
        matched = np.arange(len(chain))
    later = np.searchsorted(matched, at)
    first, last = later > 0, later < len(matched)
    earlier_at, later_at = matched[np.maximum(later - 1, 0)], matched[np.minimum(later, len(matched) - 1)]
    place = found.place[chain]
    before, after = place[earlier_at], place[later_at]
    off = np.minimum(np.where(first, at - 1 - earlier_at, len(chain)), np.where(last, later_at - at, len(chain)))
    # What stands before the first or after the last is near it; after a jump the two are the other way round.
    before, after = np.where(first, before, after - _EDGE), np.where(last, after, before + _EDGE)
    return np.minimum(before, after), np.maximum(before, after), off


def _parts_of_neighbours(
    sequence: PlannedSequence, kernels: TokenClasses, kernel_class: Int32s, which: Int64s, found: PairResult
) -> None:
    """Collectives without an op of their own that are a part of the op they stand in, such as the sum of a norm."""
    rows = len(sequence)
    for kernel in which[found.row[which] < 0].tolist():
        row = int(found.place[kernel])
        rule = sequence.rules[int(sequence.token[row % rows])]
        if int(kernels.main[kernel_class[kernel]]) in rule.parts:
            found.row[kernel] = found.first[kernel] = found.last[kernel] = row
            found.chance[kernel] = found.alone[kernel] = found.of_scope[kernel] = 0.5


def _near(
    model: _Model,
    kernel_class: Int32s,
    kernel_names: Int64s,
    places: Int64s,
    width: int = _WIDTH,
    behind: int = _BEHIND,
) -> PairResult:
    """
    Align every kernel with `width` rows near `places`, of which `behind` lie before them, piece by piece.

    Rows count on over steps.
    """
    rows = len(model.token)
    low = np.maximum(places - behind, 0)
    repeats = int(low.max() + width) // rows + 1
    tiled = model.repeated(repeats)
    found: list[PairResult] = []
    begin = 0
    while begin < len(kernel_class):
        end = min(begin + _PIECE * _WIDTH // width, len(kernel_class))
        left, right = max(0, begin - _OVERLAP), min(len(kernel_class), end + _OVERLAP)
        piece = _run(tiled, kernel_class[left:right], kernel_names[left:right], low[left:right], width)
        found.append(piece.part(begin - left, end - left))
        begin = end
    return PairResult.joined(found)


def _coarse_places(sequence: PlannedSequence, model: _Model, kernel_class: Int32s, kernel_names: Int64s) -> Int64s:
    """The row near which every kernel stands, counted on over steps: from heavy ops, and in between in proportion."""
    heavy_rows, heavy_kernels = _anchors(sequence, model, kernel_class)
    rows = len(heavy_rows)
    # A band may reach into the next step; where all rows are seen, the last goes on to the first.
    single = replace(model.taken(heavy_rows), entry=(np.arange(rows) == 0).astype(np.float32))
    rules = pair_model()["coarse"]
    prices = model.prices.copy()
    prices[7:9] = rules["near_jump"], rules["neighbour_jump"]
    single = replace(single, prices=prices, skip_on=np.minimum(single.skip_on, np.float32(rules["skip_on"])))
    doubled = single.repeated(2)
    classes, names = kernel_class[heavy_kernels], kernel_names[heavy_kernels]
    about = _landmark_places(single, classes, names)
    if about is not None:
        near = _near(single, classes, names, about, _COARSE_ROWS, _COARSE_ROWS // 2)
        return _between(sequence, heavy_rows, heavy_kernels, near.row, near.chance >= _SURE, len(kernel_class))
    places, certain = np.zeros(len(classes), dtype=np.int64), np.zeros(len(classes), dtype=np.bool_)
    begin, at, turn = 0, 0, 0
    while begin < len(classes):
        end = min(begin + _COARSE_KERNELS, len(classes))
        look = min(end + _COARSE_OVERLAP, len(classes))
        piece = None
        if rows > _COARSE_ROWS:
            low = np.full(look - begin, max(0, at - _COARSE_BEHIND), dtype=np.int64)
            piece = _run(doubled, classes[begin:look], names[begin:look], low, _COARSE_ROWS, near=at)
        if piece is None or float((piece.row >= 0).mean()) < _LOST:
            low = np.zeros(look - begin, dtype=np.int64)
            piece = _run(single, classes[begin:look], names[begin:look], low, rows, near=at)
        matched = np.flatnonzero(piece.row[: end - begin] >= 0)
        sure = matched[piece.chance[matched] >= _SURE]
        if len(sure) < _COARSE_LEAST:
            sure = matched  # rather the likeliest than none
        if len(sure):
            # Forwards by up to three quarters of a step, or back by the rest.
            moves = (np.diff(piece.row[sure], prepend=at) + rows // 4) % rows - rows // 4
            places[begin + sure] = at + turn * rows + np.cumsum(moves)
            certain[begin + sure] = piece.chance[sure] >= _SURE
            turn, at = divmod(int(places[begin + sure[-1]]), rows)
            end = begin + int(sure[-1]) + 1  # what follows is sought again from there
        begin = end
    return _between(sequence, heavy_rows, heavy_kernels, places, certain, len(kernel_class))


def _between(
    sequence: PlannedSequence, rows: Int64s, kernels: Int64s, places: Int64s, certain: Bools, count: int
) -> Int64s:
    """Rows near which all of `count` kernels stand, from places among `rows` that some `kernels` certainly have."""
    places, kernels = places[certain], kernels[certain]
    if not len(places):
        return np.zeros(count, dtype=np.int64)
    whole = rows[places % len(rows)] + places // len(rows) * len(sequence)
    # Equal places ascend with their kernels; what jumps ahead or back alone is left out.
    kept = rising(whole * len(whole) + np.arange(len(whole)))
    whole, kernels = whole[kept], kernels[kept]
    # Before the first and after the last of them a step goes on, to its end where kernels are enough.
    ahead, left = len(sequence) - 1 - int(whole[-1]) % len(sequence), count - 1 - int(kernels[-1])
    ends = (
        [int(whole[0]) - min(int(kernels[0]), int(whole[0]))],
        [int(whole[-1]) + (ahead if 2 * left > ahead else left)],
    )
    at = np.concatenate(([0], kernels, [count - 1]))
    return np.interp(np.arange(count), at, np.concatenate((ends[0], whole, ends[1]))).astype(np.int64)


def _landmark_places(model: _Model, kernel_class: Int32s, kernel_names: Int64s) -> Int64s | None:
    """
    Rows about which kernels stand, counted on over steps: from the rarest ones, aligned whole, and in proportion.

    What runs once a micro-batch, such as the head, says which micro-batch it is where all layers look alike. `None`
    where nothing is rare, or where it isn't found.
    """
    rows = len(model.token)
    often = np.bincount(model.token, minlength=len(model.ratios.core))
    rare = (often > 0) & (often <= _RARE * often[often > 0].min())
    marks = np.flatnonzero(rare[model.token])
    if len(marks) * _FEW_MARKS > rows:
        return None
    others = (often > 0) & ~rare
    core = model.ratios.core
    of_rare, of_others = core[rare].max(axis=0), core[others].max(axis=0)
    found = np.flatnonzero(((of_rare >= _ABLE) & (of_rare > _CLEARER * of_others))[kernel_class])
    if len(found) < 2 or len(found) * len(marks) > _MOST_CELLS:
        return None
    single = replace(model.taken(marks), entry=(np.arange(len(marks)) == 0).astype(np.float32))
    # Neighbours here are far from one another: no kernel runs two of them.
    single = replace(single, ratios=replace(model.ratios, fused=np.zeros_like(model.ratios.fused)))
    low = np.zeros(len(found), dtype=np.int64)
    result = _counted_on(_run(single, kernel_class[found], kernel_names[found], low, len(marks)), len(marks))
    sure = (result.row >= 0) & (result.chance >= _SURE)
    place = marks[result.row[sure] % len(marks)] + result.row[sure] // len(marks) * rows
    at = found[sure]
    kept = rising(place * len(place) + np.arange(len(place)))
    place, at = place[kept], at[kept]
    if len(place) < 2 or at[-1] == at[0]:
        return None
    slope = (place[-1] - place[0]) / (at[-1] - at[0])
    every = np.arange(len(kernel_class))
    about = np.interp(every, at, place)
    about = np.where(every < at[0], place[0] + (every - at[0]) * slope, about)
    about = np.where(every > at[-1], place[-1] + (every - at[-1]) * slope, about)
    return np.maximum(about, 0).astype(np.int64)


def _anchors(sequence: PlannedSequence, model: _Model, kernel_class: Int32s) -> tuple[Int64s, Int64s]:
    """Rows and kernels that a coarse alignment goes by: heavy ones and collectives, or all where there are too few."""
    known = family_table()
    rule = np.array([bool(rule.kernels) and rule.kernels[0] in known.heavy for rule in sequence.rules])
    rows = rule[sequence.token] & (sequence.op >= 0)
    if rows.sum() * _FEW < len(rows):
        rows = sequence.op >= 0
    able = (model.ratios.core[np.unique(sequence.token[rows])] >= _ABLE).any(axis=0)
    return np.flatnonzero(rows), np.flatnonzero(able[kernel_class])


def _model(sequence: PlannedSequence, ratios: Likelihoods, names: Int64s) -> _Model:
    prices = pair_model()["prices"]
    parted = np.array([bool(rule.parts) for rule in sequence.rules])[sequence.token]
    written = np.array([rule.written_out for rule in sequence.rules])[sequence.token]
    simple = np.isin(sequence.classes.main, list(family_table().keeping_size))[sequence.token]
    extra = sequence.extra >= 0
    apart = np.array([bool(rule.kernels) and rule.kernels[0] in family_table().apart for rule in sequence.rules])
    free = sequence.opens | ((sequence.op < 0) & ~extra)
    beside = apart[sequence.token] & (sequence.op >= 0)
    ordered = (
        "unplanned",
        "unplanned_on",
        "back",
        "jump",
        "wrap",
        "same_name",
        "other_name",
        "near_jump",
        "neighbour_jump",
    )
    cut = np.array([bool(each) for each in sequence.classes.pieces])[sequence.token]
    pieced = np.isin(sequence.group, np.unique(sequence.group[cut]))
    stay = np.select(
        [written, parted & ~simple], [prices["stay_written_out"], prices["stay_with_parts"]], prices["stay"]
    )
    return _Model(
        sequence.token,
        sequence.scope,
        ratios,
        names,
        np.arange(len(sequence), dtype=np.int64),
        sequence.time.astype(np.float32),
        stay.astype(np.float32),
        np.where(written, prices["lead_written_out"], stay).astype(np.float32),
        np.where(written, prices["bare_written_out"], prices["bare"]).astype(np.float32),
        np.where(free | beside, 1.0, prices["skip"]).astype(np.float32),
        np.where(free | extra | beside, 1.0, prices["skip_on"]).astype(np.float32),
        sequence.begins.astype(np.float32),
        sequence.ends,
        sequence.group,
        np.where(pieced, prices["loose_pieces"], prices["loose"]).astype(np.float32),
        np.array([prices[name] for name in ordered]),
        float(prices["start_inside"]),
    )


def _run(
    model: _Model,
    kernel_class: Int32s,
    kernel_names: Int64s,
    low: Int64s,
    width: int,
    *,
    near: int | None = None,
    spans: tuple[Int64s, Int64s, Int64s] | None = None,
    times: Float32s | None = None,
) -> PairResult:
    """
    Kernels against `width` rows from `low` on.

    They begin at row `near`, or where steps begin, likelier than elsewhere. `spans` are places between which each
    kernel stands and how many kernels from them, where that is known, and `times` are what they took.
    """
    from memplan.align.pair_loops import forward, posterior

    kernels = len(kernel_class)
    nowhere = np.full(kernels, -1, dtype=np.int64)
    spans = spans or (nowhere, nowhere, nowhere)
    times = nowhere.astype(np.float32) if times is None else times
    cells = np.empty((kernels, width, 4), dtype=np.float32)
    scale, end = np.empty(kernels), np.empty(width)
    start = np.full(width + 1, model.start_inside)
    if near is None:
        stretch = model.entry[low[0] : low[0] + width]
        start[: len(stretch)][stretch > 0] = 1.0
    else:
        # Where the piece before ended, or a little further on.
        ahead = np.arange(width + 1) + int(low[0]) - near - 1
        start = np.maximum(_FROM_NEAR ** np.abs(np.where(ahead >= 0, ahead, 2.0 * ahead)), model.start_inside**3)
    shared = (
        model.token, kernel_class, low, model.ratios.core, model.ratios.before, model.ratios.behind,
        model.ratios.again, model.ratios.fused,
        model.names, kernel_names, model.place, *spans, model.time, times, model.stay, model.lead, model.bare,
        model.skip, model.skip_on, model.entry, model.ends, *_spans(model.group), model.loose, model.prices,
    )  # fmt: skip
    forward(*shared, start, cells, scale, end)
    final = np.full(width, model.start_inside)
    if near is None and len(model.token) - int(low[-1]) <= width:
        final[len(model.token) - int(low[-1]) - 1] = 1.0
    total = float((end * final).sum())
    best, first_op, last_op, place = (np.empty(kernels, dtype=np.int64) for _ in range(4))
    chance, alone, of_scope = np.empty(kernels), np.empty(kernels), np.empty(kernels)
    posterior(
        *shared, model.scope, cells, scale, final, total if total > 0 else 1.0,
        best, chance, alone, of_scope, first_op, last_op, place,
    )  # fmt: skip
    row = np.where(chance > alone, best, -1)
    chance, alone, of_scope = (np.clip(column, 0.0, 1.0) for column in (chance, alone, of_scope))
    return PairResult(row, chance, alone, of_scope, first_op, last_op, place)


def _spans(group: Int64s) -> tuple[Int64s, Int64s]:
    """The first row and the row after the last of the group of each row."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1, [len(group)]))
    sizes = np.diff(edges)
    return np.repeat(edges[:-1], sizes), np.repeat(edges[1:], sizes)
