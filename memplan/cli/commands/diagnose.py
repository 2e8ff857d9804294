"""`memplan diagnose DIR`: what costs time or memory in a profile, why, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.commands.profile import ModelOption, ProfileArgument
from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report


@reporting
def command(
    directory: ProfileArgument,
    *,
    rank: Annotated[int | None, typer.Option(help="Only this rank; all by default.", show_default=False)] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="A plan to hold kernels against.", show_default=False),
    ] = None,
    model: ModelOption = None,
    chip: Annotated[
        str | None,
        typer.Option(help="Chip to hold kernels against; the profile's own by default.", show_default=False),
    ] = None,
) -> Report:
    """
    Find what costs time or memory in a profile: where, how much, what shows it, and what to change.

    With a plan, or a model's config.json from which one is made like the profile, what differs from it is found too, in
    the model's words. Costs of a rank's findings are disjoint: they never add up to more than its steps.
    """
    import memplan
    from memplan.findings import diagnose
    from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
    from memplan.reports.profile_report import profile_remarks

    loaded = None
    if plan is not None and model is not None:
        raise InputError("--model makes the plan, and one is given", remedy="give --plan or --model")
    if plan is not None:
        from memplan.imports import read_plan  # readers of every format, which take as long to load as a profile

        loaded = read_plan(plan)
    with progress_bar() as progress:
        profile = memplan.open_profile(directory)
        if model is not None:
            from memplan.requests.plan_request import PlanRequest

            loaded = PlanRequest(model, rank=rank).plan_like(profile, progress=progress)
        found = diagnose(profile, ranks=None if rank is None else [rank], chip=chip, plan=loaded, progress=progress)
    return diagnosis_report(found, str(profile.path), profile_remarks(profile))
