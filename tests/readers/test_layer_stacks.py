"""Equal layers are extended from the command line too, and more than one stack of them is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from memplan.cli import main
from memplan.readers import read_graph
from memplan.readers.replicate import replicate_layers
from memplan.schema import load_plan


def saved(folder: Path, stacks: dict[str, int], layers: int = 4) -> Path:
    """A model of `stacks`: name -> width, each of so many equal layers."""
    nodes, weights, at, width = [], [], "x", 16
    for name, wide in stacks.items():
        if wide != width:
            weights.append(numpy_helper.from_array(np.zeros((width, wide), np.float32), f"to_{name}"))
            nodes.append(helper.make_node("MatMul", [at, f"to_{name}"], [f"{name}_in"]))
            at, width = f"{name}_in", wide
        for layer in range(layers):
            weight = f"{name}.{layer}.weight"
            weights.append(numpy_helper.from_array(np.zeros((wide, wide), np.float32), weight))
            nodes.append(helper.make_node("MatMul", [at, weight], [f"{name}_h{layer}"]))
            nodes.append(helper.make_node("Relu", [f"{name}_h{layer}"], [f"{name}_r{layer}"]))
            at = f"{name}_r{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, size]) for name, size in (("x", 16), (at, width))
    ]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)), path)
    return path


def test_the_command_line_extends_layers(tmp_path: Path) -> None:
    path = saved(tmp_path, {"blocks": 16})
    assert main(["plan", str(path), "--layers", "9", "-o", str(tmp_path / "plan.json")]) == 0
    assert len(load_plan(tmp_path / "plan.json").ops) == 2 * 9


@pytest.mark.parametrize(("stacks", "notes"), [({"blocks": 16}, 1), ({"encoder": 16, "decoder": 32}, 2)])
def test_several_stacks_are_each_extended_and_said_to_be(stacks: dict[str, int], notes: int, tmp_path: Path) -> None:
    graph = replicate_layers(read_graph(saved(tmp_path, stacks)), 6)
    full = read_graph(saved(tmp_path, stacks, layers=6))
    assert [op.type for op in graph.ops] == [op.type for op in full.ops]
    assert len(graph.notes) == notes
    assert ("2 stacks of layers (decoder, encoder) were each extended by 2" in graph.notes[-1]) == (notes == 2)
