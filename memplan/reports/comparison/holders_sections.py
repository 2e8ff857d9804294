"""Sections and JSON of who holds memory: at the measured peak beside the planned one, and in the whole process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from memplan.core.units import format_bytes
from memplan.holders import Holder, HolderRow, PeakHolders
from memplan.reports.report import Column, Part, Quantity, ReportSection, ReportTable, section
from memplan.traces.process_memory import ProcessMemory

_MOST_PARTS = 12

_HOLDERS = (
    Column("planned", Quantity.BYTES),
    Column("measured", Quantity.BYTES),
    Column("blocks", Quantity.COUNT),
)
_ROWS = (
    Column("what"),
    Column("bytes", Quantity.BYTES),
    Column("blocks", Quantity.COUNT),
    Column("after", key="op"),
    Column("until"),
    Column("how sure", Quantity.SHARE, 0),
)
_PROCESS = (Column("what"), Column("of"), Column("bytes", Quantity.BYTES), Column("is"))


def holders_sections(holders: PeakHolders, names: Mapping[int, str]) -> Iterator[ReportSection]:
    """Who holds the peak by kind, part and layer, and what is otherwise than planned; `names` are those of ops."""
    parts: list[Part] = [
        f"at {names[holders.op]}" if holders.op is not None else "when the host had begun no planned op",
        _table("kind", list(holders.kinds.items())),
        _table("part", list(holders.parts.items()), _MOST_PARTS),
    ]
    if holders.layers:
        parts.append(_table("layer", [(str(layer), holder) for layer, holder in holders.layers.items()], _MOST_PARTS))
    parts.append(
        f"{format_bytes(holders.before)} were there before the profile's first allocation; what stands throughout the "
        f"plan is {format_bytes(holders.standing)}, and explains {format_bytes(holders.before_explained)} of them by "
        "their sum"
    )
    yield section("Who holds the peak", *parts)
    for title, rows in (
        ("Held at the peak, freed by then in the plan (after: who should have freed it)", holders.held_longer),
        ("Held at the peak, not in the plan (after: who asked for it)", holders.not_planned),
        ("In the plan there, not in the run (after: who makes it)", holders.missing),
    ):
        if rows:
            yield section(title, _rows(rows, names))


def _table(what: str, rows: Sequence[tuple[str, Holder]], most: int | None = None) -> ReportTable:
    cells = tuple(
        (name.replace("_", " ") if what == "kind" else name, holder.planned, holder.measured, holder.blocks)
        for name, holder in rows[:most]
    )
    return ReportTable((Column(what), *_HOLDERS), cells, f"By {what}", total=len(rows))


def _rows(rows: Sequence[HolderRow], names: Mapping[int, str]) -> ReportTable:
    cells = tuple(
        (
            row.what,
            row.nbytes,
            row.count,
            None if row.op is None else names[row.op],
            None if row.until is None else names[row.until],
            row.probability,
        )
        for row in rows[:_MOST_PARTS]
    )
    return ReportTable(_ROWS, cells, total=len(rows))


def process_section(process: ProcessMemory) -> ReportSection:
    """What the process holds, item by item."""
    cells = tuple((item.part.value, item.name, item.nbytes, item.words) for item in process.items)
    held = f"{format_bytes(process.held)} in all, {format_bytes(process.gap)} more than {process.component} reserved"
    return section("What the process holds", held, ReportTable(_PROCESS, cells))


def holders_document(holders: PeakHolders | None) -> dict[str, Any] | None:
    """Who holds the peak as JSON values, in bytes."""
    if holders is None:
        return None

    def of(found: Mapping[Any, Holder]) -> list[dict[str, Any]]:
        return [
            {"of": key, "planned": holder.planned, "measured": holder.measured, "blocks": holder.blocks}
            for key, holder in found.items()
        ]

    def rows(found: Sequence[HolderRow]) -> list[dict[str, Any]]:
        return [
            {
                "what": row.what,
                "bytes": row.nbytes,
                "count": row.count,
                "op": row.op,
                "until": row.until,
                "probability": row.probability,
            }
            for row in found
        ]

    return {
        "measured_bytes": holders.measured,
        "measured_ns": holders.time_ns,
        "measured_op": holders.op,
        "planned_bytes": holders.planned,
        "planned_op": holders.planned_step,
        "explained_bytes": holders.explained,
        "before_bytes": holders.before,
        "before_explained_bytes": holders.before_explained,
        "standing_bytes": holders.standing,
        "kinds": of(holders.kinds),
        "parts": of(holders.parts),
        "layers": of(holders.layers),
        "held_longer": rows(holders.held_longer),
        "not_planned": rows(holders.not_planned),
        "missing": rows(holders.missing),
    }


def process_document(process: ProcessMemory | None) -> dict[str, Any] | None:
    """What the process holds as JSON values, in bytes."""
    if process is None:
        return None
    return {
        "time_ns": process.time_ns,
        "held_bytes": process.held,
        "allocator": process.component,
        "allocated_bytes": process.allocated,
        "reserved_bytes": process.reserved,
        "gap_bytes": process.gap,
        "rest_bytes": process.rest,
        "items": [{"part": item.part.value, "name": item.name, "bytes": item.nbytes} for item in process.items],
    }
