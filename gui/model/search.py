"""Finding slices and planned ops by name, in time order, across the rows that are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.gui.model.rows import Rows
from memplan.gui.model.session import SlicePick

MOST = 100_000
"""Hits kept; a search that finds more says so."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Slices whose name contains the text, ordered by start; `more` is true when there are others beyond `MOST`."""

    text: str
    picks: tuple[SlicePick, ...]
    start_ns: tuple[int, ...]
    more: bool

    def __len__(self) -> int:
        return len(self.picks)

    def at_or_after(self, time_ns: int) -> int:
        """Position of the first hit that starts at `time_ns` or later; the first of all when there is none."""
        position = int(np.searchsorted(np.array(self.start_ns, dtype=np.int64), time_ns))
        return position if position < len(self.picks) else 0


def search(rows: Rows, text: str) -> Hits:
    """Every slice of the loaded rows whose name contains `text`, whatever its case; nothing for an empty text."""
    wanted = text.casefold().strip()
    found: list[tuple[int, str, int]] = []
    for row in rows.rows if wanted else ():
        lanes = rows.lanes(row)
        if lanes is None:
            continue
        names = np.array([wanted in name.casefold() for name in lanes.slices.names], dtype=bool)
        if not names.any():
            continue
        indices = np.flatnonzero(names[lanes.slices.name])[: MOST + 1]
        starts = lanes.slices.start_ns[indices].tolist()
        found += [(start, row.key, index) for start, index in zip(starts, indices.tolist(), strict=True)]
    found.sort()
    kept = found[:MOST]
    return Hits(
        text=text,
        picks=tuple(SlicePick(key, index) for _, key, index in kept),
        start_ns=tuple(start for start, _, _ in kept),
        more=len(found) > MOST,
    )
