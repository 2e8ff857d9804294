"""Finds out whether the files of one profile hold the data of several devices, without reading large ones whole."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from memplan.core.errors import InputError
from memplan.traces.devices import DEVICE_HEADERS, device_in, device_of
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.tables.csv_table import table_ends
from memplan.traces.tables.sqlite import Database

_TOLD_BY_TABLES = (FileKind.STEPS, FileKind.ITERATIONS, FileKind.KERNELS, FileKind.TASK_TIME)
_LOOKED_AT = 1 << 16
"""Bytes of the beginning and of the end of a table whose rows tell the devices."""
_ROWS_LOOKED_AT = 200_000
_MOST_DEVICES = 4096
_ALIKE = r"(?:{field}{separator}){{{place}}}(?P<device>{field}){separator}.*\n" + (
    r"(?:(?:{field}{separator}){{{place}}}(?P=device){separator}.*(?:\n|\Z))*"
)
"""Rows that all tell the same device, as in nearly all tables: found out at once, without taking them apart."""


def devices_told(folder: Path, files: Mapping[FileKind, Sequence[Path]]) -> tuple[int, ...]:
    """The devices whose data the files of one profile hold, ascending; empty where these are not several."""
    kinds = (FileKind.DEVICE_INFO, FileKind.TRACE, FileKind.PARTIAL_TRACE, *_TOLD_BY_TABLES)
    paths = [path for kind in kinds for path in files.get(kind, ())]
    told = [{device for path in paths if (device := device_of(folder, path)) is not None}]
    told += [set(_in_table(path)) for kind in _TOLD_BY_TABLES for path in files.get(kind, ())]
    databases = (FileKind.DATABASE, FileKind.ANALYSIS_DATABASE)
    told += [set(_in_database(path)) for kind in databases for path in files.get(kind, ())]
    # Files that tell of one device each may number it in different ways: logical here, physical there.
    found = {device for devices in told if len(devices) > 1 for device in devices}
    return tuple(sorted(found)) if len(found) <= _MOST_DEVICES else ()


def without_devices(folder: Path, files: Mapping[FileKind, Sequence[Path]]) -> frozenset[Path]:
    """The tables and databases that tell no device, neither by a column nor by the folder that they are in."""
    tables = (*_TOLD_BY_TABLES, FileKind.OPERATOR_MEMORY, FileKind.MEMORY_RECORD)
    paths = [path for kind in tables for path in files.get(kind, ()) if device_of(folder, path) is None]
    heads = {path: _header(table_ends(path, _LOOKED_AT)[0])[0] for path in paths}
    found = {path for path, names in heads.items() if not set(DEVICE_HEADERS).intersection(names)}
    for path in files.get(FileKind.DATABASE, ()):
        with suppress(InputError):
            if not Database(path, Notebook(path.parent)).has("TASK", "deviceId"):
                found.add(path)
    return frozenset(found)


def _header(head: str) -> tuple[list[str], str, str]:
    """The names of a table's columns, what separates them, and what follows them."""
    header, _, body = head.partition("\n")
    separator = max(",;\t", key=header.count)
    return [name.strip() for name in header.lstrip("\ufeff").split(separator)], separator, body


def _in_table(path: Path) -> Iterator[int]:
    """Devices of the first and the last rows of a table."""
    head, tail = table_ends(path, _LOOKED_AT)
    names, separator, body = _header(head)
    place = next((names.index(name) for name in DEVICE_HEADERS[:-1] if name in names), None)
    if place is None:
        return
    alike = re.compile(_ALIKE.format(field=f'[^{separator}"\n]*', separator=separator, place=place))
    for text in (body, tail.partition("\n")[2]):
        if (same := alike.fullmatch(text)) is not None:
            yield from (device for device in (device_in(same["device"]),) if device is not None)
            continue
        with suppress(csv.Error):
            for row in csv.reader(io.StringIO(text), delimiter=separator):
                if len(row) == len(names) and (device := device_in(row[place])) is not None:
                    yield device


def _in_database(path: Path) -> Iterator[int]:
    """Devices of the first and last tasks, and of the steps and devices that the database lists."""
    with suppress(InputError):
        data = Database(path, Notebook(path.parent))
        for table in ("TASK", "StepTraceTime"):
            if data.has(table, "deviceId"):
                yield from (device for device in data.ends(table, "deviceId", _ROWS_LOOKED_AT) if device >= 0)
