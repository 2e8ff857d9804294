"""
Whether the buffers of one kernel fit into the memories of a core, which can't coexist, and what would make them fit.

A compiler may write a result over an operand whose last use it is, so two buffers that meet in one tick need not be
apart: the bound lets them share, the placement keeps them apart. What the placement fits in fits for certain; what the
bound exceeds can't fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from memplan.core.progress import Progress, silent
from memplan.hardware import Chip
from memplan.placement.offsets import Buffer, Limits, Pool, Problem, assign
from memplan.placement.onchip import buffer_alignment
from memplan.readers.kernels.kernel_memory import KernelBuffer, KernelMemory, KernelScope
from memplan.schema import Tier

_WORK = 1_000_000
_TRIALS = 24
"""Smaller tiles that are tried for each memory."""
_LEAST_TILE = 16
_LEAST_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Cut:
    """
    A change that makes a memory's buffers fit into `peak` bytes.

    `before` and `after` are a size of the `buffers` that have it as a dimension, `None` where instead no buffer has
    further copies.
    """

    peak: int
    buffers: int
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class ScopeFit:
    """
    One memory: its `capacity` in bytes, the highest address that the compiler used (`planned`), the bytes that are
    alive at once (`bound`) at `tick`, and the highest address of our placement (`packed`).

    `alive` are the buffers at that tick, largest first. `sharing` pairs lie at the same addresses while both are
    alive. Numbers are `None` where the file says nothing of them.
    """

    scope: KernelScope
    capacity: int | None
    planned: int | None
    bound: int | None
    packed: int | None
    tick: int | None
    alive: tuple[KernelBuffer, ...]
    sharing: int
    cuts: tuple[Cut, ...]

    @property
    def fits(self) -> bool | None:
        """Whether a placement within the capacity is known; `None` where only results over operands might fit."""
        if self.capacity is None:
            return None
        if self.packed is None or self.bound is None:
            return None if self.scope.needed is None else self.scope.needed <= self.capacity
        if self.packed <= self.capacity:
            return True
        return None if self.bound <= self.capacity else False


def kernel_fit(memory: KernelMemory, chip: Chip, *, progress: Progress = silent) -> tuple[ScopeFit, ...]:
    """
    Each memory of `memory` judged against what the file says there is, else against all bytes that `chip` has.

    The placement is found within a fixed amount of work, so it is the same on any machine.
    """
    found = []
    for done, scope in enumerate(memory.scopes):
        progress(done, len(memory.scopes), scope.name)
        found.append(_fit(scope, chip))
    return tuple(found)


def _fit(scope: KernelScope, chip: Chip) -> ScopeFit:
    tier = Tier(scope.name) if scope.name in {"UB", "L1", "L0A", "L0B", "L0C"} else None
    capacity = scope.available
    if capacity is None and tier is not None:
        capacity = _whole_bytes(chip, tier)
    alignment = _LEAST_ALIGNMENT if tier is None else buffer_alignment(chip, tier)
    if not scope.buffers:
        return ScopeFit(scope, capacity, scope.needed, None, None, None, (), 0, ())
    tick, bound = _fullest(scope.buffers, alignment)
    packed = _packed(scope.buffers, alignment, capacity)
    alive = tuple(sorted(_alive(scope.buffers, tick), key=lambda b: (-b.size * b.copies, b.start, b.name)))
    ends = [max(b.offsets) + b.size for b in scope.buffers if b.offsets]
    cuts = tuple(_cuts(scope.buffers, alive, alignment, capacity)) if capacity is not None and packed > capacity else ()
    planned = scope.needed if scope.needed is not None else max(ends, default=None)
    sharing = 0 if scope.failed else _sharing(scope.buffers)  # an attempt that failed is no placement
    return ScopeFit(scope, capacity, planned, bound, packed, tick, alive, sharing, cuts)


def _whole_bytes(chip: Chip, tier: Tier) -> int | None:
    """All bytes of a memory: BiShengIR places buffers in the whole of it (UB of 910B: 1,572,864 bits available)."""
    sizes = {
        Tier.UB: chip.ub_bytes,
        Tier.L1: chip.l1_bytes,
        Tier.L0A: chip.l0a_bytes,
        Tier.L0B: chip.l0b_bytes,
        Tier.L0C: chip.l0c_bytes,
    }
    return sizes[tier]


def _bytes(buffer: KernelBuffer, alignment: int) -> int:
    return -(-buffer.size // alignment) * alignment


def _alive(buffers: Sequence[KernelBuffer], tick: int) -> list[KernelBuffer]:
    return [buffer for buffer in buffers if buffer.start <= tick < max(buffer.end, buffer.start + 1)]


def _fullest(buffers: Sequence[KernelBuffer], alignment: int) -> tuple[int, int]:
    """The first tick at which most bytes are alive, and how many; a buffer's last tick is not counted."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        size = _bytes(buffer, alignment) * buffer.copies
        changes[buffer.start] = changes.get(buffer.start, 0) + size
        end = max(buffer.end, buffer.start + 1)
        changes[end] = changes.get(end, 0) - size
    best = (min(changes), 0)
    now = 0
    for tick in sorted(changes):
        now += changes[tick]
        if now > best[1]:
            best = (tick, now)
    return best


def _packed(buffers: Sequence[KernelBuffer], alignment: int, capacity: int | None) -> int:
    """The highest address of a placement in which no two buffers that meet in a tick share a byte."""
    placed = [
        Buffer(0, buffer.size, ((buffer.start, buffer.end + 1),), alignment, name=buffer.name)
        for buffer in buffers
        for _ in range(buffer.copies)
        if buffer.size
    ]
    numbered = tuple(replace(buffer, id=number) for number, buffer in enumerate(placed))
    problem = Problem(numbered, (Pool(0, "", capacity),), objective=("capacity_overflow", "total_peak"))
    return assign(problem, limits=Limits(work=_WORK)).pools[0].peak if numbered else 0


def _sharing(buffers: Sequence[KernelBuffer]) -> int:
    """Pairs that lie at the same addresses while both are alive for more than the tick in which they meet."""
    spans = sorted(
        (offset, offset + buffer.size, buffer.start, buffer.end, number)
        for number, buffer in enumerate(buffers)
        for offset in buffer.offsets
    )
    pairs = set()
    for place, (_, high, start, end, number) in enumerate(spans):
        for other_low, _, other_start, other_end, other in spans[place + 1 :]:
            if other_low >= high:
                break
            if start < other_end and other_start < end and number != other:
                pairs.add((min(number, other), max(number, other)))
    return len(pairs)


def _cuts(
    buffers: Sequence[KernelBuffer], alive: Sequence[KernelBuffer], alignment: int, capacity: int
) -> Iterator[Cut]:
    """Changes that fit: every buffer once, and of each size that buffers share at the fullest tick the largest part."""
    several = sum(buffer.copies > 1 for buffer in buffers)
    if several:
        single = [replace(buffer, copies=1, offsets=()) for buffer in buffers]
        if (peak := _peak_within(single, alignment, capacity)) is not None:
            yield Cut(peak, several)
    bytes_of: dict[int, int] = {}
    for buffer in alive:
        for size in {size for size in buffer.shape if size >= 2 * _LEAST_TILE}:
            bytes_of[size] = bytes_of.get(size, 0) + buffer.size * buffer.copies
    trials = 0
    for size in sorted(bytes_of, key=lambda size: (-bytes_of[size], -size)):
        for smaller in _parts(size):
            trials += 1
            if trials > _TRIALS:
                return
            cut = [_cut(buffer, size, smaller) for buffer in buffers]
            if (peak := _peak_within(cut, alignment, capacity)) is not None:
                yield Cut(peak, sum(size in buffer.shape for buffer in buffers), size, smaller)
                break


def _parts(size: int) -> list[int]:
    """Whole parts of a dimension that are multiples of the fractal's side, largest first."""
    return [
        size // parts for parts in range(2, size // _LEAST_TILE + 1) if size % parts == 0 and size // parts % 16 == 0
    ]


def _cut(buffer: KernelBuffer, size: int, smaller: int) -> KernelBuffer:
    if size not in buffer.shape:
        return replace(buffer, offsets=())
    place = buffer.shape.index(size)
    shape = (*buffer.shape[:place], smaller, *buffer.shape[place + 1 :])
    return replace(buffer, size=math.ceil(buffer.size * smaller / size), shape=shape, offsets=())


def _peak_within(buffers: Sequence[KernelBuffer], alignment: int, capacity: int) -> int | None:
    """The highest address of a placement within `capacity`; `None` where none is found."""
    if _fullest(buffers, alignment)[1] > capacity:
        return None
    peak = _packed(buffers, alignment, capacity)
    return peak if peak <= capacity else None
