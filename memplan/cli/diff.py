"""`memplan diff A B`: what changed between two profiles, or between two ranks of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report

_Rank = Annotated[int | None, typer.Option(help="Rank of that profile; its first by default.", show_default=False)]


@reporting
def command(
    before: Annotated[Path, typer.Argument(help="A profile directory.", show_default=False)],
    after: Annotated[
        Path | None, typer.Argument(help="Another one; by default the same, for two of its ranks.", show_default=False)
    ] = None,
    *,
    before_rank: _Rank = None,
    after_rank: _Rank = None,
    chip: Annotated[str | None, typer.Option(help="Chip to hold kernels against.", show_default=False)] = None,
) -> Report:
    """
    Compare two profiles, or two ranks of one: the parts of a step, kernels by type, and findings.

    Where only one profile is given its first two ranks are compared, unless others are asked for.
    """
    import memplan
    from memplan.core.errors import InputError
    from memplan.findings import diagnose
    from memplan.findings.profile_change import profile_change
    from memplan.reports.diagnosis.diff_report import diff_report

    with progress_bar() as progress:
        one = memplan.open_profile(before)
        other = one if after is None else memplan.open_profile(after)
        if after is None and after_rank is None and len(one.ranks) < 2:
            raise InputError("the profile has one rank", path=before, remedy="give a second profile to compare with")
        first = one.ranks[0] if before_rank is None else before_rank
        second = other.ranks[1 if after is None else 0] if after_rank is None else after_rank
        told = diagnose(one, ranks=[first], chip=chip, progress=progress)
        later = diagnose(other, ranks=[second], chip=chip, progress=progress)
        change = profile_change(told, first, later, second)
    notes = [f"{note.file}: {note.text}" for profile in (one, other) for note in profile.notes]
    return diff_report(change, f"{one.path}, rank {first}", f"{other.path}, rank {second}", list(dict.fromkeys(notes)))
