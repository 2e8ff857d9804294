"""Which op or tensor of one plan is which of another: by name, and by order where the numbers in names shifted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

Item = TypeVar("Item")

_NUMBER = re.compile(r"(?:(?<=-op)|(?<=_))\d+(?=(?::\d+)?$)")
"""What MindSpore (`MatMul-op14`), ONNX and torch.export (`add_3`) number by the order in which ops were made."""
_MOST = 20_000
"""Items of one stem that are aligned; more are paired by name alone."""


def same_items(
    before: Sequence[Item], after: Sequence[Item], name: Callable[[Item], str], looks: Callable[[Item], Hashable]
) -> list[tuple[Item, Item | None, Item | None]]:
    """
    Items of both plans side by side, those of one alone beside `None`; the later one leads each row.

    Names that both have are the same item, the first the first. Compilers number what they make (`MatMul-op14`), and
    an op more shifts the numbers of all behind it: where items whose names are equal but for such a number don't have
    the same names in both, they are aligned in their order by what they look like (`looks`) and what stands beside
    them.
    """
    one, other = _by_stem(before, name, looks), _by_stem(after, name, looks)
    partner: dict[int, int] = {}
    for stem, here in one.items():
        there = other.get(stem, [])
        names = [name(before[place]) for place, _ in here], [name(after[place]) for place, _ in there]
        if sorted(names[0]) == sorted(names[1]) or max(len(here), len(there)) > _MOST:
            partner |= _by_name(here, there, names)
        else:
            partner |= _aligned(here, there, names)
    taken = set(partner.values())
    rows: list[tuple[Item, Item | None, Item | None]] = []
    for place, item in enumerate(before):
        found = after[partner[place]] if place in partner else None
        rows.append((item if found is None else found, item, found))
    rows += [(item, None, item) for place, item in enumerate(after) if place not in taken]
    return rows


_Placed = list[tuple[int, tuple[Hashable, str, str]]]


def _by_stem(
    items: Sequence[Item], name: Callable[[Item], str], looks: Callable[[Item], Hashable]
) -> dict[str, _Placed]:
    """Places of items by name without the number at its end, each with what it and its neighbours look like."""
    stems = [_NUMBER.sub("", name(item)) for item in items]
    found: defaultdict[str, _Placed] = defaultdict(list)
    for place, item in enumerate(items):
        beside = stems[place - 1] if place else "", stems[place + 1] if place + 1 < len(items) else ""
        found[stems[place]].append((place, (looks(item), *beside)))
    return found


def _by_name(here: _Placed, there: _Placed, names: tuple[list[str], list[str]]) -> dict[int, int]:
    free: defaultdict[str, list[int]] = defaultdict(list)
    for (place, _), own in reversed(list(zip(there, names[1], strict=True))):
        free[own].append(place)
    return {place: free[own].pop() for (place, _), own in zip(here, names[0], strict=True) if free[own]}


def _aligned(here: _Placed, there: _Placed, names: tuple[list[str], list[str]]) -> dict[int, int]:
    """By look and neighbours, then what is left by look alone, then by name."""
    found: dict[int, int] = {}
    left, right = list(range(len(here))), list(range(len(there)))
    for beside in (True, False):
        one_side: list[Hashable] = [here[place][1] if beside else here[place][1][0] for place in left]
        other_side: list[Hashable] = [there[place][1] if beside else there[place][1][0] for place in right]
        matcher = SequenceMatcher(None, one_side, other_side, autojunk=False)
        pairs = [
            (left[block.a + step], right[block.b + step])
            for block in matcher.get_matching_blocks()
            for step in range(block.size)
        ]
        found |= {here[one][0]: there[other][0] for one, other in pairs}
        left = _without(left, (one for one, _ in pairs))
        right = _without(right, (other for _, other in pairs))
    rest = [here[place] for place in left], [there[place] for place in right]
    return found | _by_name(*rest, ([names[0][place] for place in left], [names[1][place] for place in right]))


def _without(places: list[int], gone: Iterable[int]) -> list[int]:
    away = set(gone)
    return [place for place in places if place not in away]
