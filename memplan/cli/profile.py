"""`memplan profile DIR`: what a CANN profile holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report

ProfileArgument = Annotated[Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)]
RankOption = Annotated[int | None, typer.Option(help="The rank to look at; the first by default.", show_default=False)]


@reporting
def command(
    directory: ProfileArgument,
    rank: RankOption = None,
    top: Annotated[int, typer.Option(help="How many op types to list.", min=1)] = 10,
) -> Report:
    """
    Print what a profile holds: ranks, tracks, steps, op types by time, memory peaks, and what could not be read.

    Exits with 2 when there is no profile in the folder.
    """
    import memplan
    from memplan.core.errors import InputError
    from memplan.reports.profile_report import profile_report, rank_facts

    with progress_bar() as progress:
        progress(0, 1, "reading the profile")
        profile = memplan.open_profile(directory)
        chosen = list(profile.ranks) if rank is None else [rank]
        if rank is not None and rank not in profile.ranks:
            have = ", ".join(map(str, list(profile.ranks)[:10]))
            raise InputError(f"the profile has no rank {rank}", path=directory, remedy=f"it has {have}")
        found = []
        for done, number in enumerate(chosen):
            progress(done, len(chosen), "ranks")
            found.append(rank_facts(profile.rank(number), top, progress))
    return profile_report(profile, found)
