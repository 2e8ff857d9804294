"""Every kernel that MindSpore's profiler reports in graph mode joins to an op of the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.readers import read_graph
from tests.readers.joined_kernels import join_kernels


@pytest.mark.mindspore
@pytest.mark.parametrize("name", ["llama_train", "llama_infer", "cnn"])
def test_kernels_join_the_exported_graph(
    name: str, sample: Callable[[str], Path], measured_step: Callable[[str], Any]
) -> None:
    graph = read_graph(sample(name))
    kernels = set(measured_step(name).kernels)
    joined = join_kernels(graph, kernels)
    print(f"{name}: {len(joined)} of {len(kernels)} kernels join, {sum(j.expanded for j in joined.values())} as parts")
    assert len(joined) >= 0.95 * len(kernels)
    for kernel, join in joined.items():
        if join.expanded:
            assert kernel.split("/")[1] == f"_{graph.ops[join.op].type}"


@pytest.mark.mindspore
@pytest.mark.parametrize("name", ["llama_train", "llama_infer", "cnn"])
def test_kernels_all_join_the_kernel_graph(name: str, measured_step: Callable[[str], Any]) -> None:
    measured = measured_step(name)
    graph = read_graph(measured.kernel_graph)
    joined = join_kernels(graph, measured.kernels)
    assert set(joined) == set(measured.kernels)
    assert not any(join.expanded for join in joined.values())


def test_parts_join_their_parents_in_the_order_of_the_file(sample: Callable[[str], Path]) -> None:
    graph = read_graph(sample("llama_infer"))
    joined = join_kernels(graph, ["Expand/_SiLU/Mul-op0", "Expand/_SiLU/Mul-op1", "Expand/_SiLU/Sigmoid-op1"])
    names = {kernel: graph.ops[join.op].name for kernel, join in joined.items()}
    assert "0-Block" in names["Expand/_SiLU/Mul-op0"]
    assert names["Expand/_SiLU/Mul-op1"] == names["Expand/_SiLU/Sigmoid-op1"] != names["Expand/_SiLU/Mul-op0"]
