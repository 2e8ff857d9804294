"""
Where in a row its largest element is (ArgMax, ArgMaxWithValue): a row, or what lies along an inner axis, is gone
through part by part, each step of which waits for the one before, as what is found passes the scalar unit.
"""

from __future__ import annotations

from math import ceil, prod

from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import index_search
from memplan.cost.machine import Machine


def search_ns(kernel: Kernel, machine: Machine, cores: int) -> float:
    """
    Nanoseconds that the steps of the busiest of `cores` cores take to start; 0 for kernels of other types, of
    generations whose kernels do otherwise, and where the shapes tell no axis.
    """
    rule = index_search(kernel.type, machine.npu_arch)
    source = kernel.present[0] if kernel.present else None
    if rule is None or source is None or not kernel.outputs:
        return 0.0
    axis = _axis(kernel, source)
    if axis is None:
        return 0.0
    length, inside = source.shape[axis], prod(source.shape[axis + 1 :])
    outside = prod(source.shape[:axis])
    if inside == 1:
        steps = ceil(outside / cores) * ceil(length / rule.part) * (rule.steps + (source.dtype == "bfloat16"))
    else:
        # What lies outside is dealt out, or what lies inside: whichever leaves the busiest core fewer parts.
        parts = min(ceil(outside / (kernel.block_count or machine.vectors)) * ceil(inside / rule.part), outside)
        steps = parts * length * rule.inner_steps
    return steps * machine["instruction_start_ns"]


def _axis(kernel: Kernel, source: Operand) -> int | None:
    """The axis that is searched along: what its attribute says, else the one that the indices lack."""
    told = kernel.attribute("dimension")
    if isinstance(told, int) and not isinstance(told, bool) and -len(source.shape) <= told < len(source.shape):
        return told % len(source.shape)
    made = kernel.outputs[0]
    lacking = [
        axis
        for axis, size in enumerate(source.shape)
        if size > 1 and made.shape in (_without(source, axis), _without(source, axis, kept=(1,)))
    ]
    if lacking:
        return lacking[-1]
    return len(source.shape) - 1 if made.count == prod(source.shape[:-1]) else None


def _without(source: Operand, axis: int, kept: tuple[int, ...] = ()) -> tuple[int, ...]:
    return (*source.shape[:axis], *kept, *source.shape[axis + 1 :])
