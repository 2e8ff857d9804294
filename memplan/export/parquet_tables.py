"""A plan as a folder of Parquet files, the tables of `csv_tables` with their types."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from memplan.core.files import replacing_folder
from memplan.core.progress import Progress
from memplan.export.csv_tables import plan_facts, plan_tables
from memplan.schema import Plan


def write_parquet(plan: Plan, path: Path, progress: Progress) -> None:
    """Write `plan.parquet` (field, value) and a file for each kind of record; lists stay lists, unknown values null."""
    with replacing_folder(path) as folder:
        facts = [[str(value) for value in row] for row in plan_facts(plan)]
        _write(folder / "plan.parquet", ("field", "value"), facts)
        for table in plan_tables(plan, progress):
            rows = [[_value(value) for value in row] for row in table.rows]
            _write(folder / f"{table.name}.parquet", table.columns, rows)


def _write(file: Path, columns: tuple[str, ...], rows: list[list[object]] | list[list[str]]) -> None:
    data = {name: _column([row[at] for row in rows]) for at, name in enumerate(columns)}
    parquet.write_table(pa.table(data), file, compression="zstd")


def _column(values: list[object] | list[str]) -> pa.Array:
    """`values` as Arrow has them; as text where it has no type for them all, such as numbers of more than 64 bits."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])


def _value(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "; ".join(str(part) for part in dataclasses.astuple(value) if part)
    return value
