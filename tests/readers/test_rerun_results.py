"""What recomputed cells make anew for gradients of their own results."""

from __future__ import annotations

from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindspore.rerun_results import is_in_order, with_rerun_results

CELL, OTHER = "Default/net-Net/layers-SequentialCell/0-Block", "Default/net-Net/head-Dense"


def tensor(index: int, producer: int | None, kind: TensorKind = TensorKind.ACTIVATION) -> Tensor:
    return Tensor(index, f"t{index}", (4,), "float32", 16, kind, index, producer)


def trained(after: int = 3) -> Graph:
    """A convolution that the compiler runs again, and a ReLU behind it whose result the head keeps."""
    ops = (
        Op(0, f"{CELL}/Conv2D-op0", "Conv2D", (0, 1), (2,)),
        Op(1, f"{CELL}/relu-ReLU/ReLU-op0", "ReLU", (2,), (3,)),
        Op(2, f"{OTHER}/MatMul-op0", "MatMul", (3, 8), (4,)),
        Op(3, f"Gradients/{OTHER}/Grad_MatMul/MatMul-op1", "MatMul", (4, 8), (5,)),
        Op(4, f"Gradients/{CELL}/relu-ReLU/Grad_ReLU/ReluGrad-op0", "ReluGrad", (5, 3), (6,)),
        Op(5, f"recompute_{CELL}/Conv2D-op1", "Conv2D", (0, 1), (7,), attrs={"after": (after,)}),
        Op(6, f"Gradients/{CELL}/Grad_Conv2D/Conv2DBackpropFilter-op0", "Conv2DBackpropFilter", (6, 7), (9,)),
    )
    producers = {tensor: op.index for op in ops for tensor in op.outputs}
    tensors = tuple(
        tensor(index, producers.get(index), TensorKind.ACTIVATION if index in producers else TensorKind.WEIGHT)
        for index in range(10)
    )
    return Graph("step", ops, tensors, (), (), "", "MindSpore")


def test_a_result_that_its_own_gradient_reads_is_made_again() -> None:
    graph = with_rerun_results(trained(), ["net.layers.0"])
    new = graph.ops[-1]
    assert (new.type, new.inputs, new.attrs["after"]) == ("ReLU", (7,), (3,))
    gradient = graph.ops[4]
    assert gradient.inputs == (5, new.outputs[0])
    assert graph.tensors[new.outputs[0]].storage == new.outputs[0]
    assert graph.tensors[new.outputs[0]].producer == new.index
    # What the head reads stays what the cell returned.
    assert graph.ops[2].inputs == (3, 8)


def test_cells_that_keep_what_they_make_stay_as_they_are() -> None:
    graph = trained()
    assert with_rerun_results(graph, []) is graph
    assert with_rerun_results(graph, ["net.other"]) is graph


def test_a_second_run_that_waits_for_the_gradient_is_no_help_to_it() -> None:
    graph = trained(after=4)
    assert with_rerun_results(graph, ["net.layers.0"]) is graph
    assert is_in_order(graph)
    assert not is_in_order(with_rerun_results(trained(), ["net.layers.0"]))
