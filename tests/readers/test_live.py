"""Cells captured in a running process: the exported graph without its weights, and few layers extended to many."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.readers import read_graph
from memplan.readers.replicate import replicate_layers

SAMPLES = Path(__file__).parents[2] / "memplan" / "samples"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("mindspore")
    target = tmp_path_factory.mktemp("capture") / "found.json"
    script = Path(__file__).with_name("mindspore_capture.py")
    # There, for MindSpore leaves files where it runs, such as graphs that it finds odd.
    subprocess.run([sys.executable, str(script), str(target)], check=True, capture_output=True, cwd=target.parent)
    document: dict[str, Any] = json.loads(target.read_text())
    return document


@pytest.mark.mindspore
@pytest.mark.parametrize("name", ["llama_train", "control_flow", "llama_lazy_inline"])
def test_a_captured_cell_is_the_exported_graph(name: str, found: dict[str, Any]) -> None:
    captured, exported = found["captured"][name]
    assert captured == exported


@pytest.mark.mindspore
@pytest.mark.parametrize(
    "mode",
    ["infer", "train", "SGD", "Momentum", "RMSProp", "Lamb", "clipped by the norm of all gradients", "every result"],
)
def test_extended_layers_equal_as_many_to_the_byte_at_every_step(mode: str, found: dict[str, Any]) -> None:
    extended, full = found["extended"][mode]
    assert extended == full


@pytest.mark.mindspore
def test_a_captured_cell_still_runs(found: dict[str, Any]) -> None:
    assert found["still_runs"]


@pytest.mark.mindspore
def test_op_by_op_steps_functions_and_models_are_captured_and_training_goes_on(found: dict[str, Any]) -> None:
    kernels = found["op_by_op"]["kernels"]
    assert kernels["cell"] == ["MatMul", "BiasAdd", "ReLU", "MatMul", "BiasAdd"]
    assert kernels["train_step"] == kernels["jit"]
    assert sum("Adam" in kind for kind in kernels["train_step"]) == 4
    assert sum("Adam" in kind for kind in kernels["model"]) == 4
    assert found["op_by_op"]["same_mode"]
    with_captures, without = found["op_by_op"]["losses"]
    assert with_captures == without


@pytest.mark.mindspore
def test_misuse_gives_one_clear_line(found: dict[str, Any]) -> None:
    assert set(found["refused"]) == {"no cell", "numpy", "open", "wrong inputs", "no source", "few layers"}
    assert "a function or a mindspore.Model is expected" in found["refused"]["no cell"]
    assert "inputs must be Tensors" in found["refused"]["numpy"]
    assert 'shapes={"x": (DIM,64)}' in found["refused"]["open"]
    assert "can't be compiled" in found["refused"]["wrong inputs"]
    assert "define cells and step functions in a file" in found["refused"]["no source"]
    assert "too few" in found["refused"]["few layers"]
    assert all("\n" not in line for line in found["refused"].values())


def test_graphs_without_repeated_layers_are_not_extended() -> None:
    with pytest.raises(InputError, match="too few"):
        replicate_layers(read_graph(SAMPLES / "cnn.mindir"), 10)
    with pytest.raises(InputError, match="too few"):
        replicate_layers(read_graph(SAMPLES / "llama_infer.mindir"), 10)
