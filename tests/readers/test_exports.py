"""Everything MindSpore exports reads completely: every node known, every tensor with its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memplan.graph import DTYPE_BITS, Graph, TensorKind, bytes_by_kind, live_curve
from memplan.models.samples.mindir_export import SAMPLES
from memplan.readers import read_graph

pytestmark = pytest.mark.mindspore

OPEN = {"dynamic_batch": {"x": (32, 64)}}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mindspore")
    folder = tmp_path_factory.mktemp("exports")
    command = [sys.executable, "-m", "memplan.models.samples.mindir_export", str(folder), *SAMPLES]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def read(exports: Path, name: str) -> Graph:
    return read_graph(exports / f"{name}.mindir", shapes=OPEN.get(name))


@pytest.mark.parametrize("name", list(SAMPLES))
def test_no_node_is_of_unknown_type_or_size(name: str, exports: Path) -> None:
    graph = read(exports, name)
    assert graph.ops
    assert all(op.type and op.name for op in graph.ops)
    for tensor in graph.tensors:
        assert all(dim >= 0 for dim in tensor.shape)
        count = 1
        for dim in tensor.shape:
            count *= dim
        assert tensor.nbytes == (count * DTYPE_BITS[tensor.dtype] + 7) // 8
    for op in graph.ops:
        if op.launches:
            assert op.outputs or op.type in {"KeepAlive", "UpdateState"}


def test_recomputation_trades_activations_for_ops(exports: Path) -> None:
    plain, again = read(exports, "llama_train"), read(exports, "llama_recompute")
    repeated = [op for op in again.ops if op.attrs.get("recomputed")]
    assert repeated
    assert live_curve(again, persistent=False).max() < live_curve(plain, persistent=False).max()


def test_lazily_inlined_blocks_need_what_inlined_ones_need(exports: Path) -> None:
    plain, lazy = read(exports, "llama_train"), read(exports, "llama_lazy_inline")
    for kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.INPUT):
        assert bytes_by_kind(plain)[kind] == bytes_by_kind(lazy)[kind]
    count = [sum(op.type == "MatMul" for op in graph.ops) for graph in (plain, lazy)]
    assert count[0] == count[1]


def test_offloaded_activations_are_on_the_host_between_their_moves(exports: Path) -> None:
    graph = read(exports, "llama_offload")
    moves = [op for op in graph.ops if op.type == "MoveTo"]
    out = [op for op in moves if op.attrs["to"] == "CPU"]
    back = [op for op in moves if op.attrs["to"] != "CPU"]
    assert len(out) == len(back) > 0
    for op in out:
        assert graph.tensors[op.outputs[0]].on_host
    for op in back:
        assert graph.tensors[op.inputs[0]].on_host
        assert not graph.tensors[op.outputs[0]].on_host


def test_gradients_point_to_their_forward_op(exports: Path) -> None:
    graph = read(exports, "llama_train")
    forward = {op.attrs["unique_id"] for op in graph.ops if "unique_id" in op.attrs}
    linked = [op for op in graph.ops if "forward_id" in op.attrs]
    assert linked
    assert sum(op.attrs["forward_id"] in forward for op in linked) > len(linked) // 2
