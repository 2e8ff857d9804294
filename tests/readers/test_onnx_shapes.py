"""Shapes that an ONNX file leaves out follow from those of its inputs, or are asked for by name; none is made up."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from memplan.core.errors import InputError, UnboundShapeError
from memplan.graph import Graph, live_curve
from memplan.readers import read_graph
from memplan.readers.onnx import read_onnx

F, I64 = TensorProto.FLOAT, TensorProto.INT64
Dims = list[int | str | None]


def info(name: str, dims: Dims | None, kind: int = F) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)


def made(nodes: list[Any], inputs: list[Any], outputs: list[Any], **more: Any) -> Any:
    weights = [numpy_helper.from_array(value, name) for name, value in more.pop("weights", {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights, value_info=more.pop("value_info", []))
    opset = [helper.make_opsetid("", more.pop("opset", 18)), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opset, **more)


def read(model: Any, **shapes: tuple[int, ...]) -> Graph:
    return read_onnx(model.SerializeToString(), "m.onnx", shapes=shapes)


def shape_of(graph: Graph, name: str) -> tuple[int, ...]:
    return next(tensor.shape for tensor in graph.tensors if tensor.name == name)


def detector(*, declared: Dims | None = None) -> Any:
    """A strided convolution, and a reshape whose size is worked out from the shape of what it is given."""
    conv = helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1])
    flat = [
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["a", "to"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    weights = {
        "w": np.zeros((8, 3, 3, 3), np.float32), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([8, -1])
    }  # fmt: skip
    stale = [info("a", declared)] if declared else []
    return made([conv, *flat], [info("x", ["N", 3, "H", "W"])], [info("y", ["N", 8, "P"])], weights=weights,
                value_info=stale)  # fmt: skip


sizes = st.integers(1, 40)


@settings(max_examples=40)
@given(sizes, sizes, sizes, st.sampled_from([None, ["unk__0", 8, "unk__1", "unk__2"], [1, 8, 112, 112]]))
def test_shapes_follow_from_those_of_the_inputs(n: int, h: int, w: int, declared: Dims | None) -> None:
    graph = read(detector(declared=declared), x=(n, 3, h, w))
    rows, columns = (h + 1) // 2, (w + 1) // 2
    assert shape_of(graph, "a") == (n, 8, rows, columns)
    assert shape_of(graph, "y") == (n, 8, rows * columns)


def test_what_is_open_is_asked_for_once() -> None:
    with pytest.raises(UnboundShapeError) as caught:
        read(detector())
    assert caught.value.suggestion == "x=DIM,3,DIM,DIM"
    with pytest.raises(InputError, match="disagrees"):
        read(detector(), x=(1, 4, 8, 8))
    with pytest.raises(InputError, match="has not 4 dimensions"):
        read(detector(), x=(1, 3, 8))


@pytest.mark.parametrize("open_dim", [None, -1, "n"])
def test_an_unset_or_negative_dimension_is_open(open_dim: int | str | None) -> None:
    model = made([helper.make_node("Exp", ["x"], ["y"])], [info("x", [None, 64])], [info("y", [None, 64])])
    for value in (model.graph.input[0], model.graph.output[0]):
        dim = value.type.tensor_type.shape.dim[0]
        if isinstance(open_dim, int):
            dim.dim_value = open_dim
        elif open_dim:
            dim.dim_param = open_dim
    with pytest.raises(UnboundShapeError) as caught:
        read(model)
    assert caught.value.suggestion == "x=DIM,64"
    assert shape_of(read(model, x=(16, 64)), "y") == (16, 64)


def test_a_size_of_zero_is_a_size() -> None:
    model = made([helper.make_node("Exp", ["x"], ["y"])], [info("x", [0, 64])], [info("y", [0, 64])])
    assert live_curve(read(model)).max() == 0


def unknown_axes() -> Any:
    nodes = [helper.make_node("ReduceSum", ["x", "ax"], ["a"], keepdims=0), helper.make_node("Exp", ["a"], ["y"])]
    model = made(nodes, [info("x", [32, 16, 8]), info("ax", [1], I64)], [info("y", [32, 8])])
    model.graph.value_info.add(name="a").type.tensor_type.elem_type = F
    return model


def test_an_unknown_rank_is_no_scalar() -> None:
    with pytest.raises(UnboundShapeError, match=r"a: .*ReduceSum") as caught:
        read(unknown_axes())
    assert caught.value.suggestion == "a=DIM,DIM,..."
    assert shape_of(read(unknown_axes(), a=(32, 8)), "a") == (32, 8)


def test_a_size_that_depends_on_data_is_bound_by_its_own_name() -> None:
    model = made([helper.make_node("NonZero", ["x"], ["z"])], [info("x", [64, 64])], [info("z", [2, None], I64)])
    with pytest.raises(UnboundShapeError) as caught:
        read(model)
    assert caught.value.suggestion == "z=2,DIM"
    assert next(t for t in read(model, z=(2, 4096)).tensors if t.name == "z").nbytes == 2 * 4096 * 8
    with pytest.raises(InputError, match="disagrees"):
        read(model, z=(3, 4096))


def test_functions_of_the_model_are_expanded() -> None:
    body = [
        helper.make_node("MatMul", ["p", "q"], ["t"]),
        helper.make_node("Exp", ["t"], ["u"]),
        helper.make_node("Mul", ["t", "u"], ["v"]),
        helper.make_node("ReduceSum", ["v"], ["r"], keepdims=0),
    ]
    block = helper.make_function("my", "Block", ["p", "q"], ["r"], body, [helper.make_opsetid("", 18)])
    outer = helper.make_function(
        "my", "Twice", ["p", "q"], ["r"], [helper.make_node("Block", ["p", "q"], ["r"], domain="my")],
        [helper.make_opsetid("my", 1)],
    )  # fmt: skip
    for name in ("Block", "Twice"):
        call = helper.make_node(name, ["a", "b"], ["y"], domain="my")
        model = made([call], [info("a", [256, 32]), info("b", [32, 256])], [info("y", [])], functions=[block, outer])
        graph = read(model)
        assert [op.type for op in graph.ops] == ["MatMul", "Exp", "Mul", "ReduceSum"]
        assert live_curve(graph).max() == 2 * 256 * 32 * 4 + 3 * 256 * 256 * 4


def branches(condition: Any) -> Any:
    wide = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["t"], axis=0), helper.make_node("Exp", ["t"], ["o"])],
        "wide", [], [info("o", [None, 4])],
    )  # fmt: skip
    narrow = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "narrow", [], [info("o", [None, 4])])
    node = helper.make_node("If", ["c"], ["z"], then_branch=wide, else_branch=narrow)
    inputs = [info("x", [3, 4])] + ([] if condition is not None else [info("c", [], TensorProto.BOOL)])
    weights = {} if condition is None else {"c": np.array(condition)}
    return made([node, helper.make_node("Relu", ["z"], ["y"])], inputs, [info("y", None)], weights=weights)


@pytest.mark.parametrize(("condition", "rows", "types"), [
    (True, 6, ["Concat", "Exp", "Identity", "Relu"]), (False, 3, ["Identity", "Identity", "Relu"])
])  # fmt: skip
def test_the_branch_of_a_known_condition_is_taken(condition: bool, rows: int, types: list[str]) -> None:
    graph = read(branches(condition))
    assert [op.type for op in graph.ops] == types
    assert shape_of(graph, "y") == (rows, 4)


def test_what_data_decides_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="If holds graphs of its own, and which branch runs"):
        read(branches(None), z=(3, 4), y=(3, 4))


def test_values_that_are_no_tensors_are_refused_by_their_names() -> None:
    sequence = made(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("SequenceAt", ["s", "i"], ["y"])],
        [info("x", [4]), info("i", [], I64)], [info("y", [4])],
    )  # fmt: skip
    with pytest.raises(InputError, match="s: sequences can't be planned"):
        read(sequence)
    words = made([helper.make_node("Identity", ["x"], ["y"])], [info("x", [4], 8)], [info("y", [4], 8)])
    with pytest.raises(InputError, match="x: strings can't be planned"):
        read(words)


@pytest.mark.parametrize(("kind", "bits"), [(25, 2), (26, 2), (21, 4), (22, 4), (23, 4), (17, 8), (16, 16), (27, 6)])
def test_types_of_a_few_bits_are_packed(kind: int, bits: int) -> None:
    model = made([helper.make_node("Identity", ["x"], ["y"])], [info("x", [7, 5], kind)], [info("y", [7, 5], kind)])
    assert read(model).tensors[0].nbytes == -(-35 * bits // 8)


def test_an_output_that_nobody_reads_and_no_rule_sizes_costs_nothing() -> None:
    nodes = [helper.make_node("Dropout", ["x"], ["d", "mask"]), helper.make_node("Relu", ["d"], ["y"])]
    graph = read(made(nodes, [info("x", [8, 8])], [info("y", [8, 8])], opset=9))
    assert [t.name for t in graph.tensors] == ["x", "d", "y"]
    assert live_curve(graph, persistent=False).max() == 2 * 8 * 8 * 4


def test_an_op_without_a_rule_takes_its_shape_from_the_file() -> None:
    nodes = [helper.make_node("Odd", ["x"], ["o"], domain="my"), helper.make_node("Relu", ["o"], ["y"])]
    known = made(nodes, [info("x", ["N", 8])], [info("y", ["N", 8])], value_info=[info("o", ["N", 8])])
    assert shape_of(read(known, x=(5, 8)), "y") == (5, 8)
    with pytest.raises(InputError, match=r"o: .*no rule for Odd"):
        read(made(nodes, [info("x", ["N", 8])], [info("y", ["N", 8])]), x=(5, 8))


def test_shapes_that_the_ops_refuse_are_an_error_with_their_place() -> None:
    model = made([helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], [info("x", ["N", "K"])], [info("y", None)],
                 weights={"w": np.zeros((8, 4), np.float32)})  # fmt: skip
    with pytest.raises(InputError, match="MatMul fc"):
        read(model, x=(2, 9))
    assert shape_of(read(model, x=(2, 8)), "y") == (2, 4)


def test_unnamed_nodes_go_by_what_they_make(tmp_path: Path) -> None:
    model = made([helper.make_node("Exp", ["x"], ["y"])], [info("x", [4])], [info("y", [4])])
    onnx.save(model, tmp_path / "m.onnx")
    assert read_graph(tmp_path / "m.onnx").ops[0].name == "y"


def test_large_weights_are_not_worked_with() -> None:
    weights = {"w": np.zeros((512, 512), np.float32)}
    model = made([helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])],
                 [info("x", ["N", 512])], [info("y", None)], weights=weights)  # fmt: skip
    graph = read(model, x=(4, 512))
    assert prod(shape_of(graph, "t")) == 512 * 512


@pytest.mark.parametrize("name", ["?", "None", "-1", "*", "unk"])
def test_placeholders_in_place_of_names_are_dimensions_of_their_own(name: str) -> None:
    """Paddle2ONNX calls every open dimension `?`; two of them need not be alike."""
    model = made([helper.make_node("Relu", ["x"], ["y"])], [info("x", [-1, 3, name, name])], [info("y", None)])
    assert shape_of(read(model, x=(1, 3, 48, 192)), "y") == (1, 3, 48, 192)
    named = made([helper.make_node("Relu", ["x"], ["y"])], [info("x", [1, 3, "side", "side"])], [info("y", None)])
    with pytest.raises(InputError, match="disagrees with the model"):
        read(named, x=(1, 3, 48, 192))
