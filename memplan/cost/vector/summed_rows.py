"""
Rows of experts that are added up for their tokens (MoeFinalizeRouting), which a core takes one by one, or two, to
where indices say: tokens are dealt out whole.
"""

from __future__ import annotations

from math import ceil

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import summed_rows
from memplan.cost.machine import Machine

_EXPERTS = 6
"""Place of the operand that tells the expert of each row, without which no bias is added."""


def cut_of_sums(kernel: Kernel, machine: Machine) -> tuple[int, float] | None:
    """
    Cores that get tokens, and nanoseconds that the steps of the busiest one take to start; `None` for kernels of other
    types, and where neither tokens nor places of rows are told.
    """
    rule = summed_rows(kernel.type, machine.npu_arch)
    places = next((each.count for each in kernel.present[1:] if each.dtype == "int32"), 0)
    tokens = kernel.outputs[0].shape[0] if kernel.outputs and kernel.outputs[0].shape else 0
    if rule is None or not places or not tokens:
        return None
    cores = kernel.block_count or ceil(tokens / ceil(tokens / machine.vectors))
    expert = len(kernel.inputs) > _EXPERTS and kernel.inputs[_EXPERTS] is not None
    steps = ceil(tokens / cores) * rule.of_token(max(places // tokens, 1), expert=expert)
    return cores, steps * machine["instruction_start_ns"]
