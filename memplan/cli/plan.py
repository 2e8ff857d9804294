"""`memplan plan SOURCE`: plan a compiled graph, or a step of a published model, on a chip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.units import parse_shape
from memplan.reports.report import Report
from memplan.requests.plan_request import PlanRequest


@reporting
def command(
    asked: PlanRequest,
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
    Plan where every tensor lives and when it moves, of a compiled graph or of one step of a published model.

    Exits with 0 when it fits, 1 when it does not, 2 when the source can't be read.
    """
    from memplan.reports.plan_report import plan_report

    shapes = dict(parse_shape(item) for item in shape or ())
    with progress_bar() as progress:
        result = asked.plan(shapes=shapes, calibration=calibration, progress=progress)
    if output is not None:
        result.save(output)
    return replace(plan_report(result), written=() if output is None else (output,))
