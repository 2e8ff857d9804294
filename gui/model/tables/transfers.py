"""The planned moves between tiers as rows of a table."""

from __future__ import annotations

from memplan.core.units import format_bytes, format_duration
from memplan.gui.model.document import Document
from memplan.gui.model.session.session import OpRef
from memplan.gui.model.tables.table import TableRow, TableShape

TRANSFER_SHAPE = TableShape(
    ("Tensor", "Move", "Link", "Needed by", "Start", "Length", "Size"), wide=0, numbers=4, sorted_by=6, also_wide=(3,)
)


def transfer_rows(document: Document) -> list[TableRow]:
    """Every transfer of the plan; a row leads to its time range and the op that waits for it."""
    plan = document.plan
    if plan is None:
        return []
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    rows = []
    for move in plan.transfers:
        reader = plan.ops[move.before_step] if move.before_step is not None else None
        name, way = names[move.tensor], f"{move.source.value} → {move.target.value}"
        needed, length = reader.name if reader is not None else "–", move.end_ns - move.start_ns
        rows.append(
            TableRow(
                cells=(
                    name, way, move.link, needed, format_duration(move.start_ns), format_duration(length),
                    format_bytes(move.size),
                ),
                sort_keys=(name, way, move.link, needed, float(move.start_ns), float(length), float(move.size)),
                item=OpRef(reader.index) if reader is not None else None,
                span_ns=(document.axis.to_profile(move.start_ns), document.axis.to_profile(move.end_ns)),
            )
        )  # fmt: skip
    return rows


def transfer_headline(document: Document) -> str:
    """How much moves where, by pair of tiers; empty without transfers."""
    totals: dict[str, tuple[int, int]] = {}
    for move in document.plan.transfers if document.plan is not None else ():
        way = f"{move.source.value} → {move.target.value}"
        count, size = totals.get(way, (0, 0))
        totals[way] = count + 1, size + move.size
    return "; ".join(f"{way}: {count:,}, {format_bytes(size)}" for way, (count, size) in totals.items())
