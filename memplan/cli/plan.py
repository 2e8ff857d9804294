"""`memplan plan GRAPH`: plan a compiled graph on a chip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.units import parse_bytes, parse_shape
from memplan.reports.report import Report


@reporting
def command(
    graph: Annotated[Path, typer.Argument(help="A compiled graph, such as model.mindir.", show_default=False)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    hbm: Annotated[
        str | None, typer.Option(help="HBM to plan with, such as 20GiB; by default what the chip's driver leaves.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Bind a dynamic input, as NAME=1,128; give it once an input.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Rest the times on what `memplan calibrate` wrote.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan here as JSON.")] = None,
) -> Report:
    """
    Plan where every tensor of a compiled graph lives and when it moves.

    Exits with 0 when it fits, 1 when it does not, 2 when the graph can't be read.
    """
    from memplan.planner import plan
    from memplan.reports.plan_report import plan_report

    shapes = dict(parse_shape(item) for item in shape or ())
    with progress_bar() as progress:
        result = plan(
            graph,
            chip=chip,
            hbm=parse_bytes(hbm) if hbm is not None else None,
            shapes=shapes,
            calibration=calibration,
            progress=progress,
        )
    if output is not None:
        result.save(output)
    return replace(plan_report(result), written=() if output is None else (output,))
