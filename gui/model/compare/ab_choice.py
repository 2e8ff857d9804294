"""Which of the differences between two documents are listed, in which order, and the sum over them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memplan.gui.model.compare.ab_differences import AbDifference, AbDifferences, AbGroup, AmountUnit

READING_ORDER = (
    AbGroup.STEP, AbGroup.PART, AbGroup.TYPE, AbGroup.COMMUNICATION, AbGroup.KERNEL, AbGroup.MEMORY, AbGroup.HELD,
    AbGroup.PLANNED_TIME, AbGroup.PLANNED_TYPE, AbGroup.MOVE, AbGroup.TIER, AbGroup.KIND,
)  # fmt: skip
"""From the whole to its parts: measured time, measured memory, and the same of the plans."""

MOST_OF_EACH = 100
MOST_OF_ONE = 1_000
_WHOLES = (AbGroup.TYPE, AbGroup.PLANNED_TYPE)


@dataclass(frozen=True, slots=True)
class AbChoice:
    """One group or all, one measure or both, names with `name` in them, and only those that differ if `changed`."""

    group: AbGroup | None = None
    measure: AmountUnit | None = None
    name: str = ""
    changed: bool = True

    def of(self, found: Iterable[AbDifference]) -> Iterator[AbDifference]:
        """Those of `found` that are chosen; one whose difference isn't known differs as far as anyone can tell."""
        name = self.name.strip().casefold()
        for item in found:
            if (
                (self.group is None or item.group is self.group)
                and not (self.changed and item.delta == 0)
                and (self.measure is None or item.measure is self.measure)
                and (not name or name in item.name.casefold())
            ):
                yield item


@dataclass(frozen=True, slots=True)
class AbListing:
    """Differences in reading order, the largest of a group first; `left_out` more of the choice aren't among them."""

    found: tuple[AbDifference, ...]
    left_out: int = 0


def groups_of(differences: AbDifferences) -> tuple[AbGroup, ...]:
    """The groups there are, in reading order."""
    present = set(differences.groups())
    return tuple(group for group in READING_ORDER if group in present)


def weight(item: AbDifference) -> int:
    """What an item is sorted by: how much differs, or how much there is where that isn't known."""
    if item.delta is not None:
        return abs(item.delta)
    return max(side.total for side in (item.first, item.second) if side is not None)


def listed(differences: AbDifferences, choice: AbChoice, *, all_of_them: bool = False) -> AbListing:
    """The chosen differences: the largest `MOST_OF_EACH` of every group, or `MOST_OF_ONE` where one is chosen."""
    by_group: dict[AbGroup, list[AbDifference]] = {}
    for item in choice.of(differences.found):
        by_group.setdefault(item.group, []).append(item)
    most = MOST_OF_EACH if choice.group is None else MOST_OF_ONE
    found: list[AbDifference] = []
    left_out = 0
    for group in READING_ORDER:
        items = by_group.get(group, [])
        if all_of_them or len(items) <= most:
            found += sorted(items, key=weight, reverse=True)
        else:
            found += heapq.nlargest(most, items, key=weight)
            left_out += len(items) - most
    return AbListing(tuple(found), left_out)


def ab_total(differences: AbDifferences, choice: AbChoice) -> tuple[AbGroup, int, int] | None:
    """
    The sums of A and of B over the chosen group, or over the op types where all are chosen.

    `None` where the amounts don't add up, are of two measures, or one document knows nothing of them.
    """
    totals = differences.totals or {}
    for group in (choice.group,) if choice.group is not None else _WHOLES:
        one, other = totals.get(group, (None, None))
        if one is not None and other is not None:
            return group, one, other
    return None
