"""Programs of torch.export are read from their archive without PyTorch, pickles in it untouched."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.errors import InputError, UnboundShapeError
from memplan.graph import TensorKind, bytes_by_kind, live_curve
from memplan.readers import read_graph
from memplan.readers.pytorch.exported import evaluate_size
from memplan.readers.sniff import ContentKind, sniff

FLOAT, LONG = 7, 5
SYMBOL = "Symbol('s0', positive=True, integer=True)"


def meta(*sizes: int | str, dtype: int = FLOAT, strides: list[int] | None = None) -> dict[str, Any]:
    def written(size: int | str) -> dict[str, Any]:
        return {"as_int": size} if isinstance(size, int) else {"as_expr": {"expr_str": size, "hint": {"as_int": 4}}}

    steps: list[int | str] = [1] * len(sizes)
    for place in range(len(sizes) - 2, -1, -1):
        after, step = sizes[place + 1], steps[place + 1]
        steps[place] = after * step if isinstance(after, int) and isinstance(step, int) else f"Mul({after}, {step})"
    return {
        "dtype": dtype, "sizes": [written(size) for size in sizes],
        "strides": [written(step) for step in (strides or steps)], "layout": 7,
    }  # fmt: skip


def tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def node(target: str, inputs: list[Any], *outputs: str, **more: Any) -> dict[str, Any]:
    arguments = [
        {"name": f"a{place}", "arg": tensor(one) if isinstance(one, str) else one} for place, one in enumerate(inputs)
    ]
    arguments += [{"name": name, "arg": value} for name, value in more.items()]
    made = [tensor(outputs[0])] if len(outputs) == 1 else [{"as_tensors": [{"name": name} for name in outputs]}]
    metadata = {
        "nn_module_stack": "L__self__,,Net;L__self__f,layers.0.f,torch.nn.Linear",
        "stack_trace": 'File "/home/user/net.py", line 9, in forward\n    f(x)\n  File "/usr/torch/f.py", line 3',
    }
    return {"target": target, "inputs": arguments, "outputs": made, "metadata": metadata, "name": outputs[0]}


def program(*, batch: int | str = 4) -> dict[str, Any]:
    """Linear, ReLU, a view, a split of which one half is added to the other in place."""
    graph = {
        "inputs": [tensor("p_w"), tensor("x")],
        "outputs": [tensor("z")],
        "nodes": [
            node("torch.ops.aten.linear.default", ["x", "p_w"], "h"),
            node("torch.ops.aten.relu.default", ["h"], "r"),
            node("torch.ops.aten.reshape.default", ["r"], "v", shape={"as_ints": [-1, 2, 16]}),
            node("torch.ops.aten.split.Tensor", ["v"], "a", "b"),
            node("torch.ops.aten.add_.Tensor", ["a", "b"], "s"),
            node("torch.ops.aten.mul.Tensor", ["s", "b"], "z"),
        ],
        "tensor_values": {
            "p_w": meta(32, 8), "x": meta(batch, 8), "h": meta(batch, 32), "r": meta(batch, 32),
            "v": meta(batch, 2, 16), "a": meta(batch, 1, 16, strides=[32, 16, 1]),
            "b": meta(batch, 1, 16, strides=[32, 16, 1]), "s": meta(batch, 1, 16, strides=[32, 16, 1]),
            "z": meta(batch, 1, 16),
        },
    }  # fmt: skip
    specs = [
        {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "layers.0.f.weight"}},
        {"user_input": {"arg": tensor("x")}},
    ]
    return {
        "graph_module": {"graph": graph, "signature": {"input_specs": specs, "output_specs": []}},
        "schema_version": {"major": 8, "minor": 20}, "torch_version": "2.13.0",
    }  # fmt: skip


def saved(folder: Path, document: Any, *, members: tuple[str, ...] = ("net/models/model.json",)) -> Path:
    path = folder / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/data/sample_inputs/model.pt", b"\x80\x02this is never unpickled.")
        for member in members:
            archive.writestr(member, document if isinstance(document, str) else json.dumps(document))
    return path


def test_ops_views_and_what_is_written_over(tmp_path: Path) -> None:
    path = saved(tmp_path, program())
    assert sniff(path) is ContentKind.TORCH_EXPORT
    graph = read_graph(path)
    assert [(op.type, op.launches) for op in graph.ops] == [
        ("Linear", True), ("Relu", True), ("Reshape", False), ("Split", False), ("Add", True), ("Mul", True)
    ]  # fmt: skip
    assert bytes_by_kind(graph)[TensorKind.WEIGHT] == 32 * 8 * 4
    # Linear and ReLU; then all is in ReLU's bytes until the product of half the size.
    assert live_curve(graph, persistent=False).tolist() == [512, 1024, 512, 512, 512, 768]
    assert graph.ops[0].name == "layers/0/f/h"
    assert graph.ops[0].source == "/home/user/net.py:9"
    assert {tensor.name for tensor in graph.tensors} >= {"layers.0.f.weight", "x"}


def test_open_dimensions_are_bound_by_input(tmp_path: Path) -> None:
    path = saved(tmp_path, program(batch=SYMBOL))
    with pytest.raises(UnboundShapeError) as caught:
        read_graph(path)
    assert caught.value.suggestion == "x=DIM,8"
    curve = live_curve(read_graph(path, shapes={"x": (40, 8)}), persistent=False)
    assert curve.max() == 10 * 1024
    for shapes, says in (({"y": (4, 8)}, "inputs are x"), ({"x": (4, 9)}, "disagrees"), ({"x": (4,)}, "dimensions")):
        with pytest.raises(InputError, match=says):
            read_graph(path, shapes=shapes)


def test_a_reshape_of_what_is_not_dense_is_a_copy(tmp_path: Path) -> None:
    document = program()
    document["graph_module"]["graph"]["tensor_values"]["r"] = meta(4, 32, strides=[1, 4])
    assert [op.launches for op in read_graph(saved(tmp_path, document)).ops][2]


def test_wrappers_run_in_place_and_control_flow_is_refused(tmp_path: Path) -> None:
    document = program()
    graph = document["graph_module"]["graph"]
    inner = {
        "inputs": [tensor("i")], "outputs": [tensor("o")],
        "nodes": [node("torch.ops.aten.relu.default", ["i"], "o")],
        "tensor_values": {"i": meta(4, 32), "o": meta(4, 32)},
    }  # fmt: skip
    arguments = [{"as_bool": False}, {"as_graph": {"name": "sub", "graph": inner}}, "h"]
    graph["nodes"][1] = node("torch.ops.higher_order.wrap_with_set_grad_enabled", arguments, "r")
    assert [op.type for op in read_graph(saved(tmp_path, document)).ops][1] == "Relu"
    graph["nodes"][1] = node("torch.ops.higher_order.cond", arguments, "r")
    with pytest.raises(InputError, match="cond holds graphs of its own"):
        read_graph(saved(tmp_path, document))


@pytest.mark.parametrize(
    ("members", "text", "says"),
    [
        (("net/models/model.json",), "{", "no archive of torch.export"),
        (("net/models/model.json",), "{}", "not the form"),
        (("net/models/a.json", "net/models/b.json"), "{}", "2 exported programs"),
    ],
)
def test_damage_is_one_clear_line(members: tuple[str, ...], text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_graph(saved(tmp_path, text, members=members))


@given(st.integers(0, 3000))
def test_an_archive_cut_anywhere_is_refused(kept: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), program())
        path.write_bytes(path.read_bytes()[: kept + 4])
        with pytest.raises(InputError):
            read_graph(path)


sizes = st.integers(1, 50)


@given(sizes, sizes)
def test_sizes_are_worked_out_as_sympy_writes_them(a: int, b: int) -> None:
    values = {"s0": a, "s1": b}
    other = SYMBOL.replace("s0", "s1")
    for text, expected in (
        (SYMBOL, a),
        (f"Add(Integer(3), Mul(Integer(2), {SYMBOL}))", 3 + 2 * a),
        (f"FloorDiv(Add({SYMBOL}, Integer(-1)), Integer(2))", (a - 1) // 2),
        (f"Max({SYMBOL}, {other})", max(a, b)),
        (f"Pow({SYMBOL}, Integer(2))", a * a),
        ("2*s0 + s1//3 - 1", 2 * a + b // 3 - 1),
        (f"Mod({SYMBOL}, {other})", a % b),
    ):
        assert evaluate_size(text, values) == expected


@pytest.mark.parametrize(
    "text", ["__import__('os').getcwd()", "s0.real", "[1]", "Pow(2, 9999999)", "open('x')", "2 ** 99"]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        evaluate_size(text, {"s0": 2})
