"""Nodes of the way back: which ops are of one, and what it holds until its gradients are added up."""

from __future__ import annotations

from memplan.graph import Graph, TensorKind
from memplan.graph.builder import GraphBuilder
from memplan.graph.lifetime import lifetimes
from memplan.readers.mindspore.gradient_nodes import gradient_nodes
from memplan.readers.mindspore.op_by_op import op_by_op


class _Back:
    """A way back under construction, behind a forward pass of ops that each save what they make."""

    def __init__(self, saved: int) -> None:
        self.builder = GraphBuilder()
        self.x = self.builder.tensor("x", (8,), "float32", 32, TensorKind.INPUT)
        self.saved = [self.op(f"Default/net-Net/Tanh-op{at}", self.x) for at in range(saved)]

    def op(self, name: str, *inputs: int) -> int:
        made = self.builder.tensor(name, (8,), "float32", 32)
        self.builder.op(name, name.rpartition("/")[2].partition("-op")[0], inputs, (made,))
        return made

    def of(self, kind: str, part: str, *inputs: int) -> int:
        return self.op(f"Gradients/Default/net-Net/Grad_{kind}/{part}", *inputs)

    def graph(self, *results: int) -> Graph:
        return self.builder.finish("step", (self.x,), results, origin="step", producer="MindSpore")


def ends(graph: Graph) -> dict[str, str]:
    """The op at which the tensors of `graph` are needed last."""
    return {graph.tensors[span.tensor].name: graph.ops[span.end - 1].name for span in lifetimes(graph)}


def test_ops_that_read_one_gradient_or_each_other_are_of_one_node() -> None:
    back = _Back(2)
    first = back.of("Loss", "Loss-op0", back.saved[0])
    other = back.of("MatMul", "MatMul-op0", first, back.saved[0])
    weight = back.of("MatMul", "MatMul-op1", back.saved[1], first)
    turned = back.of("MatMul", "Transpose-op0", other)
    # A product behind a product is the next one's.
    last = back.of("MatMul", "MatMul-op2", other, back.saved[1])
    assert gradient_nodes(back.graph(last, weight, turned)) == [[2], [3, 4, 5], [6]]


def test_a_node_runs_as_a_whole_and_holds_what_it_has_until_then() -> None:
    back = _Back(2)
    loss = back.of("Loss", "Loss-op0", back.saved[0])
    other = back.of("Mul", "Mul-op0", loss, back.saved[0])
    behind = back.of("Tanh", "TanhGrad-op0", back.saved[1], other)
    weight = back.of("Mul", "Mul-op1", loss, back.saved[1])
    graph = op_by_op(back.graph(behind, weight))
    order = [op.name.rpartition("/")[2] for op in graph.ops]
    assert order[3:] == ["Mul-op0", "Mul-op1", "saved", "TanhGrad-op0"]
    assert ends(graph)["Default/net-Net/Tanh-op0"].endswith("Grad_Mul/Mul-op1/saved")


def test_gradients_are_added_two_at_a_time_while_the_node_holds_what_it_saved() -> None:
    back = _Back(3)
    loss = back.of("Loss", "Loss-op0", back.saved[0])
    parts = [back.of(kind, f"{kind}Grad-op0", saved, loss) for kind, saved in zip("ABC", back.saved, strict=True)]
    total = back.op("Gradients/Default/net-Net/AddN-op0", *parts)
    graph = op_by_op(back.graph(back.op("Default/optimizer-SGD/Assign-op0", total)))
    kinds = [op.type for op in graph.ops]
    assert kinds[5:] == ["BGrad", "AddN", "KeepAlive", "CGrad", "AddN", "KeepAlive", "Assign"]
    assert [len(op.inputs) for op in graph.ops if op.type == "AddN"] == [2, 2]
    assert ends(graph)["Default/net-Net/Tanh-op1"].endswith("Grad_B/BGrad-op0/saved")
    assert all(graph.tensors[made].producer == op.index for op in graph.ops for made in op.outputs)
