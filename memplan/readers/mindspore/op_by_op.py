"""The order of a graph's ops where MindSpore runs them one by one, from Python."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph
from memplan.readers.mindir.op_table import op_table

_NOTE = (
    "PyNative mode: the order is that of the compiled graph with the optimiser behind all gradients; what Python "
    "variables hold longer is not seen"
)


def op_by_op(graph: Graph) -> Graph:
    """
    `graph` as PyNative mode runs it: all gradients are there before the optimiser's first op.

    The compiler updates each weight as soon as its gradient is there; Python calls the optimiser with all of them.
    """
    last = _needed_last(graph)
    order = [op.index for op in graph.ops if op.index not in last] + [op.index for op in graph.ops if op.index in last]
    place = {old: new for new, old in enumerate(order)}
    ops = []
    for new, old in enumerate(order):
        op = graph.ops[old]
        after = op.attrs.get("after")
        attrs = {**op.attrs, "after": tuple(place[step] for step in after)} if isinstance(after, tuple) else op.attrs
        ops.append(replace(op, index=new, attrs=attrs))
    tensors = tuple(
        tensor if tensor.producer is None else replace(tensor, producer=place[tensor.producer])
        for tensor in graph.tensors
    )
    return replace(graph, ops=tuple(ops), tensors=tensors, notes=(*graph.notes, _NOTE))


def _needed_last(graph: Graph) -> set[int]:
    """The ops of an optimiser and all that need what they make."""
    scopes = op_table().optimizers
    last: set[int] = set()
    made: set[int] = set()
    for op in graph.ops:
        if scopes.search(op.name) or made.intersection(op.inputs):
            last.add(op.index)
            made.update(op.outputs)
    return last
