"""Rows of a sortable table, whatever it lists."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Text
from memplan.gui.model.session.session import ItemRef


@dataclass(frozen=True, slots=True)
class TableRow:
    """
    One row: its cells as text and as what they sort by, and where a click leads.

    `item` is the thing to show everywhere, `span_ns` its time range on the profile's clock (`None`: that of `item`).
    """

    cells: tuple[Text, ...]
    sort_keys: tuple[float | str, ...]
    item: ItemRef | None = None
    span_ns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TableShape:
    """
    What a table lists: `header` names its columns, `sorted_by` is the one it is sorted by at first, largest on top.

    Columns from `numbers` on hold numbers. `wide` takes the room that is left, and shares it with `also_wide`; where
    that is too little to read what it holds, columns of `spare` are left out, the first of them first.
    """

    header: tuple[str, ...]
    wide: int
    numbers: int
    sorted_by: int
    also_wide: tuple[int, ...] = ()
    spare: tuple[int, ...] = ()
