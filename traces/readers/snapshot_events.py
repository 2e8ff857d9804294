"""The events of one device in a memory snapshot, as columns: what is kept of the dicts they are pickled as."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memplan.core.arrays import Int64s

ALLOCATED, RELEASED, RESERVED, RETURNED, FAILED = 1, 2, 3, 4, 5
"""What an event does, in `SnapshotEvents.action`; 0 of everything else."""
_ACTIONS = {
    "alloc": ALLOCATED, "free_completed": RELEASED, "segment_alloc": RESERVED, "segment_map": RESERVED,
    "segment_free": RETURNED, "segment_unmap": RETURNED, "oom": FAILED,
}  # fmt: skip
_LATEST_US = 2**53


@dataclass(frozen=True, slots=True)
class SnapshotEvents:
    """
    One row for each event: sizes in bytes, addresses, and `place`, the row in `places` of where it was asked for.

    `time_ns` is `None` where events have no times. `device_free` has what was free, in bytes, by the row of an
    allocation that failed, where that is told.
    """

    action: Int64s
    size: Int64s
    address: Int64s
    place: Int64s
    places: list[str]
    time_ns: Int64s | None
    device_free: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.action)


def taken_events(trace: list[Any]) -> SnapshotEvents:
    """
    What `trace` holds, which is empty afterwards; what is no dict is left out.

    Each event is let go of as soon as it is read: together, millions of dicts hold the interpreter's lock for as long
    as it takes to free them, and need several times the memory of the columns.
    """
    action, size, address, place, times = (array("q") for _ in range(5))
    places: dict[str, int] = {}
    device_free: dict[int, int] = {}
    timed = True
    trace.reverse()
    while trace:
        event = trace.pop()
        if not isinstance(event, dict):
            continue
        name = event.get("action")
        kind = _ACTIONS.get(name, 0) if isinstance(name, str) else 0
        if kind == FAILED and event.get("device_free") is not None:
            device_free[len(action)] = whole(event["device_free"])
        action.append(kind)
        size.append(whole(event.get("size")))
        address.append(whole(event.get("addr")))
        place.append(places.setdefault(place_of(event), len(places)))
        time = event.get("time_us")
        if isinstance(time, int):
            times.append(max(min(time, _LATEST_US), -_LATEST_US) * 1000)
        else:
            timed = False
    return SnapshotEvents(
        _column(action), _column(size), _column(address), _column(place), list(places),
        _column(times) if timed else None, device_free,
    )  # fmt: skip


def _column(values: array[int]) -> Int64s:
    return np.frombuffer(values, dtype=np.int64)


def whole(value: object) -> int:
    """A size or address; 0 for anything else, and for numbers that are none."""
    return value if isinstance(value, int) and 0 <= value < 2**62 else 0


def place_of(event: Mapping[str, Any]) -> str:
    """Where the event was asked for: the innermost frame that is not of an installed package, else the innermost."""
    frames = event.get("frames")
    frames = [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []
    own = (frame for frame in frames if "site-packages" not in str(frame.get("filename", "")))
    first = next(own, frames[0] if frames else None)
    if first is None:
        return ""
    return f"{first.get('filename', '')}:{first.get('line', '')} {first.get('name', '')}"[:400]
