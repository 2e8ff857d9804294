"""
Which of several devices a file or a row is of: one process that drives several leaves one folder or database for all.

Each device is shown as a rank of its own, so that nothing of two devices is added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memplan.core.arrays import Bools
from memplan.traces.dictionary_array import dictionary_encoded

DEVICE_HEADERS = ("Device_id", "Device ID", "Device Id", "Device Type")
"""Of columns that tell devices (`1`, `NPU:1`)."""
_DEVICE_FOLDER = re.compile(r"device_(\d{1,4})")
_DEVICE_INFO = re.compile(r"info\.json\.(\d{1,4})")
_DEVICE_TEXT = re.compile(r"(?:NPU:)?(\d{1,4})")


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
        kept = np.array([self.holds(device_in(text)) for text in texts.values], dtype=np.bool_)
        return kept[texts.codes] if len(kept) else np.zeros(len(column), dtype=np.bool_)

    def files(self, folder: Path, paths: Iterable[Path]) -> list[Path]:
        """Files of this device and those that all share: `device_1/...` and `info.json.1` are of device 1 only."""
        return [path for path in paths if (device := device_of(folder, path)) is None or device == self.number]


def device_in(text: str) -> int | None:
    """The device that a field of a table tells."""
    match = _DEVICE_TEXT.fullmatch(text.strip())
    return int(match.group(1)) if match else None


def device_of(folder: Path, path: Path) -> int | None:
    """The device whose own file `path`, below `folder`, is."""
    if "device_" not in str(path) and "info.json." not in str(path):
        return None  # as most are: paths are slow to take apart
    inner = path.relative_to(folder).parts[:-1] if path.is_relative_to(folder) else ()
    found = next((match for part in inner if (match := _DEVICE_FOLDER.fullmatch(part))), None)
    found = found or _DEVICE_INFO.fullmatch(path.name)
    return int(found.group(1)) if found else None
