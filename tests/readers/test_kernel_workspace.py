"""Kernels in PyNative mode on a CPU: what they copy and what the parts of a split one hold."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindspore.kernel_workspace import with_kernel_workspace

BATCHES, MATRIX = (4, 8, 8), (8, 8)


def product(shape: tuple[int, ...], maker: str = "Transpose") -> Graph:
    """The gradient of a product: what was saved is transposed, multiplied and read once more."""
    size = 4 * shape[-1] ** 2 * (shape[0] if len(shape) > 2 else 1)
    kinds = (("saved", None), ("grad", None), ("turned", 0), ("found", 1), ("last", 2))
    tensors = tuple(
        Tensor(at, name, shape, "float32", size, TensorKind.ACTIVATION, at, producer)
        for at, (name, producer) in enumerate(kinds)
    )
    scope = "Gradients/Default/Grad_MatMulExt"
    ops = (
        Op(0, f"{scope}/{maker}-op0", maker, (0,), (2,)),
        Op(1, f"{scope}/MatMulExt-op0", "MatMulExt", (2, 1), (3,)),
        Op(2, "Gradients/Default/Neg-op0", "Neg", (3,), (4,), attrs={"after": (1,)}),
    )
    return Graph("step", ops, tensors, (), (), "", "MindSpore")


def test_operands_and_result_are_copied() -> None:
    graph = with_kernel_workspace(product(BATCHES))
    assert [op.workspace_bytes for op in graph.ops] == [0, 3 * graph.tensors[0].nbytes, 0]


def test_a_product_of_two_matrices_makes_no_copies() -> None:
    graph = product(MATRIX)
    assert with_kernel_workspace(graph).ops == graph.ops


def test_an_operand_that_is_a_copy_already_is_none_again() -> None:
    graph = with_kernel_workspace(product(BATCHES, "BroadcastTo"))
    assert graph.ops[1].workspace_bytes == 2 * graph.tensors[0].nbytes


def test_the_parts_of_a_split_kernel_hold_what_they_make() -> None:
    graph = product(BATCHES)
    split = replace(graph.ops[1], type="SoftmaxBackward")
    graph = with_kernel_workspace(replace(graph, ops=(graph.ops[0], split, graph.ops[2])))
    assert [op.workspace_bytes for op in graph.ops] == [0, 2 * graph.tensors[0].nbytes, 0]
