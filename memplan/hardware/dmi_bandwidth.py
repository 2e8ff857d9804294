"""
Rates of the host link as `ascend-dmi --bw` prints them, as text or (`-fmt json`) as JSON.

The text has a heading a direction (`Host to Device Test`), then rows of device, size in bytes, execute times, bandwidth
in GB/s and elapsed time of one copy in us. A run over many sizes tells the latency as well: what is left of the time
of a copy when its size goes to nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.hardware.host import LinkRates

_MOST_BYTES = 4 << 20
"""A log larger than that is none of the tool's."""
_MOST = 1e15
"""No size, rate or time in the tool's units comes near this."""
_DIRECTIONS = {"host to device": "h2d", "device to host": "d2h", "h2d": "h2d", "d2h": "d2h"}
_HEADING = re.compile(
    r"\b(host to device|device to host|h2d|d2h|device to device|d2d|p2p|peer to peer)\b", re.IGNORECASE
)
_FIGURE = r"(\d{1,15}(?:\.\d+)?)"
_ROW = re.compile(rf"^\s*(\d{{1,15}})\s+(\d{{1,15}})\s+(\d{{1,15}})\s+{_FIGURE}\s+{_FIGURE}\s*$")
_NUMBER = re.compile(rf"\s*{_FIGURE}\s*(?:GB/s|us|Bytes?|B)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MeasuredCopy:
    """One row: `direction` is `h2d` or `d2h`; bytes (0: not told), bytes per second, nanoseconds of one copy."""

    direction: str
    device: int
    nbytes: int
    bytes_per_second: float
    duration_ns: float | None


def read_dmi_rates(path: str | Path, *, device: int | None = None) -> LinkRates:
    """
    Rates of both directions, of the slowest device or of `device`; a direction that was not measured is `None`.

    Raises `InputError` for a file without any measured host link.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=file) from None
    if len(data) > _MOST_BYTES:
        raise InputError("is too large for what ascend-dmi --bw prints", path=file)
    text = data.decode("utf-8", errors="replace")
    rows = list(_json_rows(text, file)) if text.lstrip().startswith(("{", "[")) else list(_text_rows(text))
    rows = [row for row in rows if device is None or row.device == device]
    if not rows:
        remedy = Sentence("give the output of `ascend-dmi --bw -t h2d` or of `ascend-dmi --bw`")
        raise InputError("holds no rate between host and device", path=file, remedy=remedy)
    out, back = (_rate(rows, direction) for direction in ("d2h", "h2d"))
    return LinkRates(out, back, _latency(rows), f"ascend-dmi --bw, {file.name}")


def _text_rows(text: str) -> Iterator[MeasuredCopy]:
    direction: str | None = None
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is None:
            heading = _HEADING.search(line)
            if heading is not None and "ascend-dmi" not in line:
                direction = _DIRECTIONS.get(heading.group(1).lower())
        elif direction is not None:
            device, size, _, rate, elapsed = row.groups()
            yield MeasuredCopy(direction, int(device), int(size), float(rate) * 1e9, float(elapsed) * 1e3)


def _json_rows(text: str, file: Path) -> Iterator[MeasuredCopy]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("is no JSON", path=file, remedy="give the whole output") from None
    yield from _json_copies(document, None, 0, 0)


def _json_copies(value: Any, direction: str | None, device: int, depth: int) -> Iterator[MeasuredCopy]:
    """Every object with a `bandwidth`, with the direction and device that it or one around it names."""
    if depth > 20:
        return
    if isinstance(value, list):
        for item in value:
            yield from _json_copies(item, direction, device, depth + 1)
        return
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if isinstance(item, str) and _DIRECTIONS.get(item.lower()):
            direction = _DIRECTIONS[item.lower()]
        if key in ("device_id", "device", "id") and isinstance(item, int):
            device = item
    rate = _number(value.get("bandwidth"))
    if rate is not None and direction is not None:
        elapsed = _number(value.get("elapsed_time"))
        size = _number(value.get("size"))
        yield MeasuredCopy(direction, device, int(size or 0), rate * 1e9, None if elapsed is None else elapsed * 1e3)
    for key, item in value.items():
        inner = next((_DIRECTIONS[name] for name in _DIRECTIONS if name == key.lower().replace("_", " ")), direction)
        yield from _json_copies(item, inner, device, depth + 1)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < _MOST else None
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else float(found.group(1))


def _rate(rows: list[MeasuredCopy], direction: str) -> float | None:
    """The rate of large copies of the slowest device: of its largest size."""
    best: dict[int, tuple[int, float]] = {}
    for row in rows:
        if row.direction == direction and row.bytes_per_second > 0:
            best[row.device] = max(best.get(row.device, (-1, 0.0)), (row.nbytes, row.bytes_per_second))
    return min((rate for _, rate in best.values()), default=None)


def _latency(rows: list[MeasuredCopy]) -> int | None:
    """Nanoseconds of the shortest copy of at most a page, where one was measured."""
    small = [row.duration_ns for row in rows if row.duration_ns is not None and 0 < row.nbytes <= 4096]
    return round(min(small)) if small else None
