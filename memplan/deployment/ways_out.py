"""What would make a plan fit that does not: each way is planned before it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from memplan.core.units import GIB, KIB, MIB, parse_bytes
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
        found += islice(_roomier(least, least.hbm, plan_with, room), _WAYS - len(found))
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
        hbm, written = _written(int((use.capacity + plan.missing_bytes) * part), room)
        if hbm > room:
            return None
        more = plan_with(hbm)
        if more.fits:
            return _way(f"the least HBM (--hbm {written})", more, hbm)
    return None


def _roomier(least: WayOut, hbm: int, plan_with: Callable[[int], Plan], room: int) -> Iterator[WayOut]:
    """Ways with more than the `least` that is enough, its bytes being `hbm`: all of it, and parts of the way to it."""
    use = plan_with(_UNLIMITED).tier(Tier.HBM)
    if use is None or use.peak <= hbm:
        return
    most, whole = _written(use.peak, room)
    ways = [(f"HBM for all, so that nothing moves (--hbm {whole})", most)]
    if most > room:
        most, ways = room, [("all HBM of the chip (no --hbm)", room)]
    for words, part in (("half-way", 2), ("a quarter of the way", 4)):
        between, written = _written(hbm + (most - hbm) // part, room)
        ways.append((f"HBM {words} to that (--hbm {written})", between))
    for words, budget in ways:
        plan = plan_with(budget)
        if plan.fits and plan.step_ns < least.step_ns:
            yield _way(words, plan, budget)


def _written(hbm: int, room: int) -> tuple[int, str]:
    """The next size that is no smaller, as `--hbm` takes it: to a thousandth of its unit where `room` has that."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if hbm >= unit:
            written = f"{-(-hbm * 1000 // unit) / 1000:g}{name}" if hbm < 100 * unit else f"{-(-hbm // unit)}{name}"
            size = parse_bytes(written)
            if size >= hbm and (size <= room or hbm > room):
                return size, written
            break
    return hbm, str(hbm)
