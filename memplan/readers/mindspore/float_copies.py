"""Copies in float32 where MindSpore's CPU build has no kernel for float16, in a graph that it compiles."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindir.op_table import op_table
from memplan.readers.mindspore.view_copies import renumbered

_NARROW, _WIDE = "float16", "float32"


def with_float_copies(graph: Graph) -> Graph:
    """
    `graph` with the casts that the compiler adds once kernels are chosen.

    A kernel that is there for float32 only casts each operand for itself, and its result back; where the one that reads
    the result is such a kernel too, it takes it as it was made, and the cast back is left out where all are. So
    MindSpore 2.10 writes the graph that it builds (`graph_build_*.ir`, casts with `is_backend_cast`).
    """
    kernels = op_table().cpu_wide_kernels
    wide_only = {op.index for op in graph.ops if op.launches and op.type in kernels}
    readers: dict[int, list[Op]] = {}
    for op in graph.ops:
        for tensor in op.inputs:
            readers.setdefault(tensor, []).append(op)
    tensors = list(graph.tensors)
    ops: list[Op] = []
    number: dict[int, int] = {}
    made: dict[int, int] = {}

    def cast(op: Op, given: int, result: int) -> None:
        name = f"{op.name}/Cast-op{len(ops)}"
        ops.append(Op(len(ops), name, "Cast", (given,), (result,), stream=op.stream, source=op.source))

    def wide(tensor: int, name: str) -> int:
        own = tensors[tensor]
        tensors.append(
            Tensor(len(tensors), name, own.shape, _WIDE, 2 * own.nbytes, TensorKind.ACTIVATION, len(tensors))
        )
        return len(tensors) - 1

    producers: dict[int, int] = {}
    for op in graph.ops:
        given: dict[int, int] = {}
        outputs = list(op.outputs)
        if op.index in wide_only:
            for tensor in dict.fromkeys(op.inputs):
                if graph.tensors[tensor].dtype != _NARROW:
                    continue
                if tensor not in made:
                    given[tensor] = wide(tensor, f"{op.name}:{tensor}:{_WIDE}")
                    producers[given[tensor]] = len(ops)
                    cast(op, tensor, given[tensor])
                else:
                    given[tensor] = made[tensor]
            for place, tensor in enumerate(op.outputs):
                if graph.tensors[tensor].dtype == _NARROW:
                    outputs[place] = made[tensor] = wide(tensor, f"{graph.tensors[tensor].name}:{_WIDE}")
        number[op.index] = len(ops)
        ops.append(replace(renumbered(op, given, number), outputs=tuple(outputs)))
        for tensor, own in zip(outputs, op.outputs, strict=True):
            producers[tensor] = number[op.index]
            if tensor != own and (
                own in graph.outputs or any(item.index not in wide_only for item in readers.get(own, ()))
            ):
                producers[own] = len(ops)
                cast(op, tensor, own)
    placed = (replace(tensor, producer=producers.get(tensor.index)) for tensor in tensors)
    return replace(graph, ops=tuple(ops), tensors=tuple(placed))
