"""A graph in the order in which MindSpore's CPU backend launched its kernels, and the peak it has then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from memplan.core.units import round_up
from memplan.graph import Graph, live_curve
from tests.readers.joined_kernels import join_kernels

CPU_POOL_ALIGNMENT = 512


def in_launch_order(graph: Graph, kernels: Sequence[str]) -> Graph:
    """`graph` with its kernels in the order in which they were launched, views right before who needs them."""
    joined = join_kernels(graph, kernels)
    order: dict[int, None] = {}

    def place(step: int) -> None:
        for tensor in graph.ops[step].inputs:
            producer = graph.tensors[tensor].producer
            if producer is not None and producer not in order and producer != step:
                place(producer)
        order[step] = None

    for kernel in kernels:
        if kernel in joined:
            place(joined[kernel].op)
    for step in range(len(graph.ops)):
        place(step)
    ops = tuple(dataclasses.replace(graph.ops[step], index=index) for index, step in enumerate(order))
    return dataclasses.replace(graph, ops=ops)


def planned_transient(graph: Graph) -> int:
    """Most bytes beside what exists before the first op, as the CPU build's pool rounds them."""
    return int(live_curve(graph, alignment=CPU_POOL_ALIGNMENT, persistent=False).max())


def measured_transient(graph: Graph, memory: Sequence[Sequence[int]]) -> int:
    """
    Most bytes that a step had allocated at once, from the records `(time, bytes)` of it.

    When the last record is made, only the step's result and what stays for ever is allocated: compile-time constants,
    which are the backend's own.
    """
    result = sum(round_up(graph.tensors[tensor].nbytes, CPU_POOL_ALIGNMENT) for tensor in graph.outputs)
    return max(value for _, value in memory) - (memory[-1][1] - result)
