"""
Large CSV tables, read by Arrow.

The same columns with the same meaning as `memplan.traces.tables.csv_table` gives, an order of magnitude faster, for
files that are in order; whatever is not (ragged rows, odd bytes) is left to that reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from memplan.core.arrays import Floats, Int64s
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import DictionaryArray
from memplan.traces.scan import column_loops
from memplan.traces.tables.text_table import TextTable

# Headers of exact times and of text; under any other there are numbers, or the file is read as text throughout.
_TIMES = frozenset(
    {
        "Start Time(us)", "Duration(us)", "Wait Time(us)", "Task Start Time(us)", "Task Duration(us)",
        "Task Wait Time(us)", "Timestamp(us)", "Allocation Time(us)", "Release Time(us)", "Active Release Time(us)",
        "Active Duration(us)", "task_start(us)", "task_stop(us)", "task_time(us)", "Timestamp(ns)",
    }
)  # fmt: skip
_TEXTS = frozenset(
    {
        "Name", "Op Name", "Type", "OP Type", "OP State", "Accelerator Core", "Task Type", "HF32 Eligible",
        "Input Shapes", "Input Data Types", "Input Formats", "Output Shapes", "Output Data Types", "Output Formats",
        "Component", "Device Type", "Device", "Stream Ptr", "kernel_name", "kernel_type", "Model Name", "Step Id",
        "Device_id", "event",
    }
)  # fmt: skip
_CODED = pa.dictionary(pa.int32(), pa.string())


class _Columns(Mapping[str, Sequence[str]]):
    """Columns of an Arrow table as text, dictionary-encoded when first asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._coded: dict[str, DictionaryArray] = {}

    def __len__(self) -> int:
        return int(self.table.num_columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __contains__(self, header: object) -> bool:
        return header in self.table.column_names

    def __getitem__(self, header: str) -> Sequence[str]:
        if header not in self._coded:
            if header not in self.table.column_names:
                raise KeyError(header)
            column = self.table.column(header)
            if pa.types.is_floating(column.type):
                column = column.cast(pa.string()).fill_null("")
            column = _one_piece(column if pa.types.is_dictionary(column.type) else column.dictionary_encode())
            codes = np.frombuffer(column.indices.buffers()[1], dtype=np.int32, count=len(column)) if len(column) else ()
            values = [text.strip() for text in column.dictionary.to_pylist()]
            self._coded[header] = DictionaryArray(np.asarray(codes, dtype=np.int32), values)
        return self._coded[header]


class ArrowTable(TextTable):
    """A `TextTable` whose columns are Arrow's."""

    def has(self, *headers: str) -> bool:
        return any(header in self.columns for header in headers)

    def has_exponents(self, *headers: str) -> bool:
        column = self._column(headers)
        if column is None or pa.types.is_floating(column.type):
            return False
        return bool(pc.any(pc.match_substring_regex(column.cast(pa.string()), "[eE]")).as_py())

    def times_ns(self, *headers: str) -> Int64s | None:
        column = self._column(headers)
        if column is None:
            return None
        values = np.full(len(column), -1, dtype=np.int64)
        _each_text(column.cast(pa.string()), column_loops.times, values)
        return values

    def integers(self, *headers: str) -> Int64s | None:
        column = self._column(headers)
        if column is None:
            return None
        if pa.types.is_floating(column.type):
            return self.whole(1, *headers)
        values = np.full(len(column), -1, dtype=np.int64)
        _each_text(column.cast(pa.string()), column_loops.integers, values)
        return values

    def whole(self, factor: int, *headers: str) -> Int64s | None:
        column = self._column(headers)
        if column is None:
            return None
        numbers = _floats(column) * factor
        known = np.abs(numbers) < 2.0**62
        return np.where(known, np.rint(np.where(known, numbers, 0.0)), -1.0).astype(np.int64)

    def floats(self, header: str) -> Floats:
        return _floats(self._column((header,)))

    def _column(self, headers: Sequence[str]) -> Any:
        columns = self.columns
        header = next((header for header in headers if header in columns), None)
        if header is None or not isinstance(columns, _Columns):
            return None
        return _one_piece(columns.table.column(header))


def _one_piece(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _floats(column: Any) -> NDArray[np.float64]:
    """Numbers of a column, NaN where there is none."""
    if pa.types.is_floating(column.type):
        known = column.fill_null(np.nan) if column.null_count else column
        return np.frombuffer(known.buffers()[1], dtype=np.float64, count=len(known) + known.offset)[known.offset :]
    values = np.full(len(column), np.nan)
    _each_text(column.cast(pa.string()), column_loops.floats, values)
    return values


def _each_text(column: Any, loop: Any, values: NDArray[Any]) -> None:
    """Run a loop of `memplan.traces.scan.column_loops` over a text column."""
    if len(column):
        _, offsets, data = column.buffers()
        text = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, dtype=np.uint8)
        bounds = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        loop(text.ctypes.data, bounds.ctypes.data, len(column), values.ctypes.data)


def read_arrow_table(path: Path, unused: frozenset[str]) -> ArrowTable | None:
    """The table at `path` without the `unused` columns; `None` where the file has to be read more patiently."""
    names = _header(path)
    if names is None:
        return None
    wanted = [name for name in names if name not in unused]
    for types in _types(names):
        try:
            table = csv.read_csv(
                path, read_options=_read_options(names), convert_options=_convert_options(types, wanted)
            )
        except (OSError, pa.ArrowException):
            continue
        return None if _repeats_header(table) else ArrowTable(path, _Columns(table), int(table.num_rows))
    return None


def read_arrow_batches(path: Path, wanted: frozenset[str]) -> Iterator[ArrowTable]:
    """
    The `wanted` columns of the table at `path`, some tens of thousands of rows at a time.

    Raises `IrregularTableError` at what has to be read more patiently; the rows before it have been given.
    """
    names = _header(path)
    if names is None:
        raise IrregularTableError
    kept = [name for name in names if name in wanted]
    try:
        options = _convert_options(next(_types(names)), kept)
        for batch in csv.open_csv(path, read_options=_read_options(names), convert_options=options):
            table = pa.Table.from_batches([batch])
            if _repeats_header(table):
                raise IrregularTableError
            yield ArrowTable(path, _Columns(table), int(table.num_rows))
    except (OSError, pa.ArrowException):
        raise IrregularTableError from None


def _repeats_header(table: pa.Table) -> bool:
    """Whether the header stands among the rows: then text stands in every column, so none of them holds numbers."""
    if not table.num_columns or any(pa.types.is_floating(column.type) for column in table.columns):
        return False
    name, column = table.column_names[0], table.column(0)
    if pa.types.is_dictionary(column.type):
        return any(name in chunk.dictionary.to_pylist() for chunk in column.chunks)
    return bool(pc.any(pc.equal(column, name)).as_py())


class IrregularTableError(Exception):
    """A table is not in the order that Arrow needs."""


def _header(path: Path) -> list[str] | None:
    """The names of the columns, `None` where their line is not a plain one."""
    try:
        with path.open("rb") as file:
            header = file.readline(1 << 20).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    names = [name.strip() for name in header.rstrip("\r\n").split(",")]
    return None if not header.endswith("\n") or '"' in header or len(set(names)) < len(names) else names


def _types(names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The types that columns should have, then those that they can't fail to have."""
    yield {name: pa.string() if name in _TIMES else _CODED if name in _TEXTS else pa.float64() for name in names}
    yield dict.fromkeys(names, pa.string())


def _read_options(names: Sequence[str]) -> csv.ReadOptions:
    return csv.ReadOptions(column_names=names, skip_rows=1)


def _convert_options(types: Mapping[str, Any], wanted: Sequence[str]) -> csv.ConvertOptions:
    return csv.ConvertOptions(
        column_types=types, include_columns=wanted, strings_can_be_null=False, null_values=sorted(ABSENT)
    )
