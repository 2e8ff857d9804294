"""The planned in-order peak is the one that MindSpore's CPU profiler measures for the same step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.graph import Graph
from memplan.readers import Target, read_graph
from tests.readers.launch_order import in_launch_order, measured_transient, planned_transient

pytestmark = pytest.mark.mindspore


def planned_and_measured(graph: Graph, measured: Any) -> tuple[int, int]:
    return planned_transient(graph), measured_transient(graph, measured.memory)


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


@pytest.mark.parametrize("name", ["mlp_train", "llama_train", "cnn_train"])
def test_in_the_order_of_launches_peaks_agree_too(name: str, measured_step: Callable[[str], Any]) -> None:
    # The CPU backend launches kernels as their inputs arrive; where the graph leaves a choice, that is its order.
    step = measured_step(name)
    graph = in_launch_order(read_graph(step.kernel_graph, target=Target.CPU), step.kernels)
    planned, measured = planned_and_measured(graph, step)
    print(f"{name}: planned {planned}, measured {measured}, {planned / measured - 1:+.3%}")
    assert planned == pytest.approx(measured, rel=0.01)
