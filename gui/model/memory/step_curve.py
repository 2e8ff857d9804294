"""Values over time that hold from one moment to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.core.sentence import Text


@dataclass(frozen=True, slots=True)
class StepCurve:
    """
    A titled step function: `values[i]` bytes hold from `time_ns[i]` until `time_ns[i + 1]`.

    Unless the curve is `signed`, -1 stands for what the file leaves out.
    """

    title: Text
    time_ns: Int64s
    values: Int64s
    signed: bool = False

    @property
    def name(self) -> str:
        """The title in English, which tells curves apart."""
        return str(self.title)

    def at(self, time_ns: int) -> int | None:
        """Bytes at `time_ns`, `None` before the first point and where they are left out."""
        position = int(np.searchsorted(self.time_ns, time_ns, side="right")) - 1
        if position < 0 or (self.values[position] < 0 and not self.signed):
            return None
        return int(self.values[position])

    @property
    def peak(self) -> tuple[int, int]:
        """Time and bytes of the first highest point."""
        position = int(self.values.argmax())
        return int(self.time_ns[position]), int(self.values[position])
