"""
The on-chip buffer plan of one kernel: an address for every copy of every buffer, in each of the core's memories.

Buffers live over slots of the software pipeline: stage `s` of iteration `i` runs in slot `i + s`, so that the copies of
a double buffer are alive by turns. Copies of one buffer never share addresses. Other buffers may, at different times,
but where another pipe then writes what one pipe has read, the two have to be synchronised: that is the reuse penalty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol

from memplan.core.errors import InputError, MemplanError
from memplan.core.units import format_bytes
from memplan.hardware import Chip
from memplan.placement.offsets import Buffer, Limits, Pool, Problem, assign, validate
from memplan.schema import OnChipBuffer, OnChipPlan, OnChipUse, Tier

TIERS = (Tier.L1, Tier.L0A, Tier.L0B, Tier.L0C, Tier.UB)
_ALIGNMENT = {tier: f"align.{tier.value.lower()}" for tier in TIERS}
_LEAST_ALIGNMENT = 32
_WORK = 20_000_000


class Need(Protocol):
    """Copies of a buffer, the stages at which each is filled and last read, and by which pipes."""

    @property
    def name(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def copies(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def filled_by(self) -> str: ...
    @property
    def read_by(self) -> str: ...
    @property
    def stays(self) -> bool: ...


def plan_onchip(needs: Sequence[Need], chip: Chip, *, iterations: int = 4) -> OnChipPlan:
    """
    Addresses for `needs` in the usable memories of `chip`, for a pipeline of `iterations` iterations.

    More iterations add nothing once every copy has been used twice. Raises `InputError` for a memory that the chip
    lacks or sizes that are not positive.
    """
    if iterations < 1:
        raise InputError("{} iterations are not a pipeline", iterations, remedy="give 1 or more")
    problem, copies, slots = _problem(needs, chip, iterations)
    # Where there is room, nothing is reused across pipes; only else do synchronisations compete with bytes.
    apart = replace(problem, separations=(*problem.separations, *problem.reuse_penalties), reuse_penalties={})
    found = assign(apart, limits=Limits(work=_WORK))
    if not found.within_capacity:
        found = assign(problem, limits=Limits(work=_WORK))
    wrong = validate(problem, found)
    if wrong and found.within_capacity:
        raise MemplanError("the buffer plan failed its own check and is withheld: {}", wrong[0])
    buffers = tuple(
        OnChipBuffer(
            name=f"{need.name} {number}" if need.copies > 1 else need.name,
            tier=Tier(need.tier),
            offset=found.placed[index][1],
            size=need.size,
            intervals=problem.buffers[index].intervals,
            filled_by=need.filled_by,
            read_by=need.read_by,
            of=need.name,
            fills=(need.first,)
            if need.stays
            else tuple(turn + need.first for turn in range(number, iterations, need.copies)),
        )
        for index, (need, number) in enumerate(copies)
    )
    capacities = {pool.id: pool.capacity for pool in problem.pools}
    used = {pool for pool, _ in found.placed.values()}
    return OnChipPlan(
        buffers=buffers,
        uses=tuple(
            OnChipUse(
                tier=TIERS[result.pool],
                capacity=capacities[result.pool],
                peak=result.peak,
                lower_bound=result.lower_bound,
                lower_bound_method=result.lower_bound_method,
                alignment=buffer_alignment(chip, TIERS[result.pool]),
            )
            for result in found.pools
            if result.pool in used
        ),
        fits=found.within_capacity,
        shortfall=found.shortfall,
        reuse_cost=found.reuse_cost,
        slots=slots,
    )


def _problem(needs: Sequence[Need], chip: Chip, iterations: int) -> tuple[Problem, list[tuple[Need, int]], int]:
    """The offset problem, which need and copy each buffer is, and the number of slots."""
    slots = iterations + max((need.last for need in needs), default=0)
    buffers: list[Buffer] = []
    copies: list[tuple[Need, int]] = []
    separations: list[tuple[int, int]] = []
    for need in needs:
        tier = _tier(need)
        if need.size <= 0 or need.copies < 1:
            raise InputError(
                "buffer {!r} has {} copies of {} bytes", need.name, need.copies, need.size, remedy="give more than 0"
            )
        alignment = buffer_alignment(chip, tier)
        first_id = len(buffers)
        for copy in range(need.copies):
            intervals = (
                ((0, slots),)
                if need.stays
                else _merged([(i + need.first, i + need.last + 1) for i in range(copy, iterations, need.copies)])
            )
            if not intervals:
                continue
            buffers.append(Buffer(len(buffers), need.size, intervals, alignment, (TIERS.index(tier),), name=need.name))
            copies.append((need, copy))
        separations += combinations(range(first_id, len(buffers)), 2)
    apart = set(separations)
    penalties: Mapping[tuple[int, int], int] = {
        (i, j): 1
        for i, j in combinations(range(len(buffers)), 2)
        if buffers[i].pools == buffers[j].pools
        and (i, j) not in apart
        and (copies[i][0].read_by != copies[j][0].filled_by or copies[j][0].read_by != copies[i][0].filled_by)
    }
    pools = tuple(Pool(index, tier.value, usable_bytes(chip, tier)) for index, tier in enumerate(TIERS))
    problem = Problem(tuple(buffers), pools, separations=tuple(separations), reuse_penalties=penalties)
    return problem, copies, slots


def _tier(need: Need) -> Tier:
    try:
        tier = Tier(need.tier)
        _ALIGNMENT[tier]
    except (ValueError, KeyError):
        raise InputError(
            "buffer {!r} is in {!r}", need.name, need.tier, remedy="on chip are L1, L0A, L0B, L0C and UB"
        ) from None
    return tier


def buffer_alignment(chip: Chip, tier: Tier) -> int:
    """Bytes to whose multiples addresses in an on-chip memory go."""
    return max(int(chip.number(_ALIGNMENT[tier]) or 0), _LEAST_ALIGNMENT)


def _merged(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """`spans`, ascending by start, with those that touch or overlap joined."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def usable_bytes(chip: Chip, tier: Tier) -> int | None:
    """Usable bytes of an on-chip memory; `None` where the chip's record does not tell."""
    return {
        Tier.L1: chip.l1_usable_bytes,
        Tier.L0A: chip.l0a_usable_bytes,
        Tier.L0B: chip.l0b_usable_bytes,
        Tier.L0C: chip.l0c_usable_bytes,
        Tier.UB: chip.ub_usable_bytes,
    }[tier]


def onchip_picture(plan: OnChipPlan, width: int = 64) -> str:
    """
    The plan as text: one block a memory, one line a buffer; `#` marks its addresses across the memory's usable bytes
    and `.` the rest.
    """
    lines = []
    for use in plan.uses:
        whole = use.capacity or use.peak
        lines.append(f"{use.tier.value}  {format_bytes(use.peak)} of {format_bytes(whole)}")
        for buffer in sorted((b for b in plan.buffers if b.tier is use.tier), key=lambda b: (b.offset, b.name)):
            start = min(buffer.offset * width // whole, width - 1)
            end = min(max(-(-(buffer.offset + buffer.size) * width // whole), start + 1), width)
            bar = "." * start + "#" * (end - start) + "." * (width - end)
            slots = " ".join(f"{a}-{b}" for a, b in buffer.intervals)
            lines.append(f"  {bar}  {buffer.name:<20} {buffer.offset:>7} +{buffer.size:<7} slots {slots}")
    return "\n".join(lines)
