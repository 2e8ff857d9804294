"""The planned in-order peak is the one that MindSpore's CPU profiler measures for the same step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.core.units import round_up
from memplan.graph import Graph, live_curve
from memplan.readers import Target, read_graph
from tests.readers.joined_kernels import join_kernels

pytestmark = pytest.mark.mindspore

CPU_POOL_ALIGNMENT = 512


def planned_and_measured(graph: Graph, measured: Any) -> tuple[int, int]:
    result = sum(round_up(graph.tensors[tensor].nbytes, CPU_POOL_ALIGNMENT) for tensor in graph.outputs)
    planned = int(live_curve(graph, alignment=CPU_POOL_ALIGNMENT, persistent=False).max())
    return planned, measured.transient_peak(result)


@pytest.mark.parametrize("name", ["llama_train", "llama_infer", "cnn"])
def test_peak_of_the_exported_graph_is_the_measured_one(
    name: str, sample: Callable[[str], Path], measured_step: Callable[[str], Any]
) -> None:
    planned, measured = planned_and_measured(read_graph(sample(name), target=Target.CPU), measured_step(name))
    print(f"{name}: planned {planned}, measured {measured}, {planned / measured - 1:+.3%}")
    assert planned == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("name", ["llama_train", "llama_infer", "llama_recompute", "cnn", "cnn_train", "mlp"])
def test_peak_of_the_kernel_graph_is_the_measured_one(name: str, measured_step: Callable[[str], Any]) -> None:
    step = measured_step(name)
    planned, measured = planned_and_measured(read_graph(step.kernel_graph, target=Target.CPU), step)
    print(f"{name}: planned {planned}, measured {measured}, {planned / measured - 1:+.3%}")
    assert planned == pytest.approx(measured, rel=0.01)


def in_launch_order(graph: Graph, kernels: list[str]) -> Graph:
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
        place(joined[kernel].op)
    for step in range(len(graph.ops)):
        place(step)
    ops = tuple(dataclasses.replace(graph.ops[step], index=index) for index, step in enumerate(order))
    return dataclasses.replace(graph, ops=ops)


@pytest.mark.parametrize("name", ["mlp_train", "llama_train", "cnn_train"])
def test_in_the_order_of_launches_peaks_agree_too(name: str, measured_step: Callable[[str], Any]) -> None:
    # The CPU backend launches kernels as their inputs arrive; where the graph leaves a choice, that is its order.
    step = measured_step(name)
    graph = in_launch_order(read_graph(step.kernel_graph, target=Target.CPU), step.kernels)
    planned, measured = planned_and_measured(graph, step)
    print(f"{name}: planned {planned}, measured {measured}, {planned / measured - 1:+.3%}")
    assert planned == pytest.approx(measured, rel=0.01)
