"""`memplan export PLAN --to FORMAT -o OUT`: a plan for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.cli.show import PlanArgument
from memplan.export import EXPORTERS, export
from memplan.reports.report import Report

_FORMATS = "; ".join(f"{exporter.name}, {exporter.description}" for exporter in EXPORTERS.values())


@reporting
def command(
    plan: PlanArgument,
    to: Annotated[str, typer.Option("--to", help=f"The format: {_FORMATS}.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.", show_default=False)],
) -> Report:
    """
    Write a plan in the format of another tool.

    What is at OUTPUT stays until everything is written; a folder that is not empty is never replaced.
    """
    from memplan.imports import read_plan

    loaded = read_plan(plan)
    with progress_bar() as progress:
        written = export(loaded, to, output, progress=progress)
    return Report(
        title=f"{loaded.origin.graph} on {loaded.chip} as {to}",
        document=lambda: {"format": to, "written": str(written)},
        written=(Path(written),),
    )
