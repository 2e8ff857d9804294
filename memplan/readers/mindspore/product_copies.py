"""What a product of batches of matrices costs beside its operands where MindSpore's CPU build runs op by op."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindir.roles import is_of_gradients
from memplan.readers.mindspore.view_copies import renumbered

_MATRIX = 2
_COPIES = frozenset({"BroadcastTo", "Contiguous"})


def with_product_copies(graph: Graph) -> Graph:
    """
    `graph` with what `MatMulExt` of batches holds: copies of both operands and of the result, which it expands.

    What its gradient transposes stays until the product of that is made, for the node of the way back holds what it
    saved as long as it runs. So MindSpore 2.10's allocator has it in PyNative mode; an operand that is such a copy
    already is none again.
    """
    products = op_table().cpu_broadcast_operands
    ops: list[Op] = []
    number: dict[int, int] = {}
    for op in graph.ops:
        number[op.index] = len(ops)
        ops.append(renumbered(op, {}, number))
        if op.type not in products or not _is_of_batches(graph, op):
            continue
        ops[-1] = replace(ops[-1], workspace_bytes=op.workspace_bytes + _copied(graph, op))
        held = _transposed(graph, op) if is_of_gradients(op.name) else ()
        if held:
            kept = (*held, *op.outputs[:1])
            ops.append(Op(len(ops), f"{op.name}/saved", "KeepAlive", kept, (), stream=op.stream, launches=False))
    placed = (
        tensor if tensor.producer is None else replace(tensor, producer=number[tensor.producer])
        for tensor in graph.tensors
    )
    return replace(graph, ops=tuple(ops), tensors=tuple(placed))


def _is_of_batches(graph: Graph, op: Op) -> bool:
    return any(len(graph.tensors[index].shape) > _MATRIX for index in (*op.inputs[:2], *op.outputs[:1]))


def _maker(graph: Graph, tensor: int) -> Op | None:
    producer = graph.tensors[tensor].producer
    return None if producer is None else graph.ops[producer]


def _copied(graph: Graph, op: Op) -> int:
    """Bytes of the copies of operands, but for those that are copies already, and of the result."""
    makers = {index: _maker(graph, index) for index in op.inputs[:2]}
    copied = [index for index, maker in makers.items() if maker is None or maker.type not in _COPIES]
    return sum(graph.tensors[index].nbytes for index in (*copied, *op.outputs[:1]))


def _transposed(graph: Graph, op: Op) -> tuple[int, ...]:
    """What the gradient's transposed operands are made of."""
    makers = (_maker(graph, index) for index in op.inputs[:2])
    return tuple(
        maker.inputs[0]
        for maker in makers
        if maker is not None and maker.type == "Transpose" and maker.inputs and is_of_gradients(maker.name)
    )
