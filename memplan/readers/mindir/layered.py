"""
Layers added to an unfolded program before its order is found.

The ready list interleaves what is independent, a gradient's chain and the optimiser's for instance, at a rate of its
own: what it schedules need not repeat once a layer. The nodes as the file lists them do, for each is preceded by what
it takes, layer by layer. So layers are added to the list, with every node that orders it, and the order is found
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.graph.model import Graph, Op
from memplan.readers.layer_regions import TAKES, taken_steps
from memplan.readers.mindir.execution_order import execution_order
from memplan.readers.mindir.schedule_trace import ScheduleTrace
from memplan.readers.replicate import replicate_layers

_BARE = "no op"
"""Attribute of nodes that became no op: tuples made and taken apart."""
_END = "Return"


def layered_graph(graph: Graph, trace: ScheduleTrace, result: Sequence[int], layers: int) -> Graph:
    """
    `graph`, whose ops are in the order of `trace`, with its layers extended to `layers`, in MindSpore's order.

    `result` are the nodes of the trace that the program returns. Raises `InputError` like `replicate_layers`.
    """
    return _ordered(replicate_layers(_with_nodes(graph, trace, result), layers))


def _with_nodes(graph: Graph, trace: ScheduleTrace, result: Sequence[int]) -> Graph:
    """The graph with every node of the trace as a step, and what each takes."""
    step_of = {op: step for step, (_, _, op) in enumerate(trace.nodes) if op is not None}
    ops = []
    for step, (type_, sources, op) in enumerate(trace.nodes):
        if op is None:
            ops.append(_bare(step, type_, sources))
            continue
        made = graph.ops[op]
        attrs = {**made.attrs, TAKES: tuple(sources)}
        after = made.attrs.get("after")
        if isinstance(after, tuple):
            attrs["after"] = tuple(step_of[other] for other in after)
        ops.append(replace(made, index=step, attrs=attrs))
    ops.append(_bare(len(ops), _END, [step for step in result if step >= 0]))
    tensors = tuple(
        tensor if tensor.producer is None else replace(tensor, producer=step_of[tensor.producer])
        for tensor in graph.tensors
    )
    return replace(graph, ops=tuple(ops), tensors=tensors)


def _bare(step: int, type_: str, sources: Sequence[int]) -> Op:
    return Op(step, type_, type_, (), (), launches=False, attrs={TAKES: tuple(sources), _BARE: True})


def _ordered(graph: Graph) -> Graph:
    """The ops in MindSpore's order; nodes that became none and what the result doesn't need are left out."""
    *nodes, end = graph.ops
    takes = [taken_steps(op) for op in nodes]
    order = execution_order([op.type for op in nodes], takes, taken_steps(end))
    kept = [step for step in order if _BARE not in nodes[step].attrs]
    place = {step: index for index, step in enumerate(kept)}
    ops = []
    for index, step in enumerate(kept):
        attrs = {name: value for name, value in nodes[step].attrs.items() if name != TAKES}
        after = attrs.get("after")
        if isinstance(after, tuple):
            attrs["after"] = tuple(sorted(place[other] for other in after if other in place))
        ops.append(replace(nodes[step], index=index, attrs=attrs))
    tensors = tuple(
        tensor if tensor.producer is None else replace(tensor, producer=place.get(tensor.producer))
        for tensor in graph.tensors
    )
    return replace(graph, ops=tuple(ops), tensors=tensors)
