"""From a decoded program to the frozen graph: the part that MindIR, text IR and captured cells have in common."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.progress import Progress
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import Graph
from memplan.readers.mindir.flatten import Flattener
from memplan.readers.mindir.op_table import Target
from memplan.readers.mindir.program import Program


def program_graph(
    program: Program,
    *,
    origin: str,
    shapes: Mapping[str, tuple[int, ...]] | None,
    target: Target,
    progress: Progress,
) -> Graph:
    """The graph that `program` unfolds to; raises `InputError` without a path."""
    builder = GraphBuilder()
    builder.notes.extend(program.notes)
    flattener = Flattener(program, builder, progress, target)
    flattener.run(shapes or {})
    return builder.finish(
        program.root.name, flattener.inputs, flattener.outputs, origin=origin, producer=program.producer
    )
