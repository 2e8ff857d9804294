"""Operands that MindSpore's CPU build copies for each matrix of a batch."""

from __future__ import annotations

import pytest

from memplan.graph.builder import GraphBuilder
from memplan.readers.mindir.decode import Node, TensorType
from memplan.readers.mindir.emit import OpEmitter
from memplan.readers.mindir.op_table import Target


def copies(target: Target, type_: str, *shapes: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    """Positions of the operands of such shapes that are copied, and the shapes of the copies."""
    builder = GraphBuilder()
    operands = tuple(builder.tensor(f"x{at}", shape, "float32", 4) for at, shape in enumerate(shapes))
    node = Node("y", type_, True, ("x0", "x1"), TensorType((1,), "float32"), "layer/MatMulExt-op0", {})
    found = []
    for copy, position in OpEmitter(builder, target, 100).operand_copies(node, operands):
        assert isinstance(copy.type, TensorType)
        assert (copy.target, copy.inputs) == ("BroadcastTo", (node.inputs[position],))
        found.append((position, copy.type.shape))
    return found


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (((64, 4, 32), (32, 48)), [(1, (64, 32, 48))]),
        (((32, 48), (5, 7, 48, 2)), [(0, (5, 7, 32, 48))]),
        (((4, 32), (32, 48)), []),
        (((2, 3, 4, 5), (2, 3, 5, 6)), []),
        (((7, 4, 32), (32,)), []),
    ],
)
def test_an_operand_without_batch_is_copied_for_each_matrix_of_the_other(
    shapes: tuple[tuple[int, ...], ...], expected: list[tuple[int, tuple[int, ...]]]
) -> None:
    assert copies(Target.CPU, "MatMulExt", *shapes) == expected
    assert copies(Target.ASCEND, "MatMulExt", *shapes) == []
    assert copies(Target.CPU, "BatchMatMul", *shapes) == []


@pytest.mark.parametrize(("target", "made"), [(Target.CPU, ("Sigmoid", 1)), (Target.ASCEND, None)])
def test_a_gradient_s_part_of_the_forward_pass_alone_is_a_kernel_of_its_own(
    target: Target, made: tuple[str, int] | None
) -> None:
    """Went wrong once: the runtime makes it as soon as the forward pass has come there, and each layer keeps it."""
    builder = GraphBuilder()
    operands = tuple(builder.tensor(name, (4, 8), "float32", 4) for name in ("dout", "x"))
    node = Node("y", "SiLUGrad", True, ("dout", "x"), TensorType((4, 8), "float32"), "Gradients/Grad_SiLU/SiLUGrad", {})
    found = OpEmitter(builder, target, 100).early_part(node, operands)
    assert (None if found is None else (found[0].target, found[1])) == made
    if found is not None:
        assert (found[0].inputs, found[0].type) == (("x",), TensorType((4, 8), "float32"))
