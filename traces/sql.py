"""
SQL over a rank's columns, through DuckDB where that is installed.

Tables: `kernels` (with every hardware counter under its own header), `slices` (all tracks), `tracks`, `memory` and
`allocations`; times in ns, sizes in bytes. Columns are handed over as they are, none is copied into a database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memplan.core.errors import InputError
from memplan.traces.dictionary_array import DictionaryArray, dictionary_encoded
from memplan.traces.profile import TrackKind
from memplan.traces.rank import RankProfile


def query(rank: RankProfile, text: str) -> Any:
    """
    The rows that the SQL query `text` gives, as an Arrow table.

    The query sees the rank's tables and nothing else: files and the network are closed to it. Raises `InputError`
    where DuckDB is not installed or refuses the query.
    """
    try:
        import duckdb
    except ImportError:
        raise InputError("SQL needs DuckDB", remedy="pip install 'memplan[sql]'") from None
    connection = duckdb.connect(config={"enable_external_access": "false", "autoinstall_known_extensions": "false"})
    try:
        for name, columns in _tables(rank).items():
            connection.register(name, _arrow(columns))
        found = connection.sql(text)
        if found is None:
            raise InputError("the query gives no rows", place="SQL", remedy="write a SELECT")
        return found.to_arrow_table()
    except duckdb.Error as error:
        raise InputError(f"the query was refused: {error}", place="SQL") from None
    finally:
        connection.close()


def _arrow(columns: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    arrays = []
    for column in columns.values():
        if isinstance(column, DictionaryArray):
            arrays.append(
                pa.DictionaryArray.from_arrays(pa.array(column.codes), pa.array(list(column.values), pa.string()))
            )
        elif isinstance(column, np.ndarray):
            arrays.append(pa.array(column))
        else:
            arrays.append(pa.array(list(column), pa.string()))
    return pa.table(arrays, names=list(columns))


def _tables(rank: RankProfile) -> dict[str, dict[str, Any]]:
    found = {"tracks": _tracks(rank), "slices": _slices(rank), "memory": _memory(rank)}
    kernels = rank.kernels()
    if kernels is not None:
        names = ("start_ns", "duration_ns", "wait_ns", "step", "stream", "block_count", "name", "type", "core",
                 "input_shapes", "input_dtypes", "output_shapes", "output_dtypes")  # fmt: skip
        told = [name for name in ("input_formats", "output_formats") if getattr(kernels, name)]
        found["kernels"] = {name: getattr(kernels, name) for name in (*names, *told)} | dict(kernels.pmu)
    allocations = rank.allocations()
    if allocations is not None:
        found["allocations"] = {
            name: getattr(allocations, name) for name in ("name", "size", "allocation_ns", "release_ns")
        }
    return found


def _tracks(rank: RankProfile) -> dict[str, Any]:
    tracks = rank.tracks
    return {
        "id": np.array([track.id for track in tracks], dtype=np.int64),
        "kind": [track.kind.value for track in tracks],
        "process": [track.process for track in tracks],
        "thread": [track.thread for track in tracks],
        "count": np.array([track.count for track in tracks], dtype=np.int64),
    }


def _slices(rank: RankProfile) -> dict[str, Any]:
    tracks = [track for track in rank.tracks if track.kind is not TrackKind.COUNTER]
    parts = [rank.slices(track.id) for track in tracks]
    names: Sequence[str] = parts[0].names if parts else []
    categories: Sequence[str] = parts[0].categories if parts else []

    def joined(field: str, dtype: type[np.generic]) -> Any:
        return np.concatenate([getattr(part, field) for part in parts]) if parts else np.empty(0, dtype=dtype)

    counts = [len(part) for part in parts]
    return {
        "track": np.repeat(np.array([track.id for track in tracks], dtype=np.int64), counts),
        "start_ns": joined("start_ns", np.int64),
        "duration_ns": joined("duration_ns", np.int64),
        "depth": joined("depth", np.int16),
        "name": DictionaryArray(joined("name", np.int32), names),
        "category": DictionaryArray(joined("category", np.int32), categories),
    }


def _memory(rank: RankProfile) -> dict[str, Any]:
    curves = [curve for name in rank.memory_components() if (curve := rank.memory(name)) is not None]
    counts = [len(curve.time_ns) for curve in curves]

    def joined(field: str) -> Any:
        blank = [np.full(count, -1, dtype=np.int64) for count in counts]
        values = [getattr(curve, field) for curve in curves]
        return (
            np.concatenate([b if v is None else v for v, b in zip(values, blank, strict=True)])
            if curves
            else np.empty(0)
        )

    components = dictionary_encoded([curve.component for curve in curves])
    return {
        "component": DictionaryArray(np.repeat(components.codes, counts), components.values),
        "time_ns": joined("time_ns"),
        "allocated": joined("allocated"),
        "reserved": joined("reserved"),
        "active": joined("active"),
    }
