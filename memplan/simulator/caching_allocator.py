"""A caching allocator as PyTorch-style frameworks use on devices: blocks cut from segments that are kept."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from memplan.core.units import round_up
from memplan.simulator.noise import Behaviour

_BASE = 0x12C0_0000_0000
_APART = 4096


class DeviceFullError(Exception):
    """No segment of the device is left for a request of `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes could not be allocated")
        self.size = size


class AllocatedBlock:
    """A piece of a segment at an address, linked to its neighbours so that free ones can be joined."""

    __slots__ = ("address", "after", "before", "free", "size", "small")

    def __init__(self, size: int, small: bool, address: int) -> None:
        self.size = size
        self.address = address
        self.small = small
        self.free = False
        self.before: AllocatedBlock | None = None
        self.after: AllocatedBlock | None = None


class CachingAllocator:
    """
    Requests are rounded up and served by the smallest cached free block that holds them, cut to size; only when
    there is none is a segment taken from the device, and none is given back. `allocated` and `reserved` are bytes.

    Small requests have segments of their own. What is left of a cut block of the large pool is kept only if it is
    larger than a small request, as in PyTorch's allocator; otherwise the request gets the whole block. Of a device that
    has `capacity` bytes a request that finds none left raises `DeviceFullError`.
    """

    def __init__(self, behaviour: Behaviour, capacity: int | None = None) -> None:
        self._behaviour = behaviour
        self.capacity = capacity
        self._heads: dict[int, AllocatedBlock] = {}
        self._top = _BASE
        self.allocated = 0
        self.reserved = 0
        # Free blocks of each pool, ordered by size and then by age; the serial makes equal sizes comparable.
        self._free: dict[bool, list[tuple[int, int, AllocatedBlock]]] = {True: [], False: []}
        self._serial: dict[int, int] = {}
        self._next = 0

    def allocate(self, size: int) -> AllocatedBlock:
        """A block for a request that occupies `size` bytes, rounding included."""
        size = max(size, 1)
        small = size <= self._behaviour.small_request_bytes
        pool = self._free[small]
        position = bisect.bisect_left(pool, (size, -1))
        if position < len(pool):
            _, _, block = pool.pop(position)
            block.free = False
        else:
            length = self._segment(size, small)
            if self.capacity is not None and self.reserved + length > self.capacity:
                raise DeviceFullError(size)
            block = AllocatedBlock(length, small, self._top)
            self._heads[block.address] = block
            self._top += length + _APART
            self.reserved += length
        if self._worth_cutting(block.size - size, small):
            self._cut(block, size)
        self.allocated += block.size
        return block

    def free(self, block: AllocatedBlock) -> None:
        """Take `block` back and join it with free neighbours."""
        self.allocated -= block.size
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._forget(other)
                self._join(block, other)
        self._keep(block)

    def release_unused(self) -> list[AllocatedBlock]:
        """Give the segments back in which nothing is allocated; what they were."""
        unused = [head for head in self._heads.values() if head.free and head.after is None]
        for block in unused:
            self._forget(block)
            del self._heads[block.address]
            self.reserved -= block.size
        return unused

    def segments(self) -> Iterator[list[AllocatedBlock]]:
        """The blocks of each segment by address, segments in the order in which they were taken."""
        for head in self._heads.values():
            blocks, block = [head], head.after
            while block is not None:
                blocks.append(block)
                block = block.after
            yield blocks

    def blocks(self) -> Iterator[AllocatedBlock]:
        """The blocks of all segments."""
        for blocks in self.segments():
            yield from blocks

    def _worth_cutting(self, rest: int, small: bool) -> bool:
        if self._behaviour.block_bytes is None:
            return rest > 0  # sizes as planned, to the byte
        return rest >= self._behaviour.block_bytes if small else rest > self._behaviour.small_request_bytes

    def _segment(self, size: int, small: bool) -> int:
        behaviour = self._behaviour
        if small:
            return round_up(max(size, behaviour.small_segment_bytes), behaviour.small_segment_bytes)
        if size < behaviour.large_segment_bytes // 2:
            return behaviour.large_segment_bytes
        return round_up(size, behaviour.huge_granularity_bytes)

    def _cut(self, block: AllocatedBlock, size: int) -> None:
        rest = AllocatedBlock(block.size - size, block.small, block.address + size)
        block.size = size
        rest.before, rest.after = block, block.after
        if rest.after is not None:
            rest.after.before = rest
        block.after = rest
        self._keep(rest)

    def _join(self, block: AllocatedBlock, other: AllocatedBlock) -> None:
        block.size += other.size
        if other is block.before:
            block.address = other.address
            if other.address in self._heads:
                self._heads[other.address] = block
            block.before = other.before
            if block.before is not None:
                block.before.after = block
        else:
            block.after = other.after
            if block.after is not None:
                block.after.before = block

    def _keep(self, block: AllocatedBlock) -> None:
        block.free = True
        self._serial[id(block)] = self._next
        bisect.insort(self._free[block.small], (block.size, self._next, block))
        self._next += 1

    def _forget(self, block: AllocatedBlock) -> None:
        pool = self._free[block.small]
        pool.pop(bisect.bisect_left(pool, (block.size, self._serial.pop(id(block)))))
        block.free = False


def occupied_bytes(nbytes: int, planned: int, behaviour: Behaviour) -> int:
    """What a tensor of `nbytes` bytes, `planned` in the plan, occupies: padded and rounded, or as planned."""
    if behaviour.block_bytes is None:
        return planned
    return round_up(min(nbytes, planned) + behaviour.padding_bytes, behaviour.block_bytes)
