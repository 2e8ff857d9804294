"""Text dumps become the same graphs as MindIR, with source lines, and fused kernels as one op."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.graph import TensorKind, bytes_by_kind
from memplan.imports import read_plan
from memplan.readers import read_graph
from memplan.readers.mindir.decode import Literal, ScalarType, SequenceType, TensorConstant, TensorType
from memplan.readers.mindspore.ir_text import parse_argument, split_top, value_type_of
from memplan.readers.mindspore.kernel_ir import parse_kernel_ir

DATA = Path(__file__).with_name("data")


def test_a_fused_kernel_is_one_op_that_names_its_members() -> None:
    graph = read_graph(DATA / "graph_kernel.ir")
    fused = [op for op in graph.ops if op.type == "GraphKernel"]
    assert fused
    for op in fused:
        assert op.launches
        assert op.attrs["members"]
        assert str(op.attrs["info_name"]).startswith("Fused_")
        assert op.name.startswith("Default/GraphKernel_")
    assert any(op.attrs["members"] == ("Add", "Maximum") for op in fused)


def test_tensors_inside_a_fused_kernel_take_no_memory() -> None:
    fused = read_graph(DATA / "graph_kernel.ir")
    plain = read_graph(DATA / "mlp_train.mindir")
    kinds, before = bytes_by_kind(fused), bytes_by_kind(plain)
    for kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.INPUT):
        assert kinds[kind] == before[kind]
    assert kinds[TensorKind.ACTIVATION] <= before[TensorKind.ACTIVATION]


def test_ops_carry_the_users_line_of_code() -> None:
    graph = read_graph(DATA / "control_flow.ir")
    tanh = next(op for op in graph.ops if op.type == "Tanh")
    assert tanh.source is not None
    file, line = tanh.source.rsplit(":", 1)
    assert file.endswith("models/small.py")
    assert int(line) > 0


def test_an_actor_set_gives_kernels_in_order_with_their_bytes() -> None:
    graph = read_graph(DATA / "actor_set_cnn.ir")
    exported = read_graph(DATA.parents[2] / "memplan" / "samples" / "cnn.mindir")
    launched = [op.name for op in graph.ops if op.launches]
    assert launched == [op.name for op in exported.ops if op.launches]
    assert bytes_by_kind(graph)[TensorKind.WEIGHT] == bytes_by_kind(exported)[TensorKind.WEIGHT]
    assert bytes_by_kind(graph)[TensorKind.ACTIVATION] == bytes_by_kind(exported)[TensorKind.ACTIVATION]


def test_somas_dump_and_actor_set_hold_the_same_plan() -> None:
    dump, actors = read_plan(DATA / "somas_cnn.ir"), read_plan(DATA / "actor_set_cnn.ir")
    assert [op.name for op in dump.ops] == [op.name for op in actors.ops]
    assert dump.tiers[0].peak == actors.tiers[0].peak == 1_051_648
    assert sorted((p.offset, p.size) for p in dump.placements) == sorted((p.offset, p.size) for p in actors.placements)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I64(-1)", Literal(-1)),
        ("Bool(1)", Literal(True)),
        ("F32(0.5)", Literal(0.5)),
        ("(I64(0), (I64(1), I64(2)))", Literal((0, (1, 2)))),
        ('"NCHW"', Literal("NCHW")),
        ("None", Literal(None)),
    ],
)
def test_constants_are_read(text: str, expected: Literal) -> None:
    assert parse_argument(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<Tensor[Float32], (1, 64)>", TensorType((1, 64), "float32")),
        ("<Ref[Tensor[BFloat16]], (), ref_key=a, is_parameter>", TensorType((), "bfloat16")),
        (
            "<Tuple[Tensor[Float32]*2,Int64], TupleShape((3), (-1, 2), NoShape)>",
            SequenceType((TensorType((3,), "float32"), TensorType((-1, 2), "float32"), ScalarType("int64"))),
        ),
    ],
)
def test_types_are_read(text: str, expected: object) -> None:
    assert value_type_of(text, "here") == expected


def test_brackets_and_quotes_keep_their_commas() -> None:
    assert split_top('a, (b, c), [d, e], "f, g", h') == ["a", "(b, c)", "[d, e]", '"f, g"', "h"]


def test_a_dump_cut_off_is_refused(tmp_path: Path) -> None:
    text = (DATA / "control_flow.ir").read_text()
    path = tmp_path / "half.ir"
    path.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match=r"ends in the middle|not in the file"):
        read_graph(path)


def dump(constant: str, *, entry: str = "kernel_graph0", result: str = "%1", kind: str = "Tensor[Float32]") -> str:
    """A kernel graph of two ops, the first of which has `constant` among its arguments."""
    return f"""# IR entry: @{entry}
# Total subgraphs: 1

# Total params: 1
# Params:
%para1_x: <Tensor[Float32], (4, 4)> : [4, 4]  :  <Float32xDefaultFormat[const vector]{{4, 4}}>  :  IsWeight: false

subgraph attr:
subgraph instance: {entry} : 0x55d6b3ba4480

subgraph @{entry}() {{
  %0(a) = PrimFunc_Add(%para1_x, {constant}, I64(3)) primitive_attrs: {{IsFeatureMapOutput: Bool(1)}}
      : (<Tensor[Float32], (4, 4)>, <Tensor[Float32], (4, 4)>, <Int64, NoShape>) -> (<Tensor[Float32], (4, 4)>)
      : (<Float32xDefaultFormat[const vector]{{4, 4}}>) -> (<Float32xDefaultFormat[const vector]{{4, 4}}>)
      : (Tensor, Tensor, Scalar) -> (Tensor)
      # Fullname with scope: (Default/Add-op0)
      # In file /home/user/net.py:7, 4~9/        return x + 1/
  %1(b) = PrimFunc_Equal(%0, %0) primitive_attrs: {{IsFeatureMapOutput: Bool(1)}}
      : (<Tensor[Float32], (4, 4)>) -> (<{kind}, (4, 4)>)
      : (<Float32xDefaultFormat[const vector]{{4, 4}}>) -> (<Float32xDefaultFormat[const vector]{{4, 4}}>)
      # Fullname with scope: (Default/Equal-op0)
  Return({result})
      : (<{kind}, (4, 4)>)
      # Fullname with scope: (Default/Return-op0)
}}
"""


arrays = st.lists(st.integers(0, 5), max_size=4).map(lambda dims: np.arange(int(np.prod(dims))).reshape(dims) / 3)


@given(arrays, st.integers(4, 1000), st.booleans())
def test_a_constant_may_go_over_any_number_of_lines(array: NDArray[np.float64], threshold: int, breaks: bool) -> None:
    shown = np.array2string(array, threshold=threshold, max_line_width=40)
    shape = ", ".join(map(str, array.shape))
    text = dump(f"Tensor(shape=[{shape}], dtype=Float32, value={chr(10) if breaks else ''}{shown})")
    program = parse_kernel_ir(text, "graph_build_0_1.ir")
    first, second = program.root.nodes
    assert [node.target for node in program.root.nodes] == ["Add", "Equal"]
    constant = program.constants[first.inputs[1]]
    assert isinstance(constant, TensorConstant)
    assert constant.type == TensorType(array.shape, "float32")
    assert program.constants[first.inputs[2]] == Literal(3)
    assert (first.scope, first.source) == ("Default/Add-op0", "/home/user/net.py:7")
    assert second.inputs == (first.name, first.name)


def test_a_constant_may_be_what_is_returned() -> None:
    program = parse_kernel_ir(
        dump("I64(1)", result="Tensor(shape=[2, 1], dtype=Int64, value=\n[[ 1]\n [ 2]])"), "graph_build_0_1.ir"
    )
    constant = program.constants[program.root.outputs[0]]
    assert isinstance(constant, TensorConstant)
    assert constant.type.shape == (2, 1)


def test_complex_tensors_have_a_layout_too(tmp_path: Path) -> None:
    path = tmp_path / "graph_build_0_1.ir"
    path.write_text(dump("I64(1)").replace("Float32", "Complex64"))
    assert {tensor.nbytes for tensor in read_graph(path).tensors} == {16 * 8}


@pytest.mark.parametrize("name", ["graph_build_1_0002.ir", "graph_build_5_0042.ir"])
def test_one_of_several_kernel_graphs_is_said_to_be_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "graph_build_0_0001.ir").write_text(dump("I64(1)"))
    alone = read_graph(tmp_path / "graph_build_0_0001.ir")
    assert alone.notes == ()
    (tmp_path / name).write_text(dump("I64(1)", entry=f"kernel_graph{name.split('_')[2]}"))
    (tmp_path / "24_execute_0003.ir").write_text("")
    for path in sorted(tmp_path.glob("graph_build_*.ir")):
        (note,) = read_graph(path).notes
        assert "of 2 dumped here" in note
        assert "24_execute_0003.ir" in note


def test_a_kernel_graph_that_only_decides_is_part_of_a_program(tmp_path: Path) -> None:
    path = tmp_path / "copied.ir"
    path.write_text(dump("I64(1)", kind="Tensor[Bool]").replace("(4, 4)", "()"))
    (note,) = read_graph(path).notes
    assert "name *_execute_*.ir" in note
