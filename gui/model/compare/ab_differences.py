"""What differs between two documents, as one list of named amounts, whatever they are amounts of."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_change, format_duration, format_share, format_signed
from memplan.gui.model import amount_names as names
from memplan.gui.model.sheet import Sheet, SheetCell
from memplan.gui.model.tables.table import TableRow, TableShape

AB_MOST = 20_000
"""Names of one group that are listed; those that differ most come first."""

AB_SHAPE = TableShape(
    ("What", "Name", "Count", "A", "B", "B − A", "Change", "Share of A"), wide=1, numbers=2, sorted_by=5
)
AB_SHEET_HEADER = ("group", "name", "unit", "count_a", "count_b", "a", "b", "b_minus_a", "share_of_a")


class AmountUnit(str, Enum):
    """What an amount is; the value is its unit in a saved table."""

    TIME = "ns"
    BYTES = "bytes"

    def text(self, amount: int) -> str:
        """`amount` for a reader."""
        return format_duration(amount) if self is AmountUnit.TIME else format_bytes(amount)


class AbGroup(str, Enum):
    """What the amounts of a row are of; the value is what the table calls it."""

    KERNEL = "Kernel"
    TYPE = "Op type"
    COMMUNICATION = "Communication"
    STEP = "Step"
    PART = "Device time"
    MEMORY = "Memory peak"
    HELD = "Held at the peak"
    PLANNED_TIME = "Planned time"
    PLANNED_TYPE = "Planned op type"
    TIER = "Planned memory"
    KIND = "Planned at the peak"
    MOVE = "Planned moves"


@dataclass(frozen=True, slots=True)
class AbAmount:
    """How often something occurs (`None`: it isn't counted) and how much it takes together, in ns or bytes."""

    count: int | None
    total: int


_TEXTS: Mapping[AbGroup, Callable[[str], Text]] = MappingProxyType(
    {
        AbGroup.STEP: names.step_text,
        AbGroup.MEMORY: names.memory_text,
        AbGroup.HELD: names.holder_text,
        AbGroup.PLANNED_TIME: names.planned_time_text,
        AbGroup.TIER: names.tier_text,
        AbGroup.KIND: names.kind_of_tier_text,
        AbGroup.MOVE: names.move_text,
    }
)
"""How names are said that aren't the documents' own."""


@dataclass(frozen=True, slots=True)
class AbDifference:
    """
    One thing in the first document (A) and in the second one (B); `None` in the one that lacks it.

    `delta` is B − A, with what is missing counted as nothing; `None` where one document knows nothing of the whole
    group. `share` is A's part of A's total over the group, `None` where its amounts don't add up to one. `own` is the
    thing's name in each document, which differs where unlike names belong together (step 3 of one and step 7 of the
    other).
    """

    group: AbGroup
    name: str
    measure: AmountUnit
    first: AbAmount | None
    second: AbAmount | None
    delta: int | None
    share: float | None
    own: tuple[str, str]

    @property
    def title(self) -> Text:
        """The name as it is said to a reader."""
        said = _TEXTS.get(self.group)
        if said is None:
            return self.name
        if self.name == self.own[0] or self.own[0] == self.own[1]:
            return said(self.name)
        return Sentence("{} ↔ {}", (said(self.own[0]), said(self.own[1])))


@dataclass(frozen=True, slots=True)
class AbDifferences:
    """
    All differences of two documents, those of a group largest first.

    `totals` are the sums of A and of B over the groups that add up; `left_out` names are beyond `AB_MOST`. `reason`
    says why there are none.
    """

    found: tuple[AbDifference, ...] = ()
    totals: Mapping[AbGroup, tuple[int | None, int | None]] | None = None
    left_out: int = 0
    reason: Text = ""

    def groups(self) -> tuple[AbGroup, ...]:
        """The groups there are, in their order."""
        present = {item.group for item in self.found}
        return tuple(group for group in AbGroup if group in present)


@dataclass(frozen=True, slots=True)
class AbLedger:
    """
    The amounts of one group in both documents by name; `None` for a document that knows nothing of the group.

    `adds_up` tells whether the amounts are parts of a whole; `whole` is that of A where it isn't their sum. `pairs` are
    names that belong together although they differ, first's name to second's.
    """

    group: AbGroup
    measure: AmountUnit
    first: Mapping[str, AbAmount] | None
    second: Mapping[str, AbAmount] | None
    adds_up: bool = True
    whole: int | None = None
    pairs: Mapping[str, str] | None = None


def compared(ledgers: Iterable[AbLedger]) -> AbDifferences:
    """The differences of all ledgers."""
    found: list[AbDifference] = []
    totals: dict[AbGroup, tuple[int | None, int | None]] = {}
    left_out = 0
    for ledger in ledgers:
        rows, more = _rows(ledger)
        found += rows
        left_out += more
        if ledger.adds_up and ledger.whole is None and ledger.group not in totals and (ledger.first or ledger.second):
            totals[ledger.group] = _sum(ledger.first), _sum(ledger.second)
    return AbDifferences(tuple(found), totals, left_out)


def _sum(amounts: Mapping[str, AbAmount] | None) -> int | None:
    return None if amounts is None else sum(amount.total for amount in amounts.values())


def _rows(ledger: AbLedger) -> tuple[list[AbDifference], int]:
    first, second = ledger.first or {}, ledger.second or {}
    pairs = ledger.pairs or {}
    own_names = [(name, pairs.get(name, name)) for name in first]
    taken = {other for _, other in own_names}
    own_names += [(name, name) for name in second if name not in taken]

    def weight(own: tuple[str, str]) -> tuple[int, int, str]:
        one, other = first.get(own[0]), second.get(own[1])
        a, b = one.total if one is not None else 0, other.total if other is not None else 0
        return -abs(b - a), -max(a, b), own[0]

    kept = (
        heapq.nsmallest(AB_MOST, own_names, key=weight) if len(own_names) > AB_MOST else sorted(own_names, key=weight)
    )
    whole = ledger.whole if ledger.whole is not None else _sum(ledger.first)
    known = ledger.first is not None and ledger.second is not None
    rows = []
    for own in kept:
        one, other = first.get(own[0]), second.get(own[1])
        delta = (other.total if other is not None else 0) - (one.total if one is not None else 0) if known else None
        if not ledger.adds_up and (one is None or other is None):
            delta = None  # a level that one document doesn't tell of isn't zero there
        share = one.total / whole if ledger.adds_up and whole and one is not None else None
        name = own[0] if own[0] == own[1] or other is None else f"{own[0]} ↔ {own[1]}"
        rows.append(AbDifference(ledger.group, name, ledger.measure, one, other, delta, share, own))
    return rows, len(own_names) - len(kept)


def difference_rows(found: Iterable[AbDifference]) -> list[TableRow]:
    """
    The differences as rows of a table of `AB_SHAPE`, in their order.

    Columns of amounts sort by time or bytes as a part of the largest amount of that measure, so that rows of both can
    stand in one table and the largest differences of each come first; unknown ones come last.
    """
    items = list(found)
    largest = dict.fromkeys(AmountUnit, 1)
    for item in items:
        for side in (item.first, item.second):
            if side is not None:
                largest[item.measure] = max(largest[item.measure], abs(side.total))
    return [_row(item, largest[item.measure]) for item in items]


def _row(item: AbDifference, largest: int) -> TableRow:
    write = item.measure.text
    a, b = (side.total if side is not None else None for side in (item.first, item.second))
    delta, share = item.delta, item.share
    change = delta / a if delta is not None and a else None
    return TableRow(
        cells=(
            Sentence(item.group.value),
            item.title,
            _count_text(item),
            write(a) if a is not None else "–",
            write(b) if b is not None else "–",
            format_signed(write, delta) if delta is not None else "–",
            format_change(change) if change is not None else "–",
            format_share(share) if share is not None else "–",
        ),
        sort_keys=(
            item.group.value,
            item.name,
            float(max((side.count or 0 for side in (item.first, item.second) if side is not None), default=0)),
            a / largest if a is not None else -1.0,
            b / largest if b is not None else -1.0,
            abs(delta) / largest if delta is not None else -1.0,
            abs(change) if change is not None else -1.0,
            share if share is not None else -1.0,
        ),
    )


def _count_text(item: AbDifference) -> str:
    counts = [None if side is None or side.count is None else f"{side.count:,}" for side in (item.first, item.second)]
    if counts == [None, None]:
        return ""
    if counts[0] == counts[1]:
        return str(counts[0])
    return " → ".join(count or "–" for count in counts)


def differences_sheet(found: Iterable[AbDifference]) -> Sheet:
    """The differences as a plain table; an unknown amount is an empty cell."""
    rows: list[tuple[SheetCell, ...]] = []
    for item in found:
        one, other = item.first, item.second
        rows.append(
            (
                item.group.value, item.name, item.measure.value,
                one.count if one is not None else None, other.count if other is not None else None,
                one.total if one is not None else None, other.total if other is not None else None,
                item.delta, item.share,
            )
        )  # fmt: skip
    return Sheet(AB_SHEET_HEADER, rows)
