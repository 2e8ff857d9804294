"""Sections and JSON of planned and measured time by part and layer of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.align import ScopeTime, ScopeTimes
from memplan.reports.report import Column, Part, Quantity, ReportCell, ReportSection, ReportTable, section

_MOST_ROWS = 20
_TIMES = (
    Column("ops", Quantity.COUNT),
    Column("kernels", Quantity.COUNT),
    Column("planned", Quantity.DURATION),
    Column("measured", Quantity.DURATION),
    Column("change", Quantity.CHANGE),
)


def scope_section(times: ScopeTimes) -> ReportSection:
    """Times by part, and by layer where the plan knows layers."""
    parts: list[Part] = [_table("part", times.parts)]
    if times.layers:
        parts.append(_table("layer", times.layers))
    return section("By part of the model", *parts)


def _table(what: str, found: Mapping[Any, ScopeTime]) -> ReportTable:
    rows: list[tuple[ReportCell, ...]] = []
    for (phase, name), time in found.items():
        change = time.measured / time.planned - 1 if time.planned and time.kernels else None
        rows.append((phase, str(name), time.ops, time.kernels, time.planned, time.measured, change))
    return ReportTable((Column("phase"), Column(what), *_TIMES), tuple(rows), f"By {what}", most=_MOST_ROWS)


def scope_document(times: ScopeTimes | None) -> dict[str, Any] | None:
    """The same as JSON values, in nanoseconds."""
    if times is None:
        return None

    def rows(what: str, found: Mapping[Any, ScopeTime]) -> list[dict[str, Any]]:
        return [
            {
                "phase": phase,
                what: name,
                "ops": time.ops,
                "kernels": time.kernels,
                "planned_ns": time.planned,
                "measured_ns": time.measured,
            }
            for (phase, name), time in found.items()
        ]

    return {"parts": rows("part", times.parts), "layers": rows("layer", times.layers)}
