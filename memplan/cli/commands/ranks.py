"""`memplan ranks DIR`: every rank and step of a large profile in totals, slow ranks and slow links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.commands.profile import ModelOption
from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report

DirectoryArgument = Annotated[
    Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Read on the Dask cluster with this scheduler address.", show_default=False)
]


@reporting
def command(
    directory: DirectoryArgument,
    *,
    scheduler: SchedulerOption = None,
    model: ModelOption = None,
) -> Report:
    """
    Sum up every rank of a profile: time by step, memory peaks, slow ranks and slow links.

    Ranks are read in parallel, on this machine or on a Dask cluster, and only totals are kept. With a model, also which
    of its parts take one rank longer than the others of its stage (the first 16 ranks with kernels).
    """
    import memplan
    from memplan.reports.rank_parts_section import rank_parts, rank_parts_section
    from memplan.reports.ranks_report import ranks_report
    from memplan.traces.notes import Notebook
    from memplan.traces.summaries import summarise_ranks

    with progress_bar() as progress:
        notes = Notebook(directory)
        found = summarise_ranks(directory, scheduler=scheduler, progress=progress, notes=notes)
        report = ranks_report(found, notes.notes)
        if model is None:
            return report
        parts = rank_parts_section(rank_parts(model, memplan.open_profile(directory), progress))
        return replace(report, sections=(parts, *report.sections))
