"""The planned in-order peak is the one that MindSpore's CPU profiler measures for the same step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.graph import live_curve
from memplan.readers import Target, read_graph
from memplan.units import round_up

pytestmark = pytest.mark.mindspore

CPU_POOL_ALIGNMENT = 512


@pytest.mark.parametrize("name", ["llama_train", "llama_infer", "cnn"])
def test_transient_peak_is_the_measured_one(
    name: str, sample: Callable[[str], Path], measured_step: Callable[[str], Any]
) -> None:
    measured = measured_step(name)
    graph = read_graph(sample(name), target=Target.CPU)
    result = sum(round_up(graph.tensors[tensor].nbytes, CPU_POOL_ALIGNMENT) for tensor in graph.outputs)
    planned = int(live_curve(graph, alignment=CPU_POOL_ALIGNMENT, persistent=False).max())
    assert planned == pytest.approx(measured.transient_peak(result), rel=0.01)
