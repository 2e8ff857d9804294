"""`memplan compare PLAN DIR`: where a run left its plan, and what that cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.commands.profile import KernelsOption, ModelOption, RankOption, planned_rank, write_placed_kernels
from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report


@reporting
def command(
    plan: Annotated[
        Path, typer.Argument(help="A plan; with --model the profile, as the plan is made like it.", show_default=False)
    ],
    directory: Annotated[
        Path | None, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)
    ] = None,
    rank: RankOption = None,
    model: ModelOption = None,
    step: Annotated[
        int | None, typer.Option(help="The step to compare with; the median one by default.", show_default=False)
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(help="The measured memory curve, such as PTA or APP; the framework's allocator by default.",
                     show_default=False),
    ] = None,
    memory_tolerance: Annotated[float, typer.Option(help="Peaks may differ by this share.", min=0)] = 0.03,
    time_tolerance: Annotated[float, typer.Option(help="Makespans may differ by this share.", min=0)] = 0.10,
    coverage: Annotated[float, typer.Option(help="This share of the ops has to be found.", min=0, max=1)] = 0.90,
    limit: Annotated[int, typer.Option(help="How many differences to list.", min=1)] = 10,
    curves: Annotated[
        Path | None,
        new_file("Write planned and measured memory over time here, as CSV."),
    ] = None,
    kernels: KernelsOption = None,
) -> Report:  # fmt: skip
    """
    Put a plan and a profile on one axis and list the differences that cost most.

    With --model the plan is made on the fly, like the profile, of a published model's config.json.

    Exits with 0 when the profile keeps to the plan, 1 when it deviates, 2 when either can't be read.
    """
    import memplan
    from memplan.compare import Tolerance, compare, write_curves
    from memplan.imports import read_plan
    from memplan.reports.comparison.compare_report import compare_report
    from memplan.reports.plan_report import settings_document, settings_sections
    from memplan.requests.plan_request import PlanRequest

    if (model is None) is (directory is None):
        what = "a profile is missing" if directory is None else "--model makes the plan, and one is given"
        raise InputError(what, remedy="give PLAN and PROFILE, or --model CONFIG and PROFILE")
    tolerance = Tolerance(memory=memory_tolerance, time=time_tolerance, coverage=coverage)
    with progress_bar() as progress:
        profile = memplan.open_profile(directory or plan)
        loaded = (
            read_plan(plan) if model is None else PlanRequest(model, rank=rank).plan_like(profile, progress=progress)
        )
        if rank is None and model is not None:
            rank = planned_rank(loaded)
        result = compare(
            loaded,
            profile,
            rank=rank,
            step=step,
            component=component,
            tolerance=tolerance,
            limit=limit,
            progress=progress,
        )
    if curves is not None:
        write_curves(result, curves)
    if kernels is not None:
        write_placed_kernels(result, profile, kernels)
    report = compare_report(result, {op.index: op.name for op in loaded.ops})
    document = report.document
    if not loaded.settings or document is None:
        return report
    told = {"plan_settings": settings_document(loaded)}
    return replace(
        report,
        sections=(*report.sections, *settings_sections(loaded)),
        document=lambda: {**document(), **told},
    )
