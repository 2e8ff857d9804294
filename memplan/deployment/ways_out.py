"""What would make a plan fit that does not: each way is planned before it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memplan.schema import Plan, Tier

_WAYS = 3
_MORE = (1.0, 1.02, 1.05, 1.1)
"""Parts of the HBM that the bytes alone need; addresses may take more."""
_UNLIMITED = 2**60


@dataclass(frozen=True, slots=True)
class WayOut:
    """A change after which the plan fits, with the bytes that it takes of HBM and host, and its step in nanoseconds."""

    change: str
    hbm: int | None
    host: int
    step_ns: int


def ways_out(
    plan: Plan,
    plan_with: Callable[[int], Plan],
    changes: Iterable[tuple[str, Callable[[], Plan | None]]],
    chip_hbm: int | None = None,
) -> tuple[WayOut, ...]:
    """
    Three ways, the shortest step first: of the `changes` that fit and the least more HBM (`plan_with` so many bytes)
    those with the shortest step, and where these are fewer yet more HBM, so that nothing or less has to move. More than
    `chip_hbm` bytes are no way on this chip.

    A change is its words and what plans with it, `None` where that can't be.
    """
    room = _UNLIMITED if chip_hbm is None else chip_hbm
    least = _more_hbm(plan, plan_with, room)
    found = [] if least is None else [least]
    for words, changed in changes:
        other = changed()
        if other is not None and other.fits:
            use = other.tier(Tier.HBM)
            found.append(_way(words, other, None if use is None else use.capacity))
    found = sorted(found, key=_step)[:_WAYS]
    if least is not None and least.hbm is not None:
        found += _roomier(least, least.hbm, plan_with, room)[: _WAYS - len(found)]
    return tuple(sorted(found, key=_step))


def _step(way: WayOut) -> int:
    return way.step_ns


def _way(change: str, plan: Plan, hbm: int | None) -> WayOut:
    outside = [plan.tier(tier) for tier in (Tier.HOST, Tier.REMOTE)]
    return WayOut(change, hbm, sum(use.peak for use in outside if use is not None), plan.step_ns)


def _more_hbm(plan: Plan, plan_with: Callable[[int], Plan], room: int) -> WayOut | None:
    use = plan.tier(Tier.HBM)
    if use is None or use.capacity is None:
        return None
    for part in _MORE:
        hbm = int((use.capacity + plan.missing_bytes) * part)
        if hbm > room:
            return None
        more = plan_with(hbm)
        if more.fits:
            return _way("the least HBM", more, hbm)
    return None


def _roomier(least: WayOut, hbm: int, plan_with: Callable[[int], Plan], room: int) -> list[WayOut]:
    """Ways with more than the `least` that is enough, its bytes being `hbm`: all of it, and half-way to it."""
    whole = plan_with(_UNLIMITED)
    use = whole.tier(Tier.HBM)
    if use is None or use.peak <= hbm:
        return []
    found = [_way("HBM for all, so that nothing moves", whole, use.peak)] if use.peak <= room else []
    middle = (hbm + min(use.peak, room)) // 2
    between = plan_with(middle)
    if between.fits and between.step_ns < least.step_ns:
        found.append(_way("HBM half-way to that", between, middle))
    return found
