"""
The ops of a plan as the alignment walks them, with what frameworks run around the optimiser and no plan has.

Before a bucket of gradients is exchanged they are checked and scaled; before the updates their norm is taken and they
are clipped, weight by weight in the order of the updates; afterwards 16-bit weights are copied from the float32 ones.
Such an extra op costs nothing to leave out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.align.classes.lowering import LoweringRule, rule_of
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, TokenClasses, plan_tokens, token_classes
from memplan.align.classes.update_units import unit_class
from memplan.align.classes.weight_pieces import Pieces, WeightPiece
from memplan.align.planned.loose_groups import loose_groups
from memplan.core.arrays import Int32s, Int64s
from memplan.core.distinct import distinct, first_rows
from memplan.core.resources import table
from memplan.schema import Plan

_ENDS_EARLY, _WITHOUT_UPDATES = 0.03, 0.0005
"""How likely a step ends among its updates, and before any of them, relatively to its last op."""


class TextNumbers:
    """Texts as numbers into a list of them; -1 for none."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._number = {text: number for number, text in enumerate(texts)}

    def __call__(self, text: str | None) -> int:
        return -1 if text is None else self._number.setdefault(text, len(self._number))

    def each(self, texts: Iterable[str | None]) -> Int64s:
        """The numbers of many."""
        number = self._number
        found = [-1 if text is None else number.setdefault(text, len(number)) for text in texts]
        return np.array(found, dtype=np.int64)

    def values(self) -> tuple[str, ...]:
        return tuple(self._number)


@dataclass(frozen=True, slots=True)
class ExtraOp:
    """
    What no plan has but many runs do: what it is, and the planned op (an update or an exchange) it belongs to.

    `whole` is whether it is done for all of a bucket at once, `phase` the one that it stands in.
    """

    what: str
    of: int
    whole: bool
    phase: str


@dataclass(frozen=True, slots=True)
class PlannedSequence:
    """
    Rows of the alignment: a sentinel, then ops of the plan and extra ones.

    `op` is the planned op of a row or -1, `extra` the number of the extra op in `extras` or -1; `classes[token]` is
    what a row is compared by and `rules` what runs each class. `place` has four columns: number of the phase in
    `phases`, micro-batch, layer and number of the part in `parts`, each -1 where there is none; `scope` numbers those
    of planned ops, -1 for other rows. `begins` marks rows a step may begin with, `ends` how likely it is, relatively,
    that it ends after a row. `group` numbers neighbours that run in any order (`loose_groups`), `block` those of one
    layer of one way, or of what lies between layers.
    """

    op: Int64s
    extra: Int64s
    extras: tuple[ExtraOp, ...]
    token: Int32s
    place: Int32s
    phases: tuple[str, ...]
    parts: tuple[str, ...]
    scope: Int64s
    classes: TokenClasses
    rules: tuple[LoweringRule, ...]
    begins: NDArray[np.bool_]
    opens: NDArray[np.bool_]
    ends: NDArray[np.float32]
    time: Int64s
    group: Int64s
    block: Int64s

    def __len__(self) -> int:
        return len(self.op)


def planned_sequence(
    plan: Plan,
    ops: Sequence[int],
    pieces: Mapping[int, Sequence[WeightPiece]] | None = None,
    cut: Mapping[int, Pieces] | None = None,
) -> PlannedSequence:
    """
    The rows of `plan`: those ops in that order (`run_order`), and what frameworks do beside them.

    Updates have a row for each of the `pieces` in which the run keeps the weight; `cut` is what `pieces_of_ops` says.
    """
    found, codes = plan_tokens(plan, ops, cut)
    rows = _Rows(found, codes)
    around = table("memplan.align", "lowering.json")["around_the_optimizer"]
    optimizer = family_table().number("optimizer")
    family = np.array([kind.families[0] for kind in found], dtype=np.int64)[codes]
    updates = np.flatnonzero(family == optimizer).tolist()
    buckets = {
        place: sum(found[codes[place]].inputs)
        for place in np.flatnonzero(np.isin(family, list(family_table().collectives))).tolist()
        if plan.ops[ops[place]].phase == "grad_sync"
    }
    sizes = {place: max(found[codes[place]].inputs, default=0) for place in updates}
    of_pieces = {place: () if pieces is None else pieces.get(ops[place], ()) for place in updates}
    kept = {place: [piece.elements for piece in each] or [sizes[place]] for place, each in of_pieces.items()}
    if updates:
        rows.add_extra(_zeroing(plan, around, ops, buckets, sizes))
    begins = 1 + len(rows.extras)
    done = 0
    for place in sorted({*buckets, *updates}):
        rows.add_ops(done, place)
        if place in buckets:
            entries = around["before_a_bucket_is_exchanged"]
            rows.add_extra((entry, ops[place], buckets[place]) for entry in entries)
        if updates and place == updates[0]:
            rows.add_extra(_each(around["before_the_updates"], ops, updates, kept))
        if of_pieces.get(place):
            rows.add_pieces(place, of_pieces[place])
        else:
            rows.add_ops(place, place + 1)
        if updates and place == updates[-1]:
            rows.add_extra(_each(around["after_the_updates"], ops, updates, kept))
        done = place + 1
    rows.add_ops(done, len(ops))
    columns = rows.columns()
    at, op = columns[:, 0], np.append(np.array(ops, dtype=np.int64), -1)[columns[:, 0]]  # -1 is behind the last
    may_begin = np.zeros(len(columns), dtype=np.bool_)
    may_begin[1 : begins + 1] = True
    ends = np.zeros(len(columns), dtype=np.float32)
    of_end = np.array([_is_last(kind.families[0]) for kind in found], dtype=np.bool_)
    inside = np.flatnonzero(~of_end[codes]) if len(codes) else codes
    if updates and len(inside):
        last, first = (np.flatnonzero(at == place)[0] for place in (inside[-1], updates[0]))
        ends[last + 1 :] = _WITHOUT_UPDATES
        ends[max(last + 1, first + 1) :] = _ENDS_EARLY  # some left out, or in another order
    ends[-1] = 1.0
    phases, parts = TextNumbers(), TextNumbers()
    of_ops = planned_places(plan, np.array(ops, dtype=np.int64), phases, parts)
    places = np.vstack([of_ops, np.full((1, of_ops.shape[1]), -1, dtype=np.int32)])[at]
    times = np.array([*(plan.ops[number].duration_ns for number in ops), 0], dtype=np.int64)
    groups = loose_groups(plan, ops, [found[code] for code in codes.tolist()], updates=bool(pieces))
    return PlannedSequence(
        op,
        columns[:, 1],
        tuple(rows.extras),
        columns[:, 2].astype(np.int32),
        places,
        phases.values(),
        parts.values(),
        np.where(at >= 0, _numbered(places), -1),
        token_classes(rows.classes),
        tuple(rows.rules),
        may_begin,
        _opens(columns[:, 1], rows.extras),
        ends,
        times[at],
        np.where(at >= 0, np.append(groups, -1)[at], -1 - np.arange(len(at))),  # what is no op is one of its own
        _blocks(places, op, phases("optimizer")),
    )


def _rule(kind: TokenClass) -> LoweringRule:
    """What runs a class of ops: one kernel where its type tells which of two opposites it is, as of two gradients."""
    rule = rule_of(kind.families[0])
    return replace(rule, repeats=False) if kind.direction else rule


class _Rows:
    """
    The rows of a plan as they are laid out, a stretch behind the other, with the classes and rules that they have.

    Of each row it keeps the place among the ops, the number of the extra op and the class. The sentinel is the first.
    """

    def __init__(self, found: Sequence[TokenClass], codes: Int32s) -> None:
        self.classes = [TokenClass((0,), (), (), 0), *found]
        self.rules = [LoweringRule((), frozenset(), False, False), *map(_rule, found)]
        self.extras: list[ExtraOp] = []
        self._codes = codes + 1
        self._index: dict[tuple[str, int | WeightPiece], int] = {}
        self._stretches: list[Sequence[tuple[int, int, int]] | Int64s] = [[(-1, -1, 0)]]

    def add_ops(self, begin: int, end: int) -> None:
        """Ops by place, from `begin` on and before `end`, as they are planned."""
        places = np.arange(begin, end)
        self._stretches.append(np.column_stack([places, np.full(end - begin, -1), self._codes[begin:end]]))

    def add_pieces(self, place: int, pieces: Sequence[WeightPiece]) -> None:
        """The update at `place`, whose weight a run keeps in `pieces`, a row each."""
        whole = int(self._codes[place])
        rows = []
        for piece in pieces:
            if ("", piece) not in self._index:
                self._add_class("", piece, unit_class(piece, self.classes[whole].bits), self.rules[whole])
            rows.append((place, -1, self._index["", piece]))
        self._stretches.append(rows)

    def add_extra(self, entries: Iterable[tuple[Mapping[str, Any], int, int]]) -> None:
        """What frameworks do beside a plan: how (`around_the_optimizer`), for which op, on how many elements."""
        rows = []
        for entry, of, size in entries:
            what = entry["what"]
            if (what, size) not in self._index:
                rule = _extra_rule(entry)
                self._add_class(what, size, TokenClass((rule.kernels[0],), (size,), (size,), 0), rule)
            rows.append((-1, len(self.extras), self._index[what, size]))
            self.extras.append(ExtraOp(what, of, entry["of"] == "bucket", entry["phase"]))
        self._stretches.append(rows)

    def columns(self) -> Int64s:
        """A row each: place, extra op and class, -1 for none."""
        return np.concatenate([np.array(rows, dtype=np.int64).reshape(-1, 3) for rows in self._stretches])

    def _add_class(self, what: str, of: int | WeightPiece, kind: TokenClass, rule: LoweringRule) -> None:
        self._index[what, of] = len(self.classes)
        self.classes.append(kind)
        self.rules.append(rule)


def _opens(extra: Int64s, extras: Sequence[ExtraOp]) -> NDArray[np.bool_]:
    """Whether each row, by its number among `extras`, is the first of several in a row that do the same."""
    opens = np.zeros(len(extra), dtype=np.bool_)
    beside, what = np.flatnonzero(extra >= 0), np.array([each.what for each in extras], dtype=np.str_)
    opens[beside] = np.append(True, (what[1:] != what[:-1]) | (np.diff(beside) > 1))[: len(beside)]
    return opens


def planned_places(plan: Plan, ops: Int64s, phases: TextNumbers, parts: TextNumbers) -> Int32s:
    """
    Phase, micro-batch, layer and part of `ops`, a row each; all are -1 where no op is planned.

    What has no part goes by its name. Phases and parts are numbers of `phases` and `parts`, which may grow.
    """
    found = np.full((len(ops), 4), -1, dtype=np.int32)
    planned = np.flatnonzero(ops >= 0)
    chosen = [plan.ops[op] for op in ops[planned].tolist()]
    found[planned, 0] = phases.each([op.phase for op in chosen])
    found[planned, 1] = [-1 if op.micro_batch is None else op.micro_batch for op in chosen]
    found[planned, 2] = [-1 if op.layer is None else op.layer for op in chosen]
    found[planned, 3] = parts.each([op.name if op.part is None else op.part for op in chosen])
    return found


def _numbered(columns: Int32s) -> Int64s:
    """Equal rows of numbers from -1 up as one number, in the order of their first ones."""
    key = np.zeros(len(columns), dtype=np.int64)
    for column in columns.T:
        key = key * (int(column.max(initial=-1)) + 2) + column + 1
    numbers, number = distinct(key)
    order = np.empty(len(numbers), dtype=np.int64)
    order[np.argsort(first_rows(number, len(numbers)))] = np.arange(len(numbers))
    return order[number]


def _blocks(place: Int32s, ops: Int64s, optimizer: int) -> Int64s:
    """The block of every row, numbered: phase, micro-batch and layer; all updates and what is beside them are one."""
    blocks = place[:, :3].copy()
    blocks[(ops < 0) | (place[:, 0] == optimizer)] = optimizer, -1, -1
    return _numbered(blocks)


def _is_last(family: int) -> bool:
    """Whether ops of a family end a step: updates of weights and exchanges."""
    return family == family_table().number("optimizer") or family in family_table().collectives


def _zeroing(
    plan: Plan, around: Mapping[str, Any], ops: Sequence[int], buckets: Mapping[int, int], sizes: Mapping[int, int]
) -> Iterator[tuple[Mapping[str, Any], int, int]]:
    """Gradients are set to zero in one go or bucket by bucket; one that is exchanged twice counts once."""
    first = ops[next(iter(sizes))]
    parts = {place: plan.ops[ops[place]].part for place in buckets}
    once = {part.rpartition(".")[0] if part else place: buckets[place] for place, part in parts.items()}
    totals = {sum(once.values()) or sum(sizes.values()): first} | {size: ops[at] for at, size in buckets.items()}
    for entry in around["before_the_step"]:
        for size, of in totals.items():
            yield entry, of, size


def _each(
    entries: Iterable[Mapping[str, Any]],
    ops: Sequence[int],
    updates: Sequence[int],
    sizes: Mapping[int, Sequence[int]],
) -> Iterator[tuple[Mapping[str, Any], int, int]]:
    for entry in entries:
        for place in updates:
            for size in sizes[place]:
                yield entry, ops[place], size


def _extra_rule(entry: Mapping[str, Any]) -> LoweringRule:
    number = family_table().number
    return LoweringRule(
        tuple(number(name) for name in entry["kernels"]),
        frozenset(number(name) for name in entry["parts"]),
        repeats=False,
        written_out=False,
        piecewise=True,
    )
