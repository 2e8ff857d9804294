"""The summary of a graph adds up, and the drawing shows the neighbourhood that was asked for."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import networkx as nx
import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.graph import Graph, TensorKind
from memplan.graph.builder import GraphBuilder
from memplan.graph.neighbourhood import find_op, neighbourhood, to_dot, to_graphml
from memplan.graph.requirements import summarise
from memplan.readers import read_graph
from memplan.reports.graph_report import graph_report
from memplan.reports.renderers.render_markdown import render_markdown

TRAIN = Path(str(resources.files("memplan.samples"))) / "llama_train.mindir"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_graph(TRAIN)


def test_bytes_alive_at_the_peak_are_the_peak(graph: Graph) -> None:
    summary = summarise(graph)
    assert sum(item.nbytes for item in summary.alive_at_peak) == summary.peak_bytes == max(summary.curve)
    assert summary.peak_bytes == summary.persistent_bytes + summary.transient_peak_bytes
    assert summary.bytes_by_kind[TensorKind.GRADIENT] == summary.bytes_by_kind[TensorKind.WEIGHT]


def on_two_streams() -> Graph:
    """Two chains of two ops, one after the other in the file, each on a stream of its own."""
    builder = GraphBuilder()
    weight = builder.tensor("w", (16,), "float32", 64, TensorKind.WEIGHT)
    results = []
    for stream in range(2):
        made = builder.tensor(f"made{stream}", (256,), "float32", 1024)
        small = builder.tensor(f"small{stream}", (2,), "float32", 8)
        builder.op(f"make{stream}", "Make", [weight], [made], stream=stream)
        builder.op(f"reduce{stream}", "Reduce", [made], [small], stream=stream)
        results.append(small)
    return builder.finish("two", [], results, origin="two", producer="test")


def test_streams_may_hold_more_than_the_order_of_the_file() -> None:
    summary = summarise(on_two_streams())
    assert summary.peak_bytes == 64 + 1024 + 2 * 8
    assert summary.any_order_bytes == 64 + 2 * (1024 + 8)
    text = render_markdown(graph_report(on_two_streams(), summary, 5))
    assert "in whatever order the 2 streams launch, 2.08 KiB is the most" in text


def test_one_stream_has_one_order(graph: Graph) -> None:
    assert summarise(graph).any_order_bytes is None


def test_what_comes_and_goes_is_listed_first_and_by_size(graph: Graph) -> None:
    alive = summarise(graph).alive_at_peak
    keys = [(item.kind.persistent, -item.nbytes) for item in alive]
    assert keys == sorted(keys)
    assert all(item.made_by for item in alive if not item.kind.persistent)


def test_ops_are_found_by_step_name_or_part(graph: Graph) -> None:
    loss = next(op for op in graph.ops if op.launches and op.name.endswith("Softmax-op0"))
    assert find_op(graph, str(loss.index)) == loss.index
    assert find_op(graph, loss.name) == loss.index
    with pytest.raises(InputError, match="ops match"):
        find_op(graph, "MatMul")
    with pytest.raises(InputError, match="no op"):
        find_op(graph, "NoSuchOp")


def test_a_neighbourhood_holds_producers_and_consumers(graph: Graph) -> None:
    centre = next(op for op in graph.ops if op.type == "Softmax")
    drawn = neighbourhood(graph, centre.index, hops=1)
    before = {str(graph.tensors[tensor].producer) for tensor in centre.inputs}
    after = {str(op.index) for op in graph.ops if set(op.inputs) & set(centre.outputs)}
    assert before <= set(drawn.predecessors(str(centre.index)))
    assert after == set(drawn.successors(str(centre.index)))


def test_drawings_are_readable_by_their_tools(graph: Graph) -> None:
    drawn = neighbourhood(graph, 100, hops=2)
    again = nx.parse_graphml(to_graphml(drawn))
    assert set(again.nodes) == set(drawn.nodes)
    assert set(again.edges) == set(drawn.edges)
    dot = to_dot(drawn)
    assert dot.count(" -> ") == drawn.number_of_edges()
    assert dot.count("[label=") == drawn.number_of_edges() + drawn.number_of_nodes()


def test_the_command_prints_tables_json_and_drawings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(TRAIN), "--top", "3"]) == 0
    text = capsys.readouterr().out
    assert "Alive at the peak, largest first" in text
    assert "3 of " in text
    assert "optimizer_state" in text
    assert main(["graph", str(TRAIN), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["peak_bytes"] == max(document["live_bytes"])
    dot = tmp_path / "part.dot"
    assert main(["graph", str(TRAIN), "--around", "100", "--dot", str(dot)]) == 0
    assert dot.read_text().startswith("digraph")


def test_the_command_refuses_a_drawing_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(TRAIN), "--dot", str(tmp_path / "x.dot")]) == 2
    assert "--around" in capsys.readouterr().err
