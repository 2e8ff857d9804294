"""MapRectangles of time x address, as columns: what planned and measured memory are both drawn as."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.gui.model.palette import Palette


@dataclass(frozen=True, slots=True)
class MapRectangles:
    """
    `[start_ns, end_ns)` on the profile's clock x `[low, high)` bytes of address, a row each.

    `kind` numbers `kinds`, which colour them. `top` is the highest address used.
    """

    start_ns: Int64s
    end_ns: Int64s
    low: Int64s
    high: Int64s
    kind: NDArray[np.int32]
    kinds: tuple[str, ...]
    top: int

    def __len__(self) -> int:
        return len(self.start_ns)

    def at(self, time_ns: int, address: int) -> int | None:
        """The rectangle that covers `address` at `time_ns`, or `None`."""
        hits = np.flatnonzero(
            (self.start_ns <= time_ns) & (time_ns < self.end_ns) & (self.low <= address) & (address < self.high)
        )
        return int(hits[0]) if len(hits) else None

    def alive(self, time_ns: int) -> Int64s:
        """MapRectangles that exist at `time_ns`, largest first."""
        hits = np.flatnonzero((self.start_ns <= time_ns) & (time_ns < self.end_ns))
        return hits[np.argsort(-(self.high - self.low)[hits], kind="stable")]

    def kind_colours(self, palette: Palette) -> list[int]:
        """The colour of every kind."""
        return [palette.kind(kind) for kind in self.kinds]

    def colours(self, palette: Palette) -> NDArray[np.uint32]:
        """The colour of every rectangle by its kind."""
        table = np.array(self.kind_colours(palette) or [0xFF000000], dtype=np.uint32)
        return table[self.kind]
