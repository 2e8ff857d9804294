"""What would make a plan fit that does not: each way is planned before it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memplan.schema import Plan, Tier

_WAYS = 3
_MORE = (1.0, 1.02, 1.05, 1.1)
"""Parts of the HBM that the bytes alone need; addresses may take more."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """A change after which the plan fits, with its HBM in bytes and the time of the step in nanoseconds."""

    change: str
    hbm: int | None
    step_ns: int


def ways_out(
    plan: Plan, plan_with: Callable[[int], Plan], changes: Iterable[tuple[str, Callable[[], Plan | None]]]
) -> tuple[WayOut, ...]:
    """
    The three ways with the shortest step among more HBM (`plan_with` so many bytes) and the `changes` that fit.

    A change is its words and what plans with it, `None` where that can't be.
    """
    found = [way for way in (_more_hbm(plan, plan_with),) if way is not None]
    for words, changed in changes:
        other = changed()
        if other is not None and other.fits:
            use = other.tier(Tier.HBM)
            found.append(WayOut(words, None if use is None else use.capacity, other.step_ns))
    return tuple(sorted(found, key=lambda way: way.step_ns)[:_WAYS])


def _more_hbm(plan: Plan, plan_with: Callable[[int], Plan]) -> WayOut | None:
    use = plan.tier(Tier.HBM)
    if use is None or use.capacity is None:
        return None
    for part in _MORE:
        hbm = int((use.capacity + plan.missing_bytes) * part)
        more = plan_with(hbm)
        if more.fits:
            return WayOut("more HBM", hbm, more.step_ns)
    return None
