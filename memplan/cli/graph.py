"""`memplan graph FILE`: what a compiled graph needs, before any plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, parse_shape

if TYPE_CHECKING:
    from memplan.graph import Graph
    from memplan.graph.requirements import Alive, GraphSummary

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 100


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
    dot: Annotated[Path | None, typer.Option(help="Write the drawing here for Graphviz.", show_default=False)] = None,
    graphml: Annotated[Path | None, typer.Option(help="Write the drawing here as GraphML.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Show the ops, tensors and lifetimes of a compiled graph, and what is alive at its peak.

    Exits with 0, or 2 when the graph can't be read.
    """
    from memplan.graph.requirements import summarise
    from memplan.readers import read_graph

    with progress_bar() as progress:
        found = read_graph(graph, shapes=dict(parse_shape(item) for item in shape or ()), progress=progress)
    if dot is not None or graphml is not None:
        _draw(found, around, hops, dot, graphml)
    summary = summarise(found)
    if as_json:
        print_json(summary_to_json(found, summary, top))
    else:
        _print(found, summary, top)
        for path in (dot, graphml):
            if path is not None:
                print(f"written to {path}")
    return YES


def _draw(found: Graph, around: str | None, hops: int, dot: Path | None, graphml: Path | None) -> None:
    from memplan.graph.neighbourhood import find_op, neighbourhood, to_dot, to_graphml

    if around is None:
        raise InputError("which part to draw is not said", remedy="name an op with --around")
    drawn = neighbourhood(found, find_op(found, around), hops=hops)
    for path, write in ((dot, to_dot), (graphml, to_graphml)):
        if path is None:
            continue
        try:
            path.write_text(write(drawn), encoding="utf-8")
        except OSError as error:
            raise InputError(f"can't be written: {error.strerror}", path=path) from error


def summary_to_json(found: Graph, summary: GraphSummary, top: int) -> dict[str, Any]:
    """The summary as JSON values; bytes and steps throughout."""
    return {
        "graph": found.name,
        "origin": found.origin,
        "producer": found.producer,
        "ops": summary.ops,
        "kernels": summary.kernels,
        "tensors": summary.tensors,
        "storages": summary.storages,
        "streams": summary.streams,
        "op_types": dict(summary.op_types),
        "bytes_by_kind": {kind.value: size for kind, size in summary.bytes_by_kind.items()},
        "on_host_bytes": summary.on_host_bytes,
        "persistent_bytes": summary.persistent_bytes,
        "peak_bytes": summary.peak_bytes,
        "peak_step": summary.peak_step,
        "transient_peak_bytes": summary.transient_peak_bytes,
        "live_bytes": list(summary.curve),
        "alive_at_peak": [
            {
                "tensor": item.tensor,
                "name": item.name,
                "kind": item.kind.value,
                "shape": list(item.shape),
                "dtype": item.dtype,
                "bytes": item.nbytes,
                "start": item.start,
                "end": item.end,
                "made_by": item.made_by,
                "source": item.source,
            }
            for item in summary.alive_at_peak[:top]
        ],
        "notes": list(found.notes),
    }


def _print(found: Graph, summary: GraphSummary, top: int) -> None:
    print(f"{found.name}: {found.origin}, by {found.producer}")
    print(
        f"{summary.ops:,} ops ({summary.kernels:,} kernels) on {summary.streams} stream(s), "
        f"{summary.tensors:,} tensors in {summary.storages:,} storages"
    )
    rows = [(kind.value, format_bytes(size), f"{size:,}") for kind, size in summary.bytes_by_kind.items() if size]
    if summary.on_host_bytes:
        rows.append(("kept on the host", format_bytes(summary.on_host_bytes), f"{summary.on_host_bytes:,}"))
    print_table("Bytes by kind", ("kind", "size", "bytes"), rows, right=(1, 2))
    if summary.peak_step is not None:
        peak = found.ops[summary.peak_step]
        print(
            f"peak {format_bytes(summary.peak_bytes)} at step {summary.peak_step} of {summary.ops}, {peak.name}; "
            f"{format_bytes(summary.persistent_bytes)} of it stay throughout, "
            f"{format_bytes(summary.transient_peak_bytes)} is the most that comes and goes"
        )
        print(_sparkline(summary.curve))
    shown = summary.alive_at_peak[:top]
    title = f"Alive at the peak: {len(shown)} largest of {len(summary.alive_at_peak)}"
    print_table(title, ("tensor", "kind", "shape", "size", "steps", "line"), [_row(item) for item in shown], right=(3,))
    for note in found.notes:
        print(f"note: {note}")


def _row(item: Alive) -> tuple[object, ...]:
    shape = f"{item.dtype}[{','.join(map(str, item.shape))}]"
    name = item.made_by or item.name
    return name, item.kind.value, shape, format_bytes(item.nbytes), f"{item.start}-{item.end}", item.source


def _sparkline(curve: tuple[int, ...]) -> str:
    """The live curve in one line: each column shows the most bytes of its steps."""
    top = max(curve, default=0)
    if not top:
        return ""
    width = min(_WIDTH, len(curve))
    columns = [max(curve[i * len(curve) // width : (i + 1) * len(curve) // width]) for i in range(width)]
    return "".join(_BARS[-(-value * (len(_BARS) - 1) // top)] for value in columns)
