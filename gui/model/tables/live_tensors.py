"""The tensors that hold memory at one moment, as rows of a table."""

from __future__ import annotations

from memplan.core.units import format_bytes
from memplan.gui.model.amount_names import kind_text
from memplan.gui.model.session.session import Session, TensorRef
from memplan.gui.model.tables.table import TableRow, TableShape

LIVE_SHAPE = TableShape(("Tensor", "Kind", "Steps", "Address", "Size"), wide=0, numbers=2, sorted_by=4)
LIVE_MOST = 5_000
"""Rows listed; the largest tensors come first."""


def live_rows(session: Session, time: float) -> tuple[list[TableRow], int]:
    """The tensors of the map alive at `time` (nanoseconds from the origin), largest first, and their bytes in all."""
    mapped = session.map
    if mapped is None:
        return [], 0
    found = mapped.alive(session.origin_ns + int(time))
    total = int((mapped.high - mapped.low)[found].sum())
    rows = []
    for rectangle in found[:LIVE_MOST].tolist():
        placement = mapped.plan.placements[int(mapped.placement[rectangle])]
        tensor = mapped.tensors[placement.tensor]
        low, size = int(mapped.low[rectangle]), placement.size
        rows.append(
            TableRow(
                cells=(
                    tensor.name,
                    kind_text(tensor.kind),
                    f"{placement.start}–{placement.end}",
                    f"{low:#x}",
                    format_bytes(size),
                ),
                sort_keys=(tensor.name, tensor.kind, float(placement.start), float(low), float(size)),
                item=TensorRef(rectangle),
            )
        )
    return rows, total
