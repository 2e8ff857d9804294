"""`memplan ranks DIR`: every rank and step of a large profile in totals, slow ranks and slow links."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report

DirectoryArgument = Annotated[
    Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Processes to read with; one for each processor by default.", min=1, show_default=False),
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Read on the Dask cluster with this scheduler address.", show_default=False)
]


@reporting
def command(
    directory: DirectoryArgument,
    *,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
) -> Report:
    """
    Sum up every rank of a profile: time by step, memory peaks, slow ranks and slow links.

    Ranks are read in parallel, on this machine or on a Dask cluster, and only totals are kept.
    """
    from memplan.reports.ranks_report import ranks_report
    from memplan.traces.summaries import summarise_ranks

    with progress_bar() as progress:
        return ranks_report(summarise_ranks(directory, workers=workers, scheduler=scheduler, progress=progress))
