"""
Names as torch_npu writes them, which say nothing of a plan: the kernel that CANN ran and the ATen op that asked for it.

Kernels are `aclnn<API>_<type>AiCore_<type>` and `hcom_<op>__<group>_<number>_1`, allocations are named by the ATen op
(kernel_details.csv and operator_memory.csv of the Qwen3-0.6B profile in Ascend/msinsight).
"""

from __future__ import annotations

import re
from dataclasses import replace

from memplan.schema import PlannedOp

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def hidden_op(op: PlannedOp, collective: bool) -> PlannedOp:
    """`op` under the names that a profile has for its kernel."""
    if collective:
        kind = f"hcom_{op.type[:1].lower()}{op.type[1:]}_"
        return replace(op, name=f"{kind}_097_{op.index}_1", type=kind)
    return replace(op, name=f"aclnn{op.type}_{op.type}AiCore_{op.type}")


def asking_name(op: PlannedOp) -> str:
    """What an allocation of `op` is named by."""
    return "aten::" + _WORDS.sub("_", op.type).casefold()
