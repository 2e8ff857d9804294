"""ONNX models with inferred shapes become graphs like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError, UnboundShapeError
from memplan.graph import TensorKind, bytes_by_kind, lifetimes
from memplan.readers import read_graph
from memplan.readers.onnx import _TABLE
from memplan.readers.protobuf import message_class

FLOAT, INT64 = 1, 7


def value(entry: Any, name: str, *dims: int | str, kind: int = FLOAT) -> None:
    entry.name = name
    entry.type.tensor_type.elem_type = kind
    for dim in dims:
        place = entry.type.tensor_type.shape.dim.add()
        if isinstance(dim, str):
            place.dim_param = dim
        else:
            place.dim_value = dim


def perceptron(batch: int | str, *, inferred: bool = True) -> Any:
    model = message_class("test.onnx", _TABLE, "ModelProto", lossless=True)(ir_version=10, producer_name="test")
    model.opset_import.add(version=13)
    graph = model.graph
    graph.name = "perceptron"
    value(graph.input.add(), "x", batch, 64)
    value(graph.output.add(), "y", batch, 10)
    for name, dims in (("w1", (64, 256)), ("b1", (256,)), ("w2", (256, 10))):
        graph.initializer.add(name=name, dims=dims, data_type=FLOAT)
    if inferred:
        value(graph.value_info.add(), "h", batch, 256)
        value(graph.value_info.add(), "r", batch, 256)
        value(graph.value_info.add(), "v", batch, 256)
    constant = graph.node.add(name="shape", op_type="Constant", output=["s"]).attribute.add(name="value", type=4)
    constant.t.CopyFrom(type(constant.t)(dims=[2], data_type=INT64))
    gemm = graph.node.add(name="fc1", op_type="Gemm", input=["x", "w1", "b1"], output=["h"])
    gemm.attribute.add(name="transB", type=2, i=0)
    graph.node.add(name="relu", op_type="Relu", input=["h"], output=["r"])
    graph.node.add(name="view", op_type="Reshape", input=["r", "s"], output=["v"])
    graph.node.add(name="fc2", op_type="MatMul", input=["v", "w2"], output=["y"])
    return model


def saved(folder: Path, model: Any) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_ops_weights_and_lifetimes(tmp_path: Path) -> None:
    graph = read_graph(saved(tmp_path, perceptron(32)))
    assert [(op.name, op.launches) for op in graph.ops] == [
        ("fc1", True), ("relu", True), ("view", False), ("fc2", True)
    ]  # fmt: skip
    assert bytes_by_kind(graph)[TensorKind.WEIGHT] == 4 * (64 * 256 + 256 + 2560)
    assert graph.ops[0].attrs["transpose_b"] == 0
    hidden = {graph.tensors[span.tensor].name: (span.start, span.end) for span in lifetimes(graph)}
    assert hidden["h"] == (0, 2)
    assert hidden["r"] == (1, 4)
    assert "v" not in hidden


def test_named_dimensions_are_bound_by_input(tmp_path: Path) -> None:
    path = saved(tmp_path, perceptron("N"))
    graph = read_graph(path, shapes={"x": (7, 64)})
    assert graph.tensors[graph.outputs[0]].shape == (7, 10)
    with pytest.raises(UnboundShapeError, match="dimension 'N' is open") as caught:
        read_graph(path)
    assert caught.value.suggestion == "x=DIM,64"
    with pytest.raises(InputError, match="disagrees"):
        read_graph(path, shapes={"x": (7, 65)})
    with pytest.raises(InputError, match="inputs are x"):
        read_graph(path, shapes={"z": (7, 64)})


def test_a_value_used_before_it_is_made_is_refused(tmp_path: Path) -> None:
    model = perceptron(32)
    model.graph.node[2].input[0] = "r"
    with pytest.raises(InputError, match="used before"):
        read_graph(saved(tmp_path, model))


def test_nested_graphs_are_refused(tmp_path: Path) -> None:
    model = perceptron(32)
    model.graph.node[1].attribute.add(name="then_branch", type=5).g.node.add(op_type="Relu")
    with pytest.raises(InputError, match="graphs of its own"):
        read_graph(saved(tmp_path, model))


def test_a_model_made_by_the_onnx_package_reads(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="dense"),
            helper.make_node("Softmax", ["h"], ["y"], name="softmax", axis=-1),
        ],
        "small",
        [helper.make_tensor_value_info("x", kinds.FLOAT16, ["batch", 8])],
        [helper.make_tensor_value_info("y", kinds.FLOAT16, ["batch", 4])],
        [helper.make_tensor("w", kinds.FLOAT16, [8, 4], b"\0" * 64, raw=True)],
    )
    path = tmp_path / "made.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(helper.make_model(graph)), path)
    read = read_graph(path, shapes={"x": (5, 8)})
    assert [op.type for op in read.ops] == ["MatMul", "Softmax"]
    assert read.ops[1].attrs["axis"] == -1
    assert read.tensors[read.ops[0].outputs[0]].nbytes == 5 * 4 * 2


def test_other_protobuf_with_a_number_in_front_is_not_taken_for_onnx(tmp_path: Path) -> None:
    model = perceptron(32)
    model.ir_version = 1
    with pytest.raises(InputError, match="no ONNX model"):
        read_graph(saved(tmp_path, model))
