"""Conflicts over streams: exactly the pairs that no order of the ops keeps apart, and the heaviest set of them."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.graph import Graph, lifetimes
from memplan.graph.antichain import heaviest_antichain
from memplan.graph.builder import GraphBuilder
from memplan.graph.conflicts import conflicts, precedence


@st.composite
def graphs(draw: st.DrawFn, *, most_streams: int = 3) -> Graph:
    """A graph of a few ops on up to `most_streams` streams, with views, in-place writes and control edges."""
    builder = GraphBuilder()
    tensors = [builder.tensor("x", (4,), "uint8", 4)]
    for step in range(draw(st.integers(1, 9))):
        inputs = draw(st.lists(st.sampled_from(tensors), min_size=0 if step else 1, max_size=3, unique=True))
        size = draw(st.integers(1, 64))
        made = builder.tensor(f"t{step}", (size,), "uint8", size)
        if inputs and draw(st.integers(0, 4)) == 0:
            builder.share(inputs[0], made)
        after = tuple(draw(st.lists(st.integers(0, step - 1), max_size=1))) if step else ()
        builder.op(
            f"op{step}", "Op", inputs, [made], stream=draw(st.integers(0, most_streams - 1)), attrs={"after": after}
        )
        tensors.append(made)
    outputs = draw(st.lists(st.sampled_from(tensors), max_size=1))
    return builder.finish("g", (), outputs, origin="test", producer="test")


def reference_order(graph: Graph) -> nx.DiGraph:
    """Ops with an edge wherever one certainly finishes before the other starts."""
    order = nx.DiGraph()
    order.add_nodes_from(range(len(graph.ops)))
    for first, second in combinations(graph.ops, 2):
        same_stream = first.stream == second.stream
        passes_data = any(tensor in second.inputs for tensor in first.outputs)
        after = second.attrs["after"]
        assert isinstance(after, tuple)
        told = first.index in after
        if same_stream or passes_data or told:
            order.add_edge(first.index, second.index)
    return nx.transitive_closure(order)


def uses(graph: Graph) -> dict[int, set[int]]:
    """The ops that touch each storage."""
    found: dict[int, set[int]] = {}
    for op in graph.ops:
        for tensor in (*op.inputs, *op.outputs):
            found.setdefault(graph.tensors[tensor].storage, set()).add(op.index)
    return found


def reference_conflicts(graph: Graph) -> set[tuple[int, int]]:
    order, touched = reference_order(graph), uses(graph)
    kept = {graph.tensors[tensor].storage for tensor in graph.outputs}

    def over(first: int, second: int) -> bool:
        if first in kept:
            return False
        return all(order.has_edge(a, b) for a in touched[first] for b in touched[second])

    return {(a, b) for a, b in combinations(sorted(touched), 2) if not over(a, b) and not over(b, a)}


@settings(max_examples=200)
@given(graph=graphs())
def test_conflicts_are_the_pairs_that_no_order_separates(graph: Graph) -> None:
    assert conflicts(graph) == reference_conflicts(graph)


@settings(max_examples=100)
@given(graph=graphs(most_streams=1))
def test_on_one_stream_conflicts_are_overlapping_lifetimes(graph: Graph) -> None:
    spans = {span.tensor: span for span in lifetimes(graph)}
    overlapping = {
        (a, b)
        for a, b in combinations(sorted(spans), 2)
        if spans[a].start < spans[b].end and spans[b].start < spans[a].end
    }
    assert conflicts(graph) == overlapping


@settings(max_examples=150)
@given(graph=graphs())
def test_the_antichain_is_the_heaviest_set_in_conflict(graph: Graph) -> None:
    order = precedence(graph)
    pairs = order.pairs()
    size = dict(zip(order.storages, order.nbytes, strict=True))
    best = 0
    for count in range(1, len(order.storages) + 1):
        for chosen in combinations(order.storages, count):
            if all(pair in pairs for pair in combinations(chosen, 2)):
                best = max(best, sum(size[item] for item in chosen))
    found = heaviest_antichain(order)
    assert found.nbytes == best
    assert sum(size[item] for item in found.storages) == found.nbytes
    assert all(pair in pairs for pair in combinations(sorted(found.storages), 2))
