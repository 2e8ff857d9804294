"""
Memory tables: curves by component and allocations by op.

Each file has its own unit. torch_npu writes `MB` for 1024² bytes; MindSpore's `memory_record.csv` says MB but divides
its KB by 1000; msprof writes KB of 1024 bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.core.sentence import Sentence
from memplan.core.units import KIB, MIB
from memplan.traces.dictionary_array import concatenate_texts, dictionary_encoded, take_rows
from memplan.traces.far_times import far_note, far_times
from memplan.traces.file_kinds import FileKind, kind_by_name
from memplan.traces.notes import Notebook
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.readers.curve_samples import CurveSamples, thinned_note
from memplan.traces.tables.text_table import TextTable

MINDSPORE_RECORD_MB = 1000 * KIB  # its MemoryRecordBean divides KB of 1024 bytes by 1000


_TIMES = ("Timestamp(us)", "Timestamp", "timestamp(us)")
_TIMES_NS = "Timestamp(ns)"  # MindSpore's own record on CPU
_COMPONENTS = ("Component", "event")
_DEVICES = ("Device Type", "Device", "Device_id")
_UNITS = ("MB", "KB", "Byte", "B", "GB")
_QUANTITIES = ("Total Allocated", "Total Reserved", "Total Active")
_HELD = "memory"  # what msprof calls all that a process holds
CURVE_COLUMNS = frozenset(
    {
        *_TIMES, _TIMES_NS, *_COMPONENTS, *_DEVICES,
        *(f"{quantity}({unit})" for quantity in (*_QUANTITIES, _HELD) for unit in _UNITS),
    }
)  # fmt: skip
"""What `curves_of` reads of a table."""


def curves_of(path: Path, batches: Iterable[TextTable], mb: int, notes: Notebook) -> list[MemoryCurve]:
    """
    Memory curves of a `memory_record`, `npu_module_mem` or `npu_mem` file, one per component and device.

    `batches` are its rows, part by part; `mb` is what its producer means by MB, in bytes.
    """
    samples: dict[tuple[str, str], CurveSamples] = {}
    untimed, exponents = 0, False
    told = (True, True, True)
    for number, table in enumerate(batches):
        time = table.times_ns(*_TIMES)
        if time is None:
            time = table.integers(_TIMES_NS)
        if time is None:
            notes.add(path, "skipped: no column of timestamps")
            return []
        quantities = [sizes(table, quantity, mb) for quantity in _QUANTITIES]
        if all(column is None for column in quantities):
            quantities[1] = sizes(table, _HELD, mb)
        told = (quantities[0] is not None, quantities[1] is not None, quantities[2] is not None)
        if not number:
            _note_missing(path, table, quantities, notes)
        untimed += int((time < 0).sum())
        exponents |= table.has_exponents("Timestamp(us)")
        for key, rows in _by_place(table, time >= 0):
            known = samples.setdefault(key, CurveSamples())
            known.add(time[rows], *(column[rows] for column in quantities if column is not None))
    if untimed:
        notes.add(path, Sentence("{} [row|rows] without a timestamp skipped", (untimed,)))
    if exponents:
        notes.add(path, "timestamps in exponent form have lost their last digits (saved by a spreadsheet?)")
    columns = {key: known.columns() for key, known in samples.items()}
    far = iter(far_times(np.concatenate([column[0] for column in columns.values()])) if columns else ())
    curves, set_aside = [], 0
    for (component, device), (time, *rest) in columns.items():
        kept = ~np.fromiter(islice(far, len(time)), dtype=np.bool_, count=len(time))
        set_aside += int((~kept).sum())
        index = np.flatnonzero(kept)
        index = index[np.argsort(time[index], kind="stable")]
        if not len(index):
            continue
        known = samples[component, device]
        name = component or "MindSpore"
        if known.bucket > 1:
            notes.add(path, thinned_note(name, known.seen, known.bucket))
        column = iter(rest)
        allocated, reserved, active = (_part(next(column), index) if there else None for there in told)
        curves.append(MemoryCurve(name, device, time[index], allocated, reserved, active))
    if set_aside:
        notes.add(path, far_note(set_aside, "samples"))
    return curves


def _note_missing(path: Path, table: TextTable, quantities: Sequence[Int64s | None], notes: Notebook) -> None:
    if kind_by_name(path.name) is not FileKind.MEMORY_RECORD or path.suffix != ".csv":
        return
    told = (("component", table.find("Component")), ("allocated", quantities[0]), ("reserved", quantities[1]))
    if missing := [name for name, column in told if column is None]:
        notes.add(path, Sentence("no known column of {} memory: that is unknown", (" and ".join(missing),)))


def _by_place(table: TextTable, valid: Bools) -> Iterator[tuple[tuple[str, str], Int64s]]:
    """The valid rows of each component and device, which stand in the order of their first row."""
    components = dictionary_encoded(table.text(*_COMPONENTS))
    devices = dictionary_encoded(table.text(*_DEVICES))
    groups = components.codes.astype(np.int64) * max(len(devices.values), 1) + devices.codes
    for first in np.flatnonzero(valid)[np.sort(np.unique(groups[valid], return_index=True)[1])].tolist():
        yield (components[first], devices[first]), np.flatnonzero(valid & (groups == groups[first]))


ALLOCATION_COLUMNS = frozenset(
    {"Name", "Allocation Time(us)", "Release Time(us)", *(f"Size({unit})" for unit in _UNITS), *_DEVICES}
)
"""What `allocations_of` reads of a table."""


def allocations_of(files: Iterable[tuple[Path, Iterable[TextTable]]], notes: Notebook) -> Allocations | None:
    """
    Allocations of one or several `operator_memory` files, in order of allocation; `None` where there are none.

    Each file comes as its rows, part by part.
    """
    found: list[Allocations] = []
    for path, batches in files:
        part = _allocations_in(path, batches, notes)
        if part is None:
            continue
        repeated = _repeated(part, found)
        if repeats := int(repeated.sum()):
            notes.tell(path, repeats_note(repeats, "allocations"))
            part = _rows_of(part, np.flatnonzero(~repeated))
        found.append(part)
    if not found:
        return None
    joined = found[0]
    if len(found) > 1:
        joined = Allocations(
            concatenate_texts([part.name for part in found]),
            *(np.concatenate([getattr(part, name) for part in found]) for name in _COLUMNS),
        )
    if (np.diff(joined.allocation_ns) >= 0).all():
        return joined
    return _rows_of(joined, np.argsort(joined.allocation_ns, kind="stable"))


_COLUMNS = ("size", "allocation_ns", "release_ns")


def _rows_of(blocks: Allocations, rows: Int64s) -> Allocations:
    return Allocations(take_rows(blocks.name, rows), *(getattr(blocks, name)[rows] for name in _COLUMNS))


def _allocations_in(path: Path, batches: Iterable[TextTable], notes: Notebook) -> Allocations | None:
    """Allocations of one file, in its order; `None` where it holds no such table."""
    names: list[Sequence[str]] = []
    parts: list[tuple[Int64s, Int64s, Int64s]] = []
    unsized = 0
    for table in batches:
        size, start, end = sizes(table, "Size", MIB), table.times_ns(*_ALLOCATED), table.times_ns(*_RELEASED)
        if size is None or start is None:
            notes.add(path, "skipped: no columns of sizes and allocation times")
            return None
        if not table.has("Name"):
            notes.add(path, "no column of names: its allocations have none")
        known = size != -1
        unsized += int((~known).sum())
        if end is None:
            notes.add(path, "no column of release times: no block is known to be released")
            end = np.full(table.rows, -1, dtype=np.int64)
        names.append(take_rows(dictionary_encoded(table.text("Name")), np.flatnonzero(known)))
        parts.append((np.abs(size[known]), start[known], end[known]))
    if unsized:
        notes.add(path, Sentence("{} [row|rows] without a size skipped", (unsized,)))
    if not parts:
        return None
    return Allocations(concatenate_texts(names), *(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _repeated(part: Allocations, earlier: Sequence[Allocations]) -> Bools:
    """Which rows of `part` an earlier file holds too."""
    repeated = np.zeros(len(part), dtype=np.bool_)
    for other in earlier:
        same = np.flatnonzero(np.isin(part.allocation_ns, other.allocation_ns))
        rows = np.flatnonzero(np.isin(other.allocation_ns, part.allocation_ns[same]))
        known = set(_identities(other, rows))
        repeated[same] |= np.array([row in known for row in _identities(part, same)], dtype=np.bool_)
    return repeated


def _identities(blocks: Allocations, rows: Int64s) -> Iterator[tuple[str, int, int, int]]:
    columns = (getattr(blocks, name)[rows].tolist() for name in _COLUMNS)
    return zip(take_rows(blocks.name, rows), *columns, strict=True)


def repeats_note(count: int, what: str) -> Sentence:
    """What to say of rows that an earlier file of the same profile holds too."""
    return Sentence("{} {} that another file of this profile holds too are counted once", (count, Sentence(what)))


_ALLOCATED = ("Allocation Time(us)",)
_RELEASED = ("Release Time(us)",)


def sizes(table: TextTable, quantity: str, mb: int) -> Int64s | None:
    """Column `quantity` in bytes, whichever unit its header names; -1 where absent, `None` if no such column."""
    for unit, factor in zip(_UNITS, (mb, KIB, 1, 1, mb * KIB), strict=True):
        if table.has(f"{quantity}({unit})"):
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
