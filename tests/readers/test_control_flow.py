"""Branches and loops of MindIR and of text IR unfold so that nothing a run still needs is given up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.progress import silent
from memplan.graph import Graph, lifetimes, live_curve
from memplan.readers import Target, read_graph
from memplan.readers.mindir import flatten as mindir_flatten
from memplan.readers.mindir.decode import Function, Node, TensorType
from memplan.readers.mindir.program import Program
from memplan.readers.mindir.program_graph import program_graph
from tests.readers.conftest import Step

DATA = Path(__file__).with_name("data")
SQUARE = 64 * 64 * 4
BIT = TensorType((1,), "uint8")


@pytest.fixture(scope="module", params=["control_flow.mindir", "control_flow.ir"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return read_graph(DATA / request.param)


def types(graph: Graph) -> list[str]:
    return [op.type for op in graph.ops if op.launches]


def test_both_branches_and_one_pass_of_the_loop_are_laid_out(graph: Graph) -> None:
    found = types(graph)
    assert found.count("MatMulExt") == 2  # one in a branch, one in the loop
    assert found.count("ReLU") == 1
    assert found.count("Tanh") == 1
    assert [op.type for op in graph.ops].count("LoopBegin") == 1
    assert [op.type for op in graph.ops].count("LoopEnd") == 1


def test_the_graph_says_what_it_assumed(graph: Graph) -> None:
    assert any("2 conditions" in note for note in graph.notes)
    assert any("1 loops" in note for note in graph.notes)


def test_results_of_the_two_branches_share_their_bytes(graph: Graph) -> None:
    scaled = next(op for op in graph.ops if op.type == "Mul")
    added = next(op for op in graph.ops if op.type == "Add")
    assert graph.tensors[scaled.outputs[0]].storage == graph.tensors[added.outputs[0]].storage


def test_what_the_loop_carries_lives_until_its_end(graph: Graph) -> None:
    end = next(op.index for op in graph.ops if op.type == "LoopEnd")
    spans = {span.tensor: span for span in lifetimes(graph)}
    tanh = next(op for op in graph.ops if op.type == "Tanh")
    carried = spans[graph.tensors[tanh.outputs[0]].storage]
    assert carried.end > end
    counter = next(op for op in graph.ops if op.type == "Sub")
    assert spans[graph.tensors[counter.outputs[0]].storage].end > end


def test_a_pass_needs_two_squares_not_three(graph: Graph) -> None:
    peak = int(live_curve(graph, persistent=False).max())
    assert 2 * SQUARE <= peak < 2 * SQUARE + 4096


@pytest.mark.mindspore
def test_peak_is_never_below_what_mindspore_measures(graph: Graph, measured_step: Callable[[str], Step]) -> None:
    measured = measured_step("control_flow")
    planned = read_graph(graph.origin, target=Target.CPU)
    peak = int(live_curve(planned, alignment=512, persistent=False).max())
    most = measured.transient_peak(SQUARE)
    assert most <= peak <= 1.03 * most


def test_functions_that_multiply_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindir_flatten, "UNFOLDED", 500)
    functions = {}
    for level in range(30):
        name, below = f"f{level}", f"f{level + 1}"
        inputs = ((f"{name}:a", BIT),)
        if level == 29:
            nodes = (Node(f"{name}:op", "Op", True, (f"{name}:a",), BIT, f"S/{name}", {}),)
            functions[name] = Function(name, inputs, nodes, (f"{name}:op",), frozenset())
            continue
        first = Node(f"{name}:1", below, False, (f"{name}:a",), BIT, "", {})
        second = Node(f"{name}:2", below, False, (f"{name}:1",), BIT, "", {})
        functions[name] = Function(name, inputs, (first, second), (f"{name}:2",), frozenset({below}))
    program = Program(functions["f0"], functions, {}, (), "test")
    with pytest.raises(InputError, match="unfolds to more than"):
        program_graph(program, origin="test", shapes=None, target=Target.ASCEND, progress=silent)


def test_a_function_that_uses_its_own_result_is_refused() -> None:
    name = "f"
    again = Node("f:again", "f", False, ("f:a",), BIT, "", {})
    use = Node("f:use", "Op", True, ("f:again",), BIT, "S/use", {})
    functions = {name: Function(name, (("f:a", BIT),), (again, use), ("f:use",), frozenset({"f"}))}
    root = Function("root", (("root:x", BIT),), (Node("root:c", "f", False, ("root:x",), BIT, "", {}),), ("root:c",),
                    frozenset({"f"}))  # fmt: skip
    program = Program(root, {**functions, "root": root}, {}, (), "test")
    with pytest.raises(InputError, match="recursive call is used"):
        program_graph(program, origin="test", shapes=None, target=Target.ASCEND, progress=silent)
