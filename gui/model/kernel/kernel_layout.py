"""Where the buffers of a kernel are drawn: what a copy holds in each slot, and how addresses map to a height."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.gui.model.kernel.kernel_facts import BufferLane

if TYPE_CHECKING:
    from memplan.schema import OnChipBuffer

_SEEN_SHARE = 0.5
"""Memories that are filled to less are not drawn to scale, so that their buffers can be read."""
_FEW_ROWS, _FEW_HEIGHT, _MANY_HEIGHT = 6, 0.74, 0.88
"""Where there are more rows of buffers than a few, free room gives way to them."""


@dataclass(frozen=True, slots=True)
class BufferCell:
    """
    What a copy of a buffer holds in the slots `[start, end)`: data of one iteration, `None` for what stays throughout.

    `copy` counts from 0 up to `copies`.
    """

    buffer: OnChipBuffer
    start: int
    end: int
    iteration: int | None
    copy: int
    copies: int


def cells(lane: BufferLane, slots: int) -> tuple[BufferCell, ...]:
    """The cells of one memory over `slots` slots, by address, then by time."""
    copies: dict[str, list[OnChipBuffer]] = {}
    for buffer in lane.buffers:
        copies.setdefault(buffer.of or buffer.name, []).append(buffer)
    found = []
    for siblings in copies.values():
        first = min((slot for buffer in siblings for slot in buffer.fills), default=0)
        for copy, buffer in enumerate(siblings):
            stays = len(buffer.fills) == 1 and buffer.intervals == ((0, slots),)
            for start, end in buffer.intervals:
                edges = _edges(buffer.fills, start, end)
                found += [
                    BufferCell(buffer, low, high, None if stays or fill is None else fill - first, copy, len(siblings))
                    for low, high, fill in edges
                ]
    return tuple(sorted(found, key=lambda cell: (cell.buffer.offset, cell.start)))


def _edges(fills: Sequence[int], start: int, end: int) -> list[tuple[int, int, int | None]]:
    """`[start, end)` cut where the buffer is filled anew, each piece with the slot of its fill."""
    inside = sorted(slot for slot in fills if start <= slot < end)
    if not inside:
        return [(start, end, None)]
    lows = [start, *inside[1:]]
    highs = [*inside[1:], end]
    return list(zip(lows, highs, inside, strict=True))


@dataclass(frozen=True, slots=True)
class Heights:
    """
    Addresses of one memory as shares of a height: `used` bytes take the share `used_height`, what is free the rest.

    `to_scale` is false where free room is drawn smaller than it is, and where nobody knows how much there is.
    """

    used: int
    free: int | None
    used_height: float
    to_scale: bool

    def share(self, address: int) -> float:
        """The height of an address up to `used`."""
        return self.used_height * address / max(self.used, 1)


def heights(lane: BufferLane) -> Heights:
    """How the addresses of `lane` are drawn."""
    if lane.capacity is None:
        return Heights(lane.peak, None, 1.0, False)
    if lane.peak >= lane.capacity:
        return Heights(lane.peak, 0, 1.0, True)
    share, free = lane.peak / lane.capacity, lane.capacity - lane.peak
    few = len({buffer.offset for buffer in lane.buffers}) <= _FEW_ROWS
    height = _FEW_HEIGHT if few else _MANY_HEIGHT
    if share >= (_SEEN_SHARE if few else height):
        return Heights(lane.peak, free, share, True)
    return Heights(lane.peak, free, height, False)


def operands(lanes: Sequence[BufferLane]) -> tuple[str, ...]:
    """What the buffers hold parts of (`A`, `B`, `input 0`, …), each once, in the order of the data's way."""
    buffers = [buffer for lane in lanes for buffer in lane.buffers]
    ordered = sorted(buffers, key=lambda buffer: min(buffer.fills, default=0))
    return tuple(dict.fromkeys(operand_of(buffer) for buffer in ordered))


def operand_of(buffer: OnChipBuffer) -> str:
    """`A` of `A tile` and of `A slice`; `input 0` of itself."""
    words = (buffer.of or buffer.name).split()
    if len(words) > 1 and words[-1].isdigit():
        return " ".join(words)
    return words[0] if words and len(words[0]) == 1 else " ".join(words)
