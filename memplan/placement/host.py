"""
Host placement: what leaves HBM when not everything fits, chosen so that as little time as possible is lost.

A greedy over idle gaps: at the fullest step, the gap that frees most for the time its transfers don't hide goes first.
It is a heuristic; the simulated timeline, not this choice, says what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.hardware import Link
from memplan.placement.residency import Gap, Residency, Storage, gaps_of, live_bytes


@dataclass(frozen=True, slots=True)
class HostMoves:
    """The gaps during which storages are on the host, and the bytes that are live at each step then."""

    gaps: tuple[Gap, ...]
    live: NDArray[np.int64]


def transfer_ns(size: int, link: Link) -> int:
    """
    Time of one transfer of `size` bytes over `link`, its latency included, rounded up.

    Raises `InputError` for a link whose rate no source gives.
    """
    if link.bytes_per_second is None:
        raise InputError(f"the rate of link {link.name} is not known", remedy="choose a chip that has it")
    return (link.latency_ns or 0) + -int(-size * 1e9 // link.bytes_per_second)


def choose_moves(
    storages: Sequence[Storage],
    step_start_ns: NDArray[np.int64],
    capacity: int,
    *,
    out_link: Link,
    in_link: Link,
) -> HostMoves:
    """
    Gaps to spend on the host so that every step's live bytes are at most `capacity`, or as near as gaps allow.

    `step_start_ns` has one entry a step and the end of the last one. The result is a function of its arguments alone.
    """
    steps = len(step_start_ns) - 1
    live = live_bytes(storages, [Residency(i, s.start, s.end) for i, s in enumerate(storages)], steps)
    candidates = gaps_of(storages, steps)
    if not candidates or steps == 0 or int(live.max()) <= capacity:
        return HostMoves((), live)
    start = np.array([gap.start for gap in candidates])
    end = np.array([gap.end for gap in candidates])
    size = np.array([storages[gap.storage].size for gap in candidates], dtype=np.int64)
    exposed = np.array([_exposed_ns(gap, storages, step_start_ns, out_link, in_link) for gap in candidates])
    moved = np.array([_moved_bytes(gap, storages) for gap in candidates], dtype=np.int64)
    free = np.ones(len(candidates), dtype=bool)
    chosen = []
    while True:
        fullest = int(np.argmax(live))
        over = int(live[fullest]) - capacity
        if over <= 0:
            break
        covering = np.flatnonzero(free & (start <= fullest) & (fullest < end))
        if not len(covering):
            break
        gain = np.minimum(size[covering], over)
        # First the least exposed time per byte freed, then the fewest bytes moved, then the longest gap.
        order = np.lexsort(
            (covering, start[covering] - end[covering], moved[covering] / gain, exposed[covering] / gain)
        )
        best = int(covering[order[0]])
        free[best] = False
        chosen.append(best)
        live[start[best] : end[best]] -= size[best]
    # What closing a cycle frees beyond need is left out of `live`, which only ever overstates.
    gaps = _close_cycles([candidates[i] for i in _needed(chosen, start, end, size, live, capacity)], candidates)
    return HostMoves(tuple(sorted(gaps, key=lambda gap: (gap.start, gap.storage))), live)


def _close_cycles(gaps: list[Gap], candidates: Sequence[Gap]) -> list[Gap]:
    """
    `gaps` with every persistent storage on the host at both ends of the schedule or at neither, so that the plan
    can be run step after step.
    """
    ends = {gap.storage for gap in gaps if gap.leaves_after is None or gap.returns_at is None}
    closing = [g for g in candidates if g.storage in ends and (g.leaves_after is None or g.returns_at is None)]
    return list(dict.fromkeys([*gaps, *closing]))


def _needed(
    chosen: list[int],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    size: NDArray[np.int64],
    live: NDArray[np.int64],
    capacity: int,
) -> list[int]:
    """`chosen` without the gaps that later choices made unnecessary; `live` is brought up to date."""
    kept = []
    for index in sorted(chosen, key=lambda i: (int(size[i]), i)):
        span = live[start[index] : end[index]]
        if len(span) and int(span.max()) + int(size[index]) <= capacity:
            span += size[index]
        else:
            kept.append(index)
    return kept


def _moved_bytes(gap: Gap, storages: Sequence[Storage]) -> int:
    size = storages[gap.storage].size
    return size * (int(gap.dirty) + int(gap.returns_at is not None))


def _exposed_ns(
    gap: Gap, storages: Sequence[Storage], step_start_ns: NDArray[np.int64], out_link: Link, in_link: Link
) -> int:
    """Time of the gap's transfers that its own idle time can't hide."""
    size = storages[gap.storage].size
    cost = transfer_ns(size, out_link) if gap.dirty else 0
    if gap.returns_at is not None:
        cost += transfer_ns(size, in_link)
    return max(0, cost - int(step_start_ns[gap.end] - step_start_ns[gap.start]))
