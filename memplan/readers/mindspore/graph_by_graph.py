"""A step function in GRAPH mode that is not compiled as a whole: Python calls one graph after the other."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor
from memplan.readers.mindspore.op_by_op import optimizer_last, reordered
from memplan.readers.mindspore.ready_order import in_ready_order, ready_order

_NOTE = (
    "GRAPH mode, a function that is not compiled as a whole: its gradients are one graph and its optimiser is another; "
    "gradients of the step before wait until all new ones are there"
)
_KEEP = "KeepAlive"


def graph_by_graph(graph: Graph, *, when_ready: bool = False) -> Graph:
    """
    `graph` with the optimiser behind all gradients, each of which lives on to the end of the next step's.

    What a compiled graph returns stays with its executor until the next run returns the same (MindSpore 2.10, by the
    allocator's records): gradients are there twice while they are made. A graph without optimiser is launched as a
    whole. With `when_ready` the kernels of each run as `ready_order` has it.
    """
    order, first = optimizer_last(graph)
    if first == len(order):
        return in_ready_order(graph) if when_ready else graph
    if when_ready:
        order = ready_order(graph, [order[:first], order[first:]])
    graph = reordered(graph, order)
    made = {graph.tensors[tensor].storage for op in graph.ops[:first] for tensor in op.outputs}
    read = dict.fromkeys(graph.tensors[tensor].storage for op in graph.ops[first:] for tensor in op.inputs)
    gradients = [graph.tensors[root] for root in read if root in made and not graph.tensors[root].kind.persistent]
    old = [
        replace(tensor, index=at, name=f"{tensor.name} of the step before", storage=at, producer=0)
        for at, tensor in enumerate(gradients, start=len(graph.tensors))
    ]
    steps = [*(op.index for op in graph.ops[:first]), *(op.index + 1 for op in graph.ops[first:])]
    place = {op.index: step + 1 for op, step in zip(graph.ops, steps, strict=True)}
    moved = [_at(op, place) for op in graph.ops]
    ops = (
        Op(0, f"{_KEEP}/gradients", _KEEP, (), _indices(old), launches=False),
        *moved[:first],
        Op(first + 1, f"{_KEEP}/returned", _KEEP, _indices(old), (), launches=False),
        *moved[first:],
        Op(len(moved) + 2, f"{_KEEP}/returned_again", _KEEP, _indices(gradients), (), launches=False),
    )
    tensors = (
        tensor if tensor.producer is None else replace(tensor, producer=place[tensor.producer])
        for tensor in graph.tensors
    )
    return replace(graph, ops=ops, tensors=(*tensors, *old), notes=(*graph.notes, _NOTE))


def _indices(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.index for tensor in tensors)


def _at(op: Op, place: dict[int, int]) -> Op:
    after = op.attrs.get("after")
    attrs = {**op.attrs, "after": tuple(place[step] for step in after)} if isinstance(after, tuple) else op.attrs
    return replace(op, index=place[op.index], attrs=attrs)
