"""What fits instead of a model that does not: a section of a report, and the same as a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memplan.deployment.ways_to_serve import WayToServe
from memplan.reports.report import Column, Quantity, ReportSection, ReportTable, found_table, section

_WAYS = (
    Column("change"),
    Column("context", Quantity.COUNT),
    Column("sequences", Quantity.COUNT),
    Column("dies", Quantity.COUNT),
)


def ways_to_serve_section(ways: Sequence[WayToServe], layout: str = "") -> ReportSection:
    """
    The changes after which a sequence fits, as they are typed, with what fits then on a rank; other changes than of
    the layout are to the one named, or to that which was asked about.
    """
    rows = tuple(
        (f"{way.option} {way.value}", way.result.context, way.result.sequences, way.result.dies) for way in ways
    )
    title = f"What fits instead, with {layout} where no other layout is named" if layout else "What fits instead"
    return section(title, found_table(ReportTable(_WAYS, rows)))


def ways_to_serve_document(ways: Sequence[WayToServe]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [
        {
            "option": way.option,
            "value": way.value,
            "context": way.result.context,
            "sequences": way.result.sequences,
            "dies": way.result.dies,
            "fixed_bytes_per_request": way.result.fixed_bytes_per_request,
            "bytes_per_token": way.result.bytes_per_token,
        }
        for way in ways
    ]
