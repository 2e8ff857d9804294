"""A step function in GRAPH mode whose gradients and optimiser are graphs of their own."""

from __future__ import annotations

from memplan.graph.lifetime import lifetimes
from memplan.graph.model import Graph, Op, Tensor, TensorKind
from memplan.readers.mindspore.graph_by_graph import graph_by_graph

SIZE = 1024


def tensor(index: int, name: str, kind: TensorKind, producer: int | None = None) -> Tensor:
    return Tensor(index, name, (SIZE // 4,), "float32", SIZE, kind, index, producer)


def compiled(optimizer: str = "Default/optimizer-Momentum/ApplyMomentum-op") -> Graph:
    """Two gradients, each of which the compiler hands to the optimiser as soon as it is there."""
    weight, state = TensorKind.WEIGHT, TensorKind.ACTIVATION
    tensors = (
        tensor(0, "w0", weight),
        tensor(1, "w1", weight),
        tensor(2, "g0", state, 0),
        tensor(3, "g1", state, 2),
    )
    ops = (
        Op(0, "Gradients/Default/MatMul-op0", "MatMul", (0,), (2,)),
        Op(1, f"{optimizer}0", "ApplyMomentum", (0, 2), (), writes=(0,)),
        Op(2, "Gradients/Default/MatMul-op1", "MatMul", (1,), (3,), attrs={"after": (0,)}),
        Op(3, f"{optimizer}1", "ApplyMomentum", (1, 3), (), writes=(1,)),
    )
    return Graph("step", ops, tensors, (), (), "", "MindSpore")


def test_gradients_are_there_twice_until_all_are_made() -> None:
    graph = graph_by_graph(compiled())
    assert [op.name.rpartition("/")[2] for op in graph.ops if op.launches] == [
        "MatMul-op0",
        "MatMul-op1",
        "ApplyMomentum-op0",
        "ApplyMomentum-op1",
    ]
    assert [op.index for op in graph.ops] == list(range(len(graph.ops)))
    spans = {graph.tensors[span.tensor].name: (span.start, span.end) for span in lifetimes(graph)}
    assert spans["g0"] == (1, 7)
    assert spans["g1"] == (2, 7)
    assert spans["g0 of the step before"] == spans["g1 of the step before"] == (0, 4)
    assert graph.ops[2].attrs["after"] == (1,)
    assert len(graph.notes) == 1


def test_what_has_no_optimiser_stays_as_it_is() -> None:
    graph = compiled("Default/Add-op")
    assert graph_by_graph(graph) is graph
