"""
Pooling over windows of images: how many windows there are, and how many instructions walk over them.

The unit of work is a block of channels of one image, which one core keeps. A vector instruction repeats at one stride,
which takes it along one row of windows at one tap; where a core can't unfold windows while it loads them, rows and taps
are instructions of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from memplan.cost.kernels.kernel import BLOCKED_DIMS, Kernel, Operand

BLOCK_CHANNELS = 16
"""Channels that lie together in an image of blocks of channels (NC1HWC0)."""
_IMAGE_DIMS = 4
_TAPS = 9
"""Taps of a window where no mask tells them: 3 x 3 is what the classes of `kernels.json` count."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Blocks of channels of all images, rows of windows in each, taps of a window, and values of the pooled image."""

    blocks: int
    rows: int
    taps: int
    count: int

    def instructions(self, cores: int) -> int:
        """Instructions of the busiest of `cores` where each is one row at one tap."""
        return -(-self.blocks // max(cores, 1)) * self.rows * self.taps


def windows_of(kernel: Kernel) -> Windows | None:
    """
    The windows of a pooling or of its gradient, `None` where no operand is an image.

    The pooled image is the smallest operand that has the dimensions of the largest; the mask of its maxima has no fewer
    dimensions, but is of integers.
    """
    images = [operand for operand in kernel.operands if _is_image(operand)]
    if not images:
        return None
    pooled = min(images, key=lambda operand: operand.count)
    blocked = len(pooled.shape) == BLOCKED_DIMS
    blocks = prod(pooled.shape[:2]) if blocked else pooled.shape[0] * -(-pooled.shape[1] // BLOCK_CHANNELS)
    masks = [operand for operand in kernel.operands if "int" in operand.dtype and len(operand.shape) == BLOCKED_DIMS]
    taps = masks[0].shape[2] if masks and blocked else _TAPS
    return Windows(blocks, pooled.shape[2], taps, pooled.count)


def _is_image(operand: Operand) -> bool:
    dims = BLOCKED_DIMS if operand.layout == "NC1HWC0" else _IMAGE_DIMS
    return len(operand.shape) == dims and "int" not in operand.dtype
