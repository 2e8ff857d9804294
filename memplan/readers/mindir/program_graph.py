"""From a decoded program to the frozen graph: the part that MindIR, text IR and captured cells have in common."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.progress import Progress
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph
from memplan.readers.mindir.flatten import Flattener
from memplan.readers.mindir.layered import layered_graph
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.program import Program
from memplan.readers.replicate import replicate_layers


def program_graph(
    program: Program,
    *,
    origin: str,
    shapes: Mapping[str, tuple[int, ...]] | None,
    target: Target,
    progress: Progress,
    layers: int | None = None,
) -> Graph:
    """The graph that `program` unfolds to, its layers extended to `layers`; raises `InputError` without a path."""
    builder = GraphBuilder()
    builder.notes.extend(program.notes)
    flattener = Flattener(program, builder, progress, target)
    flattener.run(shapes or {}, ordered=layers is None)
    graph = builder.finish(
        program.root.name, flattener.inputs, flattener.outputs, origin=origin, producer=program.producer
    )
    if layers is None:
        return graph
    if flattener.trace is None:
        return replicate_layers(graph, layers)
    return layered_graph(graph, flattener.trace, flattener.result, layers)
