"""Branches and loops of MindIR and of text IR unfold so that nothing a run still needs is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.graph import Graph, lifetimes, live_curve
from memplan.readers import Target, read_graph

DATA = Path(__file__).with_name("data")
SQUARE = 64 * 64 * 4


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
def test_peak_is_never_below_what_mindspore_measures(graph: Graph, measured_step) -> None:  # type: ignore[no-untyped-def]
    measured = measured_step("control_flow")
    planned = read_graph(graph.origin, target=Target.CPU)
    peak = int(live_curve(planned, alignment=512, persistent=False).max())
    most = measured.transient_peak(SQUARE)
    assert most <= peak <= 1.03 * most
