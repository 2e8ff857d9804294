"""Whether memory grows: from step to step, over very many steps, or over hours of which no steps are known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from memplan.core.arrays import Int64s
from memplan.findings.finding import threshold
from memplan.traces.profile import MemoryCurve

_PARTS = 8
EVERY_STEP = "lowest level of each step less that of the step before; in every step above 0"
EVERY_PART = "lowest level of each of eight equal parts of the steps; in every part above that of the part before"
EVERY_HOUR = "lowest level of each of eight equal parts of the time; in every part above that of the part before"


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes by which memory grows in all, and in one step or hour; `formula` says how that was found."""

    total: int
    each: int
    formula: str


def growth_by_step(lows: Int64s) -> Growth | None:
    """
    Growth from the lowest level of each step, `None` where there is none.

    Few steps grow where each does. In runs of hours a step keeps little and levels scatter: there the lowest level of
    each eighth of the steps has to grow.
    """
    steps = np.diff(lows)
    each = int(np.median(steps))
    if (steps > 0).all() and each >= threshold("growth_share") * max(int(lows[0]), 1):
        return Growth(int(lows[-1] - lows[0]), each, EVERY_STEP)
    if len(lows) < 2 * _PARTS:
        return None
    rise = _rise([int(part.min()) for part in np.array_split(lows, _PARTS)])
    if rise is None:
        return None
    each = rise * _PARTS // (len(lows) * (_PARTS - 1))
    return Growth(each * (len(lows) - 1), each, EVERY_PART)


def growth_by_hour(curve: MemoryCurve) -> Growth | None:
    """
    Growth of what is allocated over a recording without steps, `None` where there is none.

    While a model is loaded memory grows too, but little is released; here far more comes and goes than stays.
    """
    held = curve.allocated
    if held is None or len(held) < _PARTS * _PARTS or (held < 0).any():
        return None
    length = int(curve.time_ns[-1] - curve.time_ns[0])
    bounds = np.searchsorted(curve.time_ns, curve.time_ns[0] + length * np.arange(1, _PARTS) // _PARTS)
    parts = np.split(held, bounds)
    rise = _rise([int(part.min()) for part in parts]) if all(map(len, parts)) else None
    released = int(np.maximum(-np.diff(held), 0).sum())
    if rise is None or released < threshold("piling_churn") * rise:
        return None
    total = rise * _PARTS // (_PARTS - 1)  # between the lowest levels of the first and the last part lie seven
    return Growth(total, total * _HOUR_NS // length, EVERY_HOUR)


_HOUR_NS = 3600 * 10**9


def _rise(levels: list[int]) -> int | None:
    """How much is risen from the first to the last level; `None` where not in each part, or too little to matter."""
    rise = levels[-1] - levels[0]
    grows = all(later > earlier for earlier, later in pairwise(levels))
    return rise if grows and rise >= threshold("rise_share") * max(levels[0], 1) else None
