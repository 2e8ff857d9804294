"""`memplan export PLAN --to FORMAT -o OUT`: a plan for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.commands.show import PlanArgument
from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.core.progress import Progress
from memplan.export import EXPORTERS, find_exporter
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.schema import Plan

_FORMATS = "; ".join(f"{exporter.name}, {exporter.description}" for exporter in EXPORTERS.values() if exporter.plans)


@reporting
def command(
    plan: PlanArgument,
    to: Annotated[str, typer.Option("--to", help=f"The format: {_FORMATS}.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.", show_default=False)],
    beside: Annotated[
        Path | None,
        typer.Option(help="A profile whose kernels chrome-trace shows above the plan's lanes.", show_default=False),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Its rank; the first by default.", show_default=False)] = None,
) -> Report:
    """
    Write a plan in the format of another tool.

    What is at OUTPUT stays until everything is written; a folder that is not empty is never replaced.
    """
    from memplan.imports import read_plan

    loaded = read_plan(plan)
    with progress_bar() as progress:
        if beside is None:
            written = find_exporter(to).write(loaded, output, progress, to)
        else:
            written = (_beside(loaded, to, output, beside, rank, progress),)
    return Report(
        title=f"{loaded.origin.graph} on {loaded.chip} as {to}",
        document=lambda: {"format": to, "written": str(output), "files": [str(path) for path in written]},
        written=written,
    )


def _beside(plan: Plan, to: str, output: Path, profile: Path, rank: int | None, progress: Progress) -> Path:
    from memplan.export.chrome_trace import write_trace_beside
    from memplan.traces import open_profile

    if to != "chrome-trace":
        raise InputError(f"{to} shows no profile", remedy="export to chrome-trace, or leave --beside out")
    opened = open_profile(profile)
    chosen = opened.ranks[0] if rank is None else rank
    if chosen not in opened.ranks:
        raise InputError(f"the profile has no rank {chosen}", path=profile)
    write_trace_beside(plan, opened.rank(chosen), output, progress)
    return output
