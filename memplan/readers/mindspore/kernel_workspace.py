"""What kernels hold beside their operands where MindSpore's CPU build runs them op by op."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op
from memplan.readers.mindir.op_table import op_table

_MATRIX = 2
_NARROW = "float16"
_WIDENED = 2
"""Bytes in float32 for one in float16."""
_COPIES = frozenset({"BroadcastTo", "Contiguous"})


def with_kernel_workspace(graph: Graph) -> Graph:
    """
    `graph` with the scratch of kernels that are split or fed copies, as MindSpore 2.10's allocator has it.

    All results of a split kernel's parts are there until its last part has run, and so are the casts of one that is
    there for float32 only. `MatMulExt` of batches copies both operands and the result, which it expands; an operand
    that is such a copy already is none again.
    """
    return replace(
        graph,
        ops=tuple(replace(op, workspace_bytes=max(op.workspace_bytes, _scratch(graph, op))) for op in graph.ops),
    )


def _scratch(graph: Graph, op: Op) -> int:
    table = op_table()
    if op.type in table.cpu_op_by_op_workspace_operands:
        largest = max((graph.tensors[index].nbytes for index in op.inputs), default=0)
        return table.cpu_op_by_op_workspace_operands[op.type] * largest
    if op.launches and op.type in table.cpu_wide_kernels | table.cpu_broadcast_operands:
        narrow = {index for index in (*op.inputs, *op.outputs) if graph.tensors[index].dtype == _NARROW}
        casts = sum(_WIDENED * graph.tensors[index].nbytes for index in narrow)
    else:
        casts = 0
    return casts + _copies(graph, op)


def _copies(graph: Graph, op: Op) -> int:
    """Bytes of what a product of batches copies."""
    operands = op.inputs[:2]
    if op.type not in op_table().cpu_broadcast_operands:
        return 0
    if all(len(graph.tensors[index].shape) <= _MATRIX for index in (*operands, *op.outputs[:1])):
        return 0
    copied = [index for index in dict.fromkeys(operands) if not _is_copy(graph, index)]
    return sum(graph.tensors[index].nbytes for index in (*copied, *op.outputs[:1]))


def _is_copy(graph: Graph, tensor: int) -> bool:
    producer = graph.tensors[tensor].producer
    return producer is not None and graph.ops[producer].type in _COPIES
