"""What could be computed anew instead of being kept: tensors between two uses, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from memplan.core.arrays import Int64s
from memplan.graph.repeats import GivenUp, RepeatRules, closure
from memplan.placement.residency import Storage

_LEAST_PART = 20_000
"""What is smaller than such a part of the bytes that are too many is not looked at."""
_PADDING = 1024
"""Bytes that an allocator may add to a tensor: two halves take more than the whole."""


@dataclass(frozen=True, slots=True)
class RecomputeTarget:
    """
    One storage in one gap between two uses, and the ops that make it anew at the gap's end.

    `least_ns` is a part of the ops' time such that no set of targets takes less than the sum of its parts: of an op
    that several targets need each bears a share, and of ops whose results could be kept in less room instead, none.
    """

    given_up: GivenUp
    size: int
    ops: tuple[int, ...]
    least_ns: int

    @property
    def gap(self) -> tuple[int, int]:
        """Steps `[start, end)` without the storage."""
        return self.given_up.after + 1, self.given_up.before


@dataclass(frozen=True, slots=True)
class RecomputeOption:
    """
    Targets that share ops and are given up together: `cost_ns` of ops more in exchange for `size` bytes.

    `kind` says what is computed anew, alike for the like parts of all layers; `layer` is where, the model's number
    where it is known.
    """

    targets: tuple[int, ...]
    cost_ns: int
    size: int
    kind: str
    layer: int


def recompute_targets(
    rules: RepeatRules, storages: Sequence[Storage], durations: Int64s, over: Int64s
) -> tuple[RecomputeTarget, ...]:
    """
    What can be made anew so that steps with too many bytes have fewer; `over` is how many each step has too many.

    Left out is what is small, and what takes longer to make anew than it would be away.
    """
    most = int(over.max(initial=0))
    elapsed = np.concatenate(([0], np.cumsum(durations)))
    crowded = np.concatenate(([0], np.cumsum(over > 0)))
    found: list[tuple[GivenUp, int, tuple[int, ...], int]] = []
    for storage in storages:
        if storage.size * _LEAST_PART < most or storage.persistent or storage.tensor in rules.fixed:
            continue
        uses = rules.uses.get(storage.tensor, ())
        for after, before in pairwise(uses):
            if before - after <= 1 or crowded[before] == crowded[after + 1]:
                continue
            number = rules.version_read(storage.tensor, before)
            ops = None if number is None else closure(rules, (storage.tensor, number), before)
            if ops and int(durations[list(ops)].sum()) < elapsed[before] - elapsed[after + 1]:
                given_up, own = GivenUp(storage.tensor, after, before), rules.writer[storage.tensor, number or 0]
                found.append((given_up, storage.size, tuple(ops), own))
    return tuple(_priced(rules, storages, durations, found))


def _priced(
    rules: RepeatRules,
    storages: Sequence[Storage],
    durations: Int64s,
    found: Sequence[tuple[GivenUp, int, tuple[int, ...], int]],
) -> list[RecomputeTarget]:
    size_of = {storage.tensor: storage.size for storage in storages}
    # Who needs which op again, and who could do without it if a storage that is gone by then were kept.
    wanted: dict[int, list[_Wish]] = {}
    passing: dict[int, list[_Wish]] = {}
    ways: list[set[int]] = []
    for given_up, size, ops, _ in found:
        made = {storage for op in ops for storage, _ in rules.writes[op]}
        ways.append({storage for op in ops for storage, _ in rules.reads[op] if storage in made})
        wish = given_up.after + 1, given_up.before, size
        for op in ops:
            wanted.setdefault(op, []).append(wish)
        for storage in ways[-1]:
            passing.setdefault(storage, []).append(wish)
    targets = []
    for (given_up, size, ops, own), way in zip(found, ways, strict=True):
        gap = given_up.after + 1, given_up.before
        whole = all(
            size_of.get(storage, 0) + _PADDING * len(passing[storage]) >= _most_together(passing[storage], gap)
            for storage in way
        )
        least = sum(int(durations[op]) * size // _most_together(wanted[op], gap) for op in (ops if whole else (own,)))
        targets.append(RecomputeTarget(given_up, size, ops, least))
    return targets


_Wish = tuple[int, int, int]
"""First and last step of a gap, and the bytes in it."""


def _most_together(wishes: Sequence[_Wish], gap: tuple[int, int]) -> int:
    """The most bytes of `wishes` at any one step of `gap`: what one run of an op, or one kept storage, can serve."""
    points = [gap[0], *(start for start, _, _ in wishes if gap[0] < start < gap[1])]
    return max(sum(size for start, end, size in wishes if start <= point < end) for point in points)


def recompute_options(
    rules: RepeatRules, targets: Sequence[RecomputeTarget], durations: Int64s
) -> tuple[RecomputeOption, ...]:
    """`targets` by the ops that they share within reach of each other, in the order of their gaps' ends."""
    order = sorted(range(len(targets)), key=lambda index: targets[index].given_up.before)
    owner = list(range(len(targets)))

    def root(index: int) -> int:
        while owner[index] != index:
            owner[index] = owner[owner[index]]
            index = owner[index]
        return index

    latest: dict[int, int] = {}
    for index in order:
        for op in targets[index].ops:
            other = latest.get(op)
            if other is not None and targets[index].given_up.before - targets[other].given_up.before <= rules.reach:
                owner[root(index)] = root(other)
            latest[op] = index
    groups: dict[int, list[int]] = {}
    for index in order:
        groups.setdefault(root(index), []).append(index)
    return tuple(_option(rules, targets, durations, members) for members in groups.values())


def _option(
    rules: RepeatRules, targets: Sequence[RecomputeTarget], durations: Int64s, members: Sequence[int]
) -> RecomputeOption:
    ops = {op for member in members for op in targets[member].ops}
    makers = sorted({_maker(rules, targets[member]) for member in members})
    names = list(dict.fromkeys(_part(rules, op) for op in makers))
    return RecomputeOption(
        tuple(members),
        sum(int(durations[op]) for op in ops),
        sum(targets[member].size for member in members),
        ", ".join(names),
        next((layer for op in makers if (layer := _layer(rules, op)) is not None), -1),
    )


def _maker(rules: RepeatRules, target: RecomputeTarget) -> int:
    storage = target.given_up.storage
    return max(op for op in target.ops if any(made == storage for made, _ in rules.writes[op]))


def _part(rules: RepeatRules, op: int) -> str:
    """What an op is within its layer: its part of a model's step, else its name without numbers."""
    known = rules.graph.ops[op]
    if known.scope is not None:
        return known.scope.part
    return f"{known.type} {re.sub(r'[0-9]+', '#', known.name)}"


def _layer(rules: RepeatRules, op: int) -> int | None:
    known = rules.graph.ops[op]
    if known.scope is not None:
        return known.scope.layer
    number = re.search(r"(?<![a-zA-Z])[0-9]+", known.name)
    return None if number is None else int(number.group())
