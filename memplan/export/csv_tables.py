"""A plan as a folder of CSV tables, one a kind of record."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from memplan.core.csv_rows import csv_rows
from memplan.core.files import replacing_folder
from memplan.core.progress import Progress
from memplan.schema import (
    LinkUse,
    OnChipBuffer,
    Placement,
    Plan,
    PlannedOp,
    PlannedTensor,
    PlannedTiling,
    TierUse,
    Transfer,
)

Extra = tuple[str, Callable[[Any], object]]


def write_csv(plan: Plan, path: Path, progress: Progress) -> None:
    """
    Write `plan.csv`, `ops.csv`, `tensors.csv`, `placements.csv`, `transfers.csv`, `tiers.csv`, `links.csv`,
    `tilings.csv` and `buffers.csv`.

    Columns are the fields of the plan's records; bytes are whole numbers, times nanoseconds. Tensors are named beside
    their index, spans also given in nanoseconds. Unknown values are empty.
    """
    with replacing_folder(path) as folder:
        _write(folder / "plan.csv", ("field", "value"), plan_facts(plan))
        for table in plan_tables(plan, progress):
            rows = ([_cell(value) for value in row] for row in table.rows)
            _write(folder / f"{table.name}.csv", table.columns, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class PlanTable:
    """One kind of record of a plan: its name, its columns, and a row of raw values for each."""

    name: str
    columns: tuple[str, ...]
    rows: Iterable[list[object]]


def plan_tables(plan: Plan, progress: Progress) -> Iterator[PlanTable]:
    """The records of `plan` as tables."""
    names = {tensor.index: tensor.name for tensor in plan.tensors}
    buffers = [buffer for layout in plan.onchip for buffer in layout.buffers]
    layouts = {id(buffer): place for place, layout in enumerate(plan.onchip) for buffer in layout.buffers}
    starts = [*(op.start_ns for op in plan.ops), plan.makespan_ns]
    named: Extra = ("tensor_name", lambda row: names[row.tensor])
    tables: tuple[tuple[str, type[Any], Sequence[Any], tuple[Extra, ...]], ...] = (
        ("ops", PlannedOp, plan.ops, ()),
        ("tensors", PlannedTensor, plan.tensors, ()),
        (
            "placements",
            Placement,
            plan.placements,
            (named, ("start_ns", lambda row: starts[row.start]), ("end_ns", lambda row: starts[row.end])),
        ),
        ("transfers", Transfer, plan.transfers, (named,)),
        ("tiers", TierUse, plan.tiers, (("gap", lambda row: row.gap),)),
        ("links", LinkUse, plan.links, ()),
        ("tilings", PlannedTiling, plan.tilings, (("type", lambda row: plan.kernels[row.kernel].type),)),
        ("buffers", OnChipBuffer, buffers, (("onchip", lambda row: layouts[id(row)]),)),
    )
    for done, (name, kind, records, extra) in enumerate(tables):
        progress(done, len(tables), "tables")
        fields = [field.name for field in dataclasses.fields(kind)]
        rows = (
            [*(getattr(record, field) for field in fields), *(make(record) for _, make in extra)] for record in records
        )
        yield PlanTable(name, (*fields, *(column for column, _ in extra)), rows)


def plan_facts(plan: Plan) -> list[tuple[str, object]]:
    """What is said once in a plan, as rows of field and value."""
    facts: list[tuple[str, object]] = []
    for field in dataclasses.fields(Plan):
        value = getattr(plan, field.name)
        if field.name == "origin":
            facts += [(f"origin.{part.name}", _cell(getattr(value, part.name))) for part in dataclasses.fields(value)]
        elif field.name in ("rests_on", "notes"):
            facts += [(field.name, _cell(item)) for item in value]
        elif not isinstance(value, tuple):
            facts.append((field.name, _cell(value)))
    return facts


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(str(_cell(item)) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "; ".join(str(part) for part in dataclasses.astuple(value) if part)
    return value


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(csv_rows(rows))
