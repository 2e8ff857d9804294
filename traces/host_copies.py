"""Copies between a device and its host, as a trace has them: direction, bytes and duration of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memplan.traces.profile import TrackKind
from memplan.traces.rank import RankProfile

_COPY = re.compile(r"memcpy|pcie_dma", re.IGNORECASE)
_DIRECTIONS = (("host to device", "h2d"), ("device to host", "d2h"))
_MOST = 20_000
"""So many copies are looked at at most, evenly over the trace."""


@dataclass(frozen=True, slots=True)
class HostCopy:
    """One copy: `direction` is `h2d` (to the device) or `d2h`; bytes and nanoseconds."""

    direction: str
    nbytes: int
    duration_ns: float


def host_copies(rank: RankProfile) -> list[HostCopy]:
    """The copies of `rank`'s device streams that tell their size and direction; none where its trace has none."""
    found: list[HostCopy] = []
    for track in rank.tracks:
        if track.kind is not TrackKind.STREAM:
            continue
        slices = rank.slices(track.id)
        known = np.array([bool(_COPY.search(name)) for name in slices.names], dtype=bool)
        rows = np.flatnonzero(known[slices.name]) if len(known) else np.zeros(0, dtype=np.int64)
        for row in rows[:: max(len(rows) // _MOST, 1)].tolist():
            told = _told(rank.arguments(track.id, int(slices.start_ns[row])))
            if told is not None and slices.duration_ns[row] > 0:
                found.append(HostCopy(*told, float(slices.duration_ns[row])))
    return found


def _told(arguments: Mapping[str, object]) -> tuple[str, int] | None:
    """Direction and bytes from a copy's arguments (`memcpy direction`, `data size(Byte)`), `None` for another copy."""
    direction = next((str(value) for key, value in arguments.items() if "direction" in key.casefold()), "").casefold()
    size = next((value for key, value in arguments.items() if "size" in key.casefold()), None)
    way = next((way for words, way in _DIRECTIONS if direction.startswith(words)), None)
    try:
        nbytes = int(str(size))
    except ValueError:
        return None
    return None if way is None or nbytes <= 0 else (way, nbytes)
