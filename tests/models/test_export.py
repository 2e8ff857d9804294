"""The bundled graphs are what the exporter makes of the models in this repository."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from memplan.graph import Graph, TensorKind
from memplan.models.samples.mindir_export import BUNDLED, SAMPLES, without_values
from memplan.readers import read_graph

UNSTABLE_ATTRS = {"unique_id", "forward_id", "forward_name", "after"}


def normalised(graph: Graph) -> Graph:
    """`graph` without what MindSpore numbers anew in every process."""
    ops = tuple(
        dataclasses.replace(op, attrs={key: value for key, value in op.attrs.items() if key not in UNSTABLE_ATTRS})
        for op in graph.ops
    )
    tensors = tuple(
        dataclasses.replace(tensor, name="") if tensor.kind is TensorKind.CONSTANT else tensor
        for tensor in graph.tensors
    )
    return dataclasses.replace(graph, name="", origin="", ops=ops, tensors=tensors)


def test_all_bundled_samples_can_be_exported() -> None:
    assert set(BUNDLED) <= set(SAMPLES)


@pytest.mark.mindspore
def test_exporting_again_gives_the_bundled_graphs(tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    command = [sys.executable, "-m", "memplan.models.samples.mindir_export", str(tmp_path), *BUNDLED]
    subprocess.run(command, check=True, capture_output=True)
    for name in BUNDLED:
        bundled = Path(str(resources.files("memplan.samples"))) / f"{name}.mindir"
        assert normalised(read_graph(tmp_path / f"{name}.mindir")) == normalised(read_graph(bundled)), name


def test_bundled_samples_hold_no_weights() -> None:
    for name in BUNDLED:
        data = (resources.files("memplan.samples") / f"{name}.mindir").read_bytes()
        assert without_values(data) == data
        assert len(data) < 400_000
