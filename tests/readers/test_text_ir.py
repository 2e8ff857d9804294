"""Text dumps become the same graphs as MindIR, with source lines, and fused kernels as one op."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.graph import TensorKind, bytes_by_kind
from memplan.imports import read_plan
from memplan.readers import read_graph
from memplan.readers.mindir.decode import Literal, ScalarType, SequenceType, TensorType
from memplan.readers.mindspore.ir_text import parse_argument, split_top, value_type_of

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
