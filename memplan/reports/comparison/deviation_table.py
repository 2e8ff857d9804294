"""Differences between plan and run as a table, one row a difference."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.compare import Deviation, DeviationKind
from memplan.reports.report import Column, Quantified, Quantity, ReportCell, ReportTable

_COLUMNS = (
    Column("what"),
    Column("where"),
    Column("unit", shown=False),
    Column("planned", Quantity.NUMBER),
    Column("measured", Quantity.NUMBER),
    Column("difference", Quantity.NUMBER),
    Column("cost", Quantity.SHARE, 2),
)


def deviation_table(deviations: Sequence[Deviation], total: int) -> ReportTable:
    """`deviations`, which are listed of `total`."""
    return ReportTable(_COLUMNS, tuple(deviation_row(item) for item in deviations), total=total)


def deviation_row(item: Deviation) -> tuple[ReportCell, ...]:
    """One difference as a row: what, where, unit, planned, measured, difference, cost."""
    quantity = Quantity.BYTES if item.kind is DeviationKind.MEMORY else Quantity.DURATION
    planned, measured = Quantified(item.planned, quantity), Quantified(item.measured, quantity)
    difference = Quantified(item.delta, quantity, signed=True)
    return item.what.value, item.where, quantity.value, planned, measured, difference, item.cost
