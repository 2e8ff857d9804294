"""Step time against HBM: what less memory costs, and how little of it keeps a step fast enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplan.core.bisection import largest_fitting
from memplan.core.errors import InputError
from memplan.schema import Plan, Tier

_UNLIMITED = 2**60
_PARTS = 64
"""The smallest HBM is found to such a part of what the graph takes without moves."""


@dataclass(frozen=True, slots=True)
class HbmPoint:
    """A budget of HBM in bytes and the step time with it in nanoseconds, `None` where nothing fits."""

    hbm: int
    step_ns: int | None


@dataclass(frozen=True, slots=True)
class HbmCurve:
    """
    Step time over HBM, from little to all that the graph takes; never longer with more HBM.

    `knee` is the point farthest below the line from the first that fits to the last.
    """

    points: tuple[HbmPoint, ...]
    unlimited_ns: int

    @property
    def knee(self) -> HbmPoint | None:
        """Where less HBM begins to cost much."""
        fitting = [(point.hbm, point.step_ns) for point in self.points if point.step_ns is not None]
        if len(fitting) < 3:
            return None
        (low, slow), (high, fast) = fitting[0], fitting[-1]

        def below(point: tuple[int, int]) -> float:
            return slow + (fast - slow) * (point[0] - low) / max(high - low, 1) - point[1]

        return HbmPoint(*max(fitting, key=below))


def hbm_curve(plan_with: Callable[[int], Plan], *, points: int = 15) -> HbmCurve:
    """
    The curve of the plans that `plan_with` makes for a number of bytes of HBM.

    A plan for little HBM is one for more as well, so a budget takes the best plan of all that are no larger, and none
    is made for more than what already costs no time.
    """
    whole = plan_with(_UNLIMITED)
    peak = _peak(whole)
    found: list[HbmPoint] = []
    best: int | None = None
    for number in range(1, points):
        budget = peak * (number + 1) // (points + 1)
        if best is None or best > whole.step_ns:
            plan = plan_with(budget)
            if plan.fits:
                best = plan.step_ns if best is None else min(best, plan.step_ns)
        found.append(HbmPoint(budget, best))
    return HbmCurve((*found, HbmPoint(peak, whole.step_ns)), whole.step_ns)


def smallest_hbm(plan_with: Callable[[int], Plan], slowdown: float) -> Plan:
    """
    The plan with the least HBM whose step is at most `slowdown` (0.05: 5 %) longer than with all of it.

    Raises `InputError` for a slowdown below 0.
    """
    if not slowdown >= 0:
        raise InputError("a slowdown of {:.3g} is below 0", slowdown, remedy="give a share such as 5%")
    whole = plan_with(_UNLIMITED)
    peak, limit = _peak(whole), whole.step_ns * (1 + slowdown)
    kept = {0: plan_with(peak)}

    def fits(parts: int) -> bool:
        plan = plan_with(max(peak * (_PARTS - parts) // _PARTS, 1))
        kept[parts] = plan
        return plan.fits and plan.step_ns <= limit

    return kept[largest_fitting(fits, _PARTS - 1)]


def _peak(plan: Plan) -> int:
    use = plan.tier(Tier.HBM)
    if use is None:
        raise InputError("the plan says nothing of HBM")
    return use.peak
