"""`memplan diff A B`: what changed between two plans, two profiles, or two ranks or steps of one profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.reports.report import Report

_Step = Annotated[
    int | None, typer.Option(help="Step of that profile, by its number; all by default.", show_default=False)
]
MostTime = Annotated[
    float | None,
    typer.Option(help="Exit with 1 where a step takes longer by more than this share, such as 0.05.", min=0.0,
                 show_default=False),
]  # fmt: skip
MostMemory = Annotated[
    float | None,
    typer.Option(help="Exit with 1 where the peak is higher by more than this share.", min=0.0, show_default=False),
]
_Rank = Annotated[int | None, typer.Option(help="Rank of that profile; its first by default.", show_default=False)]


@reporting
def command(
    before: Annotated[Path, typer.Argument(help="A profile directory, or a plan.", show_default=False)],
    after: Annotated[
        Path | None,
        typer.Argument(help="Another one; by default the same, for two of its ranks or steps.", show_default=False),
    ] = None,
    *,
    before_rank: _Rank = None,
    after_rank: _Rank = None,
    before_step: _Step = None,
    after_step: _Step = None,
    chip: Annotated[str | None, typer.Option(help="Chip to hold kernels against.", show_default=False)] = None,
    most_time: MostTime = None,
    most_memory: MostMemory = None,
) -> Report:
    """
    Compare two profiles, or two ranks or steps of one: the parts of a step, kernels by type, and findings.

    Of two plans: peak, makespan, what they were made for, and the tensors, ops and moves that differ.

    Where only one profile is given its first two ranks are compared, or two steps of its first, unless others are
    asked for.
    """
    import memplan
    from memplan.core.errors import InputError
    from memplan.findings import diagnose
    from memplan.findings.profile_change import profile_change
    from memplan.findings.regression import RegressionLimits, regressions
    from memplan.imports import are_plans, read_plan
    from memplan.reports.comparison.plan_diff_report import plan_diff_report
    from memplan.reports.diagnosis.diff_report import diff_report
    from memplan.reports.profile_report import profile_remarks

    if are_plans(before, after) and after is not None:
        if any(option is not None for option in (before_rank, after_rank, before_step, after_step, chip)):
            raise InputError("ranks, steps and the chip are chosen of profiles", remedy="name two plans alone")
        if most_time is not None or most_memory is not None:
            raise InputError("a gate is between two profiles", remedy="leave --most-time and --most-memory out")
        return plan_diff_report(read_plan(before), read_plan(after), str(before), str(after))
    with progress_bar() as progress:
        one = memplan.open_profile(before)
        other = one if after is None else memplan.open_profile(after)
        steps = before_step is not None or after_step is not None
        if after is None and after_rank is None and len(one.ranks) < 2 and not steps:
            raise InputError("the profile has one rank", path=before, remedy="give a second profile to compare with")
        first = one.ranks[0] if before_rank is None else before_rank
        if after is None and after_rank is None and steps:
            second = first
        else:
            second = other.ranks[1 if after is None else 0] if after_rank is None else after_rank
        told = diagnose(one, ranks=[first], chip=chip, step=before_step, progress=progress)
        later = diagnose(other, ranks=[second], chip=chip, step=after_step, progress=progress)
        change = profile_change(told, first, later, second)
    before_name, after_name = (
        f"{path}, rank {rank}" + ("" if step is None else f", step {step}")
        for path, rank, step in ((one.path, first, before_step), (other.path, second, after_step))
    )
    worse = regressions(change, RegressionLimits(most_time, most_memory))
    return diff_report(change, before_name, after_name, profile_remarks(one, other), worse)
