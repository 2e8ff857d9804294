"""Who has explained which time: costs of a rank's findings are disjoint because each is claimed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Int64s
from memplan.findings.rank_case import RankCase
from memplan.findings.step_breakdown import StepBreakdown

COMPUTING, TRANSFER, WAITING, BUBBLE, COPYING = "computing", "transfer", "waiting", "bubble", "copying"


def idle_part(cause: str) -> str:
    """The part of a step that is idle time of `cause`."""
    return f"idle {cause}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a finding was granted of a part, ns; `rows` are the places of the computing kernels that it is about."""

    part: str
    length_ns: int
    rows: Int64s | None = None


class Claims:
    """
    The parts of a rank's steps that no finding has explained yet, in ns, and the computing kernels by row.

    Where transfer and waiting are not told apart, all exposed communication counts as waiting.
    """

    def __init__(self, case: RankCase, steps: Sequence[StepBreakdown]) -> None:
        self._left = {
            COMPUTING: sum(step.computed_ns for step in steps),
            TRANSFER: sum(step.transfer_ns or 0 for step in steps),
            WAITING: sum(step.exposed_ns - (step.transfer_ns or 0) for step in steps),
            BUBBLE: sum(step.bubble_ns for step in steps),
            COPYING: sum(step.copying_ns for step in steps),
        }
        for step in steps:
            for cause, length in step.idle_ns.items():
                part = idle_part(cause)
                self._left[part] = self._left.get(part, 0) + length
        self._free = np.ones(len(case.computing_rows), dtype=bool)
        self._whole = dict(self._left)
        self._taken: list[Taken] = []
        self._spread = 0

    def left(self, part: str) -> int:
        """What of `part` no finding has explained yet."""
        return self._left.get(part, 0)

    def whole(self, part: str) -> int:
        """All of `part`, explained or not."""
        return self._whole.get(part, 0)

    def take(self, part: str, length_ns: int, rows: Int64s | None = None) -> int:
        """Claim up to `length_ns` of `part`; what there was to claim."""
        granted = max(min(length_ns, self.left(part)), 0)
        self._left[part] = self.left(part) - granted
        if granted:
            self._taken.append(Taken(part, granted, rows))
        return granted

    def excuse(self, part: str, length_ns: int) -> None:
        """Take up to `length_ns` of `part` whose reason a finding tells although nothing would be won by it."""
        self._left[part] = self.left(part) - max(min(length_ns, self.left(part)), 0)

    def take_spread(self, length_ns: int) -> int:
        """Claim computing time that lies in kernels no matter which: a rank or a clock that makes all of them slow."""
        granted = self.take(COMPUTING, length_ns)
        self._spread += granted
        return granted

    @property
    def spread_ns(self) -> int:
        """What is claimed of computing that lies in kernels no matter which."""
        return self._spread

    def beyond_spread(self, length_ns: int) -> int:
        """What of kernels' excess is left when that of their rank or clock, which is claimed already, is taken off."""
        covered = min(length_ns, self._spread)
        self._spread -= covered
        return length_ns - covered

    def newly_taken(self) -> list[Taken]:
        """What was claimed since this was last asked."""
        found, self._taken = self._taken, []
        return found

    def unclaimed(self, rows: Int64s) -> Int64s:
        """Those of `rows` (positions among the computing kernels) that no finding has claimed."""
        return np.asarray(rows[self._free[rows]], dtype=np.int64)

    def take_kernels(self, rows: Int64s, length_ns: int) -> int:
        """Claim kernels and up to `length_ns` of the computing time."""
        self._free[rows] = False
        return self.take(COMPUTING, length_ns, rows)
