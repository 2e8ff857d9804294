"""The differences between plan and profile as rows of a table, the costliest first."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.compare import Deviation, DeviationKind
from memplan.gui.model.document import Document
from memplan.units import format_bytes, format_duration

HEADER = ("Difference", "Where", "Planned", "Measured", "Change", "Cost")


@dataclass(frozen=True, slots=True)
class DeviationRow:
    """One difference as text; `op` is the planned op to jump to and `span_ns` its stretch on the profile's clock."""

    cells: tuple[str, ...]
    sort_keys: tuple[float | str, ...]
    op: int | None
    span_ns: tuple[int, int]


def deviation_rows(document: Document) -> list[DeviationRow]:
    """Every difference that the comparison lists; empty without one."""
    found = document.comparison
    return [] if found is None else [_row(item, document) for item in found.deviations]


def verdict(document: Document) -> str:
    """Whether the profile deviates from the plan, and why, in one sentence; empty without a comparison."""
    found = document.comparison
    if found is None:
        return ""
    return f"deviates: {'; '.join(found.reasons)}" if found.deviates else "within tolerance of the plan"


def _row(item: Deviation, document: Document) -> DeviationRow:
    write = format_duration if item.kind is DeviationKind.TIME else format_bytes
    planned = write(item.planned) if item.planned is not None else "–"
    measured = write(item.measured) if item.measured is not None else "–"
    change = f"{'+' if item.delta > 0 else '−'}{write(abs(item.delta))}"
    span = document.axis.to_profile(item.start_ns), document.axis.to_profile(item.end_ns)
    return DeviationRow(
        cells=(item.what, item.where, planned, measured, change, f"{item.cost:.2%}"),
        sort_keys=(
            item.what, item.where, float(item.planned or 0), float(item.measured or 0), float(item.delta), item.cost,
        ),
        op=item.op,
        span_ns=span,
    )  # fmt: skip
