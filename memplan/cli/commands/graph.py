"""`memplan graph FILE`: what a compiled graph needs, before any plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.units import parse_shape
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.graph import Graph


@reporting
def command(
    graph: Annotated[Path, typer.Argument(help="A compiled graph, such as model.mindir.", show_default=False)],
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Bind a dynamic input, as NAME=1,128; give it once an input.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the tensors alive at the peak to list.")] = 20,
    around: Annotated[
        str | None, typer.Option(help="The op to draw: its step, or a part of its name.", show_default=False)
    ] = None,
    hops: Annotated[int, typer.Option(min=0, help="How many edges around that op to draw.")] = 2,
    dot: Annotated[Path | None, new_file("Write the drawing here for Graphviz.")] = None,
    graphml: Annotated[Path | None, new_file("Write the drawing here as GraphML.")] = None,
) -> Report:
    """
    Show the ops, tensors and lifetimes of a compiled graph, and what is alive at its peak.

    Exits with 0, or 2 when the graph can't be read.
    """
    from memplan.graph.requirements import summarise
    from memplan.readers import read_graph
    from memplan.reports.graph_report import graph_report

    with progress_bar() as progress:
        found = read_graph(graph, shapes=dict(parse_shape(item) for item in shape or ()), progress=progress)
    if dot is not None or graphml is not None:
        _draw(found, around, hops, dot, graphml)
    written = tuple(path for path in (dot, graphml) if path is not None)
    return replace(graph_report(found, summarise(found), top), written=written)


def _draw(found: Graph, around: str | None, hops: int, dot: Path | None, graphml: Path | None) -> None:
    from memplan.graph.neighbourhood import find_op, neighbourhood, to_dot, to_graphml

    if around is None:
        raise InputError("which part to draw is not said", remedy="name an op with --around")
    drawn = neighbourhood(found, find_op(found, around), hops=hops)
    for path, write in ((dot, to_dot), (graphml, to_graphml)):
        if path is None:
            continue
        with replacing_file(path) as file:
            file.write(write(drawn))
