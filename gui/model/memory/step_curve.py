"""Values over time that hold from one moment to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    top: int = field(init=False, repr=False, compare=False)
    """The place of the first highest point, 0 where there is none; found once, for every row of a picture asks."""

    largest: int = field(init=False, repr=False, compare=False)
    """The largest value, whatever its sign."""

    def __post_init__(self) -> None:
        known = len(self.values) > 0
        top = int(self.values.argmax()) if known else 0
        object.__setattr__(self, "top", top)
        object.__setattr__(self, "largest", max(int(self.values[top]), -int(self.values.min())) if known else 0)

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
        return int(self.time_ns[self.top]), int(self.values[self.top])
