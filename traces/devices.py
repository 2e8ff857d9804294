"""
Which of several devices a file or a row is of: one process that drives several leaves one folder or database for all.

Each device is shown as a rank of its own, so that nothing of two devices is added up.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Bools
from memplan.core.errors import InputError
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook

DEVICE_HEADERS = ("Device_id", "Device ID", "Device Id", "Device Type")
_DEVICE_FOLDER = re.compile(r"device_(\d{1,4})")
_DEVICE_INFO = re.compile(r"info\.json\.(\d{1,4})")
_DEVICE_TEXT = re.compile(r"(?:NPU:)?(\d{1,4})")
_TOLD_BY_TABLES = (FileKind.STEPS, FileKind.ITERATIONS, FileKind.KERNELS, FileKind.TASK_TIME)
_LOOKED_AT = 1 << 16
"""Bytes of the beginning and of the end of a table whose rows tell the devices."""
_ROWS_LOOKED_AT = 200_000
_MOST_DEVICES = 4096


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """Device `number` of all that one folder tells of; what is of none of them counts to the first."""

    number: int
    every: tuple[int, ...]

    def holds(self, device: int | None) -> bool:
        """Whether something of `device` (`None`: of no known one) counts to this one."""
        return device == self.number or (device not in self.every and self.number == self.every[0])

    def rows(self, column: Sequence[str]) -> Bools:
        """Which rows of a table are of this device, by its column of devices (`1`, `NPU:1`)."""
        texts = dictionary_encoded(column)
        kept = np.array([self.holds(_device_in(text)) for text in texts.values], dtype=np.bool_)
        return kept[texts.codes] if len(kept) else np.zeros(len(column), dtype=np.bool_)

    def files(self, folder: Path, paths: Iterable[Path]) -> list[Path]:
        """Files of this device and those that all share: `device_1/...` and `info.json.1` are of device 1 only."""
        return [path for path in paths if (device := _device_of(folder, path)) is None or device == self.number]


def devices_told(folder: Path, files: Mapping[FileKind, Sequence[Path]]) -> tuple[int, ...]:
    """The devices whose data the files of one profile hold, ascending; empty where these are not several."""
    kinds = (FileKind.DEVICE_INFO, FileKind.TRACE, FileKind.PARTIAL_TRACE, *_TOLD_BY_TABLES)
    paths = [path for kind in kinds for path in files.get(kind, ())]
    told = [{device for path in paths if (device := _device_of(folder, path)) is not None}]
    told += [set(_in_table(path)) for kind in _TOLD_BY_TABLES for path in files.get(kind, ())]
    databases = (FileKind.DATABASE, FileKind.ANALYSIS_DATABASE)
    told += [set(_in_database(path)) for kind in databases for path in files.get(kind, ())]
    # Files that tell of one device each may number it in different ways: logical here, physical there.
    found = {device for devices in told if len(devices) > 1 for device in devices}
    return tuple(sorted(found)) if len(found) <= _MOST_DEVICES else ()


def _device_in(text: str) -> int | None:
    match = _DEVICE_TEXT.fullmatch(text.strip())
    return int(match.group(1)) if match else None


def _device_of(folder: Path, path: Path) -> int | None:
    """The device whose own file `path`, below `folder`, is."""
    inner = path.relative_to(folder).parts[:-1] if path.is_relative_to(folder) else ()
    found = next((match for part in inner if (match := _DEVICE_FOLDER.fullmatch(part))), None)
    found = found or _DEVICE_INFO.fullmatch(path.name)
    return int(found.group(1)) if found else None


def _in_table(path: Path) -> Iterator[int]:
    """Devices of the first and the last rows of a table."""
    from memplan.traces.tables.csv_table import table_ends

    head, tail = table_ends(path, _LOOKED_AT)
    header, _, body = head.partition("\n")
    separator = max(",;\t", key=header.count)
    names = [name.strip() for name in header.lstrip("\ufeff").split(separator)]
    place = next((names.index(name) for name in DEVICE_HEADERS[:-1] if name in names), None)
    if place is None:
        return
    for text in (body, tail.partition("\n")[2]):
        with suppress(csv.Error):
            for row in csv.reader(io.StringIO(text), delimiter=separator):
                if len(row) == len(names) and (device := _device_in(row[place])) is not None:
                    yield device


def _in_database(path: Path) -> Iterator[int]:
    """Devices of the first and last tasks, and of the steps and devices that the database lists."""
    from memplan.traces.tables.sqlite import Database

    with suppress(InputError):
        data = Database(path, Notebook(path.parent))
        for table in ("TASK", "StepTraceTime"):
            if data.has(table, "deviceId"):
                yield from (device for device in data.ends(table, "deviceId", _ROWS_LOOKED_AT) if device >= 0)
