"""What the time of a plan goes to, by type of op: what the overview lists of a plan without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration, format_share
from memplan.gui.model.session.session import OpRef, Session
from memplan.gui.model.tables.table import TableRow, TableShape

if TYPE_CHECKING:
    from memplan.schema import PlannedOp

PLANNED_TYPES_SHAPE = TableShape(
    ("Type", "Limited by", "Count", "Total", "Share", "Longest", "GM traffic"), wide=0, numbers=2, sorted_by=3
)


def planned_type_rows(session: Session) -> list[TableRow]:
    """One row a type of the ops that launch kernels; each leads to the longest of them. None of a plan with a run."""
    document = session.document
    plan = document.plan
    if plan is None or document.profile is not None or not plan.timed:
        return []
    found: dict[str, list[PlannedOp]] = {}
    for op in plan.ops:
        if op.launches:
            found.setdefault(op.type, []).append(op)
    whole = sum(op.duration_ns for ops in found.values() for op in ops)
    return [_row(name, ops, whole) for name, ops in found.items()]


def _row(name: str, ops: list[PlannedOp], whole: int) -> TableRow:
    total, traffic = sum(op.duration_ns for op in ops), sum(op.gm_bytes for op in ops)
    longest = max(ops, key=lambda op: op.duration_ns)
    limits: dict[str, int] = {}
    for op in ops:
        limits[op.bound.value] = limits.get(op.bound.value, 0) + op.duration_ns
    limit = max(limits, key=lambda one: limits[one])
    cells: tuple[Text, ...] = (
        name,
        Sentence(limit),
        f"{len(ops):,}",
        format_duration(total),
        format_share(total / whole) if whole else "–",
        format_duration(longest.duration_ns),
        format_bytes(traffic),
    )
    keys = (name, limit, float(len(ops)), float(total), float(total), float(longest.duration_ns), float(traffic))
    return TableRow(cells, keys, OpRef(longest.index))
