"""A known defect for simulated jobs: what it is in words, what names it, and how a job gets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplan.simulator.job_settings import FaultyJob

Planting = Callable[[FaultyJob, float], FaultyJob]
"""Makes a job with a fault of the strength given, a share, of one without."""

_OF_MEMORY = ("memory.", "oom.", "sleep.", "kv.pages", "kv.padding")
"""What findings that cost bytes begin with."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A defect: what it is in words, the kinds of findings that name it, and how it is planted with a strength (a share).

    `ranks` is how many ranks it takes at least, in a job of `layout`. `without` makes the job that it is held against
    where planting changes more than the fault: the same experts evenly, the same work without waiting. `batches` tells
    the micro-batches of a step where they make the fault. Unless `planned`, its steps are not those of the plan:
    sequences are longer or shorter. A `roomy` one is none where memory is short. It is planted among the noise of real
    machines if `background`.
    """

    words: str
    findings: tuple[str, ...]
    plant: Planting
    ranks: int = 1
    layout: str = "data"
    without: Planting | None = None
    batches: Callable[[float], int] | None = None
    planned: bool = True
    roomy: bool = False
    background: bool = False

    @property
    def memory(self) -> bool:
        """Whether it costs bytes rather than time."""
        return bool(self.findings) and self.findings[0].startswith(_OF_MEMORY)
