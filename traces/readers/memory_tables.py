"""
Memory tables: curves by component and allocations by op.

Each file has its own unit. torch_npu writes `MB` for 1024² bytes; MindSpore's `memory_record.csv` says MB but divides
its KB by 1000; msprof writes KB of 1024 bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.units import KIB, MIB
from memplan.traces.dictionary_array import concatenate_texts, dictionary_encoded, take_rows
from memplan.traces.far_times import far_note, far_times
from memplan.traces.file_kinds import FileKind, kind_by_name
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.tables.text_table import TextTable

MINDSPORE_RECORD_MB = 1000 * KIB  # its MemoryRecordBean divides KB of 1024 bytes by 1000


def curves_of(table: TextTable, mb: int, notes: Notebook) -> list[MemoryCurve]:
    """
    Memory curves of a `memory_record`, `npu_module_mem` or `npu_mem` table, one per component and device.

    `mb` is what the file's producer means by MB, in bytes.
    """
    time = table.times_ns("Timestamp(us)", "Timestamp", "timestamp(us)")
    if time is None:
        time = table.integers("Timestamp(ns)")  # MindSpore's own record on CPU
    if time is None:
        notes.add(table.path, "skipped: no column of timestamps")
        return []
    allocated = sizes(table, "Total Allocated", mb)
    reserved = sizes(table, "Total Reserved", mb)
    active = sizes(table, "Total Active", mb)
    if all(column is None for column in (allocated, reserved, active)):
        reserved = sizes(table, "memory", mb)
    if kind_by_name(table.path.name) is FileKind.MEMORY_RECORD and table.path.suffix == ".csv":
        told = (("component", table.find("Component")), ("allocated", allocated), ("reserved", reserved))
        if missing := [name for name, column in told if column is None]:
            notes.add(table.path, f"no known column of {' and '.join(missing)} memory: that is unknown")
    valid = time >= 0
    if dropped := int((~valid).sum()):
        notes.add(table.path, f"{dropped} rows without a timestamp skipped")
    far = far_times(time[valid])
    if far.any():
        notes.add(table.path, far_note(int(far.sum()), "samples"))
        valid[np.flatnonzero(valid)[far]] = False
    if table.has_exponents("Timestamp(us)"):
        notes.add(table.path, "timestamps in exponent form have lost their last digits (saved by a spreadsheet?)")
    components = dictionary_encoded(table.text("Component", "event"))
    devices = dictionary_encoded(table.text("Device Type", "Device", "Device_id"))
    groups = components.codes.astype(np.int64) * max(len(devices.values), 1) + devices.codes
    firsts = np.unique(groups[valid], return_index=True)[1]
    curves = []
    for first in np.flatnonzero(valid)[np.sort(firsts)].tolist():
        component, device = components[first], devices[first]
        index = np.flatnonzero(valid & (groups == groups[first]))
        index = index[np.argsort(time[index], kind="stable")]
        curves.append(
            MemoryCurve(
                component=component or "MindSpore",
                device=device,
                time_ns=time[index],
                allocated=_part(allocated, index),
                reserved=_part(reserved, index),
                active=_part(active, index),
            )
        )
    return curves


def allocations_of(tables: Iterable[TextTable], notes: Notebook) -> Allocations | None:
    """Allocations of one or several `operator_memory` tables, in order of allocation; `None` where there are none."""
    names: list[Sequence[str]] = []
    parts: list[tuple[Int64s, Int64s, Int64s]] = []
    seen: set[tuple[str, int, int, int]] = set()
    tables = list(tables)
    for table in tables:
        size, start, end = sizes(table, "Size", MIB), table.times_ns(*_ALLOCATED), table.times_ns(*_RELEASED)
        if size is None or start is None:
            notes.add(table.path, "skipped: no columns of sizes and allocation times")
            continue
        if not table.has("Name"):
            notes.add(table.path, "no column of names: its allocations have none")
        known = size != -1
        if dropped := int((~known).sum()):
            notes.add(table.path, f"{dropped} rows without a size skipped")
        if end is None:
            notes.add(table.path, "no column of release times: no block is known to be released")
            end = np.full(table.rows, -1, dtype=np.int64)
        if len(tables) > 1:
            rows = list(zip(table.text("Name"), size.tolist(), start.tolist(), end.tolist(), strict=True))
            repeated = known & np.array([row in seen for row in rows], dtype=np.bool_)
            if repeats := int(repeated.sum()):
                notes.tell(table.path, repeats_note(repeats, "allocations"))
            known &= ~repeated
            seen.update(rows)
        names.append(take_rows(table.text("Name"), np.flatnonzero(known)))
        parts.append((size[known], start[known], end[known]))
    if not parts:
        return None
    size, start, end = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(start, kind="stable")
    return Allocations(take_rows(concatenate_texts(names), order), np.abs(size[order]), start[order], end[order])


def repeats_note(count: int, what: str) -> str:
    """What to say of rows that an earlier file of the same profile holds too."""
    return f"{count} {what} that another file of this profile holds too are counted once"


_ALLOCATED = ("Allocation Time(us)",)
_RELEASED = ("Release Time(us)",)


def sizes(table: TextTable, quantity: str, mb: int) -> Int64s | None:
    """Column `quantity` in bytes, whichever unit its header names; -1 where absent, `None` if no such column."""
    for unit, factor in (("MB", mb), ("KB", KIB), ("Byte", 1), ("B", 1)):
        if table.find(f"{quantity}({unit})") is not None:
            return table.whole(factor, f"{quantity}({unit})")
    return None


def _part(column: Int64s | None, index: Int64s) -> Int64s | None:
    """Rows `index` of a column, or `None` where these are all absent."""
    if column is None or not (column[index] >= 0).any():
        return None
    return column[index]


def merge_curves(curves: Sequence[MemoryCurve]) -> MemoryCurve:
    """Curves of one component on one device, possibly from several files, as one."""
    first = curves[0]
    if len(curves) == 1:
        return first
    times = np.concatenate([curve.time_ns for curve in curves])
    order = np.argsort(times, kind="stable")

    def joined(parts: Sequence[Int64s | None]) -> Int64s | None:
        if all(part is None for part in parts):
            return None
        filled = [
            part if part is not None else np.full(len(curve.time_ns), -1, dtype=np.int64)
            for part, curve in zip(parts, curves, strict=True)
        ]
        return np.concatenate(filled)[order]

    time = times[order]
    quantities = [joined([getattr(curve, name) for curve in curves]) for name in ("allocated", "reserved", "active")]
    fresh = np.ones(len(time), dtype=np.bool_)  # a profile that was exported again holds every sample twice
    if len(time):
        same = [column[1:] == column[:-1] for column in (time, *quantities) if column is not None]
        fresh[1:] = ~np.logical_and.reduce(same)
    allocated, reserved, active = (column[fresh] if column is not None else None for column in quantities)
    return MemoryCurve(
        component=first.component,
        device=first.device,
        time_ns=time[fresh],
        allocated=allocated,
        reserved=reserved,
        active=active,
    )
