"""The planned in-order peak is the one that MindSpore's CPU profiler measures for the same step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.graph import Graph, live_curve
from memplan.readers import Target, read_graph
from memplan.units import round_up

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
