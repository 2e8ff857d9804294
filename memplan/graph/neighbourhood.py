"""A part of a graph around one op, as a networkx graph, DOT or GraphML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.graph.model import Graph

if TYPE_CHECKING:
    import networkx as nx

MAX_NODES = 5_000
"""More nodes than this can't be drawn."""


def find_op(graph: Graph, wanted: str) -> int:
    """
    The op that `wanted` names: a step number, a full scope name, or a part of one name only.

    Raises `InputError` when no op or more than one matches.
    """
    if wanted.isdigit() and int(wanted) < len(graph.ops):
        return int(wanted)
    exact = [op.index for op in graph.ops if op.name == wanted]
    found = exact or [op.index for op in graph.ops if wanted in op.name]
    if len(found) == 1 or exact:
        return found[0]
    if not found:
        raise InputError(f"no op is called {wanted!r:.100}", remedy="give a step number or a part of a scope name")
    examples = ", ".join(graph.ops[index].name for index in found[:3])
    raise InputError(f"{len(found)} ops match {wanted!r:.60}: {examples}, ...", remedy="give more of the name")


def neighbourhood(graph: Graph, centre: int, *, hops: int = 2) -> nx.DiGraph:
    """
    Ops within `hops` edges of op `centre`, in either direction, with the tensors between them on the edges.

    Nodes are op indices with `label`, `type`, `step`, `stream` and `source`; edges carry `tensor`, `bytes`, `shape` and
    `dtype`. Weights and inputs appear as nodes of their own. Raises `InputError` above `MAX_NODES` nodes.
    """
    import networkx as nx  # slow to import

    users: dict[int, list[int]] = {}
    for op in graph.ops:
        for used in op.inputs:
            users.setdefault(used, []).append(op.index)
    chosen = {centre}
    frontier = [centre]
    for _ in range(hops):
        reached: set[int] = set()
        for index in frontier:
            op = graph.ops[index]
            reached.update(p for t in op.inputs if (p := graph.tensors[t].producer) is not None)
            reached.update(user for made in op.outputs for user in users.get(made, ()))
        frontier = sorted(reached - chosen)
        chosen |= reached
        if len(chosen) > MAX_NODES:
            raise InputError(f"more than {MAX_NODES:,} ops lie within {hops} edges", remedy="ask for fewer hops")
    drawn = nx.DiGraph(name=graph.name)
    for index in sorted(chosen):
        op = graph.ops[index]
        drawn.add_node(
            str(index),
            label=op.name,
            type=op.type,
            step=index,
            stream=op.stream,
            launches=op.launches,
            source=op.source or "",
            centre=index == centre,
        )
    for index in sorted(chosen):
        for tensor_index in graph.ops[index].inputs:
            tensor = graph.tensors[tensor_index]
            origin = str(tensor.producer) if tensor.producer in chosen else None
            if tensor.producer is None:
                origin = f"t{tensor_index}"
                drawn.add_node(origin, label=tensor.name, type=tensor.kind.value, launches=False, centre=False)
            if origin is not None:
                drawn.add_edge(
                    origin,
                    str(index),
                    tensor=tensor.name,
                    bytes=tensor.nbytes,
                    shape="x".join(map(str, tensor.shape)) or "scalar",
                    dtype=tensor.dtype,
                    kind=tensor.kind.value,
                )
    return drawn


def to_dot(drawn: nx.DiGraph) -> str:
    """A neighbourhood in Graphviz's language."""
    lines = ["digraph memplan {", "  rankdir=TB; node [shape=box, fontsize=10]; edge [fontsize=9];"]
    for node, data in drawn.nodes(data=True):
        style = ', style=filled, fillcolor="#ffe9a8"' if data.get("centre") else ""
        shape = "" if data.get("launches") else ", shape=ellipse"
        text = f"{data['type']}\\n{_quoted(str(data['label']))}"
        lines.append(f'  "{node}" [label="{text}"{shape}{style}];')
    for origin, target, data in drawn.edges(data=True):
        lines.append(f'  "{origin}" -> "{target}" [label="{data["shape"]} {data["dtype"]}\\n{data["bytes"]} B"];')
    lines.append("}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def to_graphml(drawn: nx.DiGraph) -> str:
    """A neighbourhood as GraphML."""
    import networkx as nx

    return "\n".join(nx.generate_graphml(drawn)) + "\n"
