"""Casts of MindSpore's CPU build around kernels that it has for float32 only."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindspore.float_copies import with_float_copies


def layer(dtype: str = "float16") -> Graph:
    """A dense layer whose result is read by a view, and a kernel that is no product."""
    makers = {"x": None, "w": None, "b": None, "product": 0, "sum": 1, "view": 2, "end": 3}
    tensors = tuple(
        Tensor(at, name, (4, 4), dtype, 32, TensorKind.ACTIVATION, 4 if name == "view" else at, maker)
        for at, (name, maker) in enumerate(makers.items())
    )
    ops = (
        Op(0, "Default/MatMul-op0", "MatMul", (0, 1), (3,)),
        Op(1, "Default/BiasAdd-op0", "BiasAdd", (3, 2), (4,)),
        Op(2, "Default/Reshape-op0", "Reshape", (4,), (5,), launches=False),
        Op(3, "Default/Neg-op0", "Neg", (5,), (6,), attrs={"after": (1,)}),
    )
    return Graph("step", ops, tensors, (0, 1, 2), (6,), "", "MindSpore")


def kinds(graph: Graph) -> list[str]:
    return [op.type for op in graph.ops]


def test_operands_and_results_of_half_precision_are_cast_but_between_two_such_kernels() -> None:
    graph = with_float_copies(layer())
    assert kinds(graph) == ["Cast", "Cast", "MatMul", "Cast", "BiasAdd", "Cast", "Reshape", "Neg"]
    product, total = graph.ops[2], graph.ops[4]
    assert total.inputs[0] == product.outputs[0]
    for index in (*product.inputs, *product.outputs, *total.inputs, *total.outputs):
        assert (graph.tensors[index].dtype, graph.tensors[index].nbytes) == ("float32", 64)
    assert graph.ops[5].outputs == (4,)
    assert graph.ops[7].attrs["after"] == (4,)
    assert [op.index for op in graph.ops] == list(range(8))
    for op in graph.ops:
        assert all(graph.tensors[index].producer == op.index for index in op.outputs)


def test_each_kernel_casts_for_itself_and_a_result_that_others_read_is_cast_back() -> None:
    plain = layer()
    more = (
        *plain.ops,
        Op(4, "Default/Neg-op1", "Neg", (3,), (7,)),
        Op(5, "Default/MatMul-op1", "MatMul", (0, 5), (8,)),
    )
    added = tuple(Tensor(at, f"t{at}", (4, 4), "float16", 32, TensorKind.ACTIVATION, at, at - 3) for at in (7, 8))
    graph = with_float_copies(replace(plain, ops=more, tensors=(*plain.tensors, *added), outputs=(6, 7, 8)))
    assert kinds(graph).count("Cast") == 4 + 1 + 3
    assert sum(op.type == "Cast" and op.inputs == (0,) for op in graph.ops) == 2


def test_a_graph_in_single_precision_stays_as_it_is() -> None:
    assert with_float_copies(layer("float32")) == layer("float32")
