"""
Kernels whose cores run threads that go to memory on their own (SIMT, on 3510): each takes an element after the other,
and what it reads and writes of one comes one access behind the other.
"""

from __future__ import annotations

from math import ceil, log2, prod

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.thread_rules import thread_rule
from memplan.cost.machine import Machine
from memplan.cost.vector.core_cut import CoreCut
from memplan.cost.vector.row_turns import RowTurns
from memplan.cost.vector.runs import BLOCK_BYTES

_IMAGE_DIMS = 4


def thread_turns(kernel: Kernel, machine: Machine) -> RowTurns | None:
    """
    How the elements of `kernel` are dealt out to threads, with what those of the busiest core wait for; `None` where it
    starts none, or tells too little.

    Sums over all elements are added up by one core, two of the others' parts at a time, once all of them are there.
    """
    rule = thread_rule(kernel.type, machine.npu_arch)
    if rule is None or not kernel.present or not kernel.outputs:
        return None
    made = kernel.outputs[0]
    elements = made.count if rule.windows else _picked(kernel)
    accesses = _window(kernel) + 1 if rule.windows else rule.accesses
    if not elements or accesses < 2:
        return None
    share = 1 if rule.spreads else rule.threads
    cores = kernel.block_count or min(ceil(elements / share), machine.vectors)
    starts, waits = 1, ceil(ceil(elements / cores) / rule.threads) * accesses
    if rule.sums and made.count == 1 < elements:
        starts, waits = 2, waits + ceil(log2(cores)) * rule.sums
    issued = starts * machine["thread_start_ns"] + waits * machine["thread_access_ns"]
    read = float(kernel.read_bytes) if rule.windows else _read_of_picked(kernel, elements)
    return RowTurns(CoreCut(cores, cores, issued), read, float(kernel.written_bytes), in_turn=False)


def _picked(kernel: Kernel) -> int:
    """Elements that indices pick, one each."""
    return next((each.count for each in kernel.present[1:] if "int" in each.dtype), 0)


def _read_of_picked(kernel: Kernel, elements: int) -> float:
    """Bytes of what picks an element, and of the block of each that is picked, no more than there is."""
    picked = min(elements * BLOCK_BYTES, kernel.present[0].nbytes)
    return float(picked + sum(each.nbytes for each in kernel.present[1:]))


def _window(kernel: Kernel) -> int:
    """Elements of the gradient that are added up for one of an image, 0 where none are."""
    gradient, image = kernel.present[0].shape, kernel.outputs[0].shape
    if len(gradient) != _IMAGE_DIMS or len(image) != _IMAGE_DIMS or gradient == image or not all(image):
        return 0
    return prod(max(ceil(size / made), 1) for size, made in zip(gradient[2:], image[2:], strict=True))
