"""
How the library's layout changes (TransData) are cut: over which cores, and in how many instructions.

Kernels of one schedule (CANN 8.1, tbe/dsl/unify_schedule/vector/transdata): one outer dimension is bound to the cores,
a piece is read, turned and written before the next one (no buffer is doubled), and blocks of 32 bytes that don't lie
together behind are moved one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from memplan.cost.kernel import Kernel, Operand
from memplan.cost.machine import Machine

_BLOCK_BYTES = 32
_IMAGE_DIMS = 4


@dataclass(frozen=True, slots=True)
class Relayout:
    """Cores that a layout change runs on, and blocks that its busiest core moves one by one."""

    cores: int
    moves: float


def relayout_of(kernel: Kernel, machine: Machine) -> Relayout | None:
    """The cut of a layout change between images or filters (N, C, H, W) and blocks of channels, `None` for others."""
    if not kernel.type.casefold().startswith("transdata") or not kernel.present or not kernel.outputs:
        return None
    sides = (kernel.present[0], kernel.outputs[0])
    plain = next((side for side in sides if side.layout == "ND" and len(side.shape) == _IMAGE_DIMS), None)
    blocked = next((side for side in sides if side.layout in ("NC1HWC0", "FRACTAL_Z")), None)
    if plain is None or blocked is None or not plain.count:
        return None
    cores = kernel.block_count or _cores(plain, blocked, machine.vectors)
    # Each block of a filter's channels lies with those of other filters behind, so that each is moved on its own.
    blocks = blocked.nbytes / _BLOCK_BYTES if blocked.layout == "FRACTAL_Z" else 0.0
    return Relayout(cores, blocks / cores)


def _cores(plain: Operand, blocked: Operand, most: int) -> int:
    """Images or filters are dealt out whole; where they are fewer than half of the cores, by blocks of channels."""
    outer = plain.shape[0]
    if 2 * outer < most and blocked.layout == "NC1HWC0":
        outer = prod(blocked.shape[:2])
    return ceil(outer / ceil(outer / most))
