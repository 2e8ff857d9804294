"""`memplan profile DIR`: what a CANN profile holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.reports.report import Remark, Report

if TYPE_CHECKING:
    from memplan.compare import Comparison
    from memplan.core.progress import Progress
    from memplan.schema import Plan
    from memplan.traces.directory import Profile

ProfileArgument = Annotated[Path, typer.Argument(help="A profile directory, or a folder of them.", show_default=False)]
RankOption = Annotated[int | None, typer.Option(help="The rank to look at; the first by default.", show_default=False)]

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="config.json of the model that ran: the plan is made like the profile."),
]

KernelsOption = Annotated[
    Path | None,
    new_file("Write every kernel with its place in the model here: a CSV table, or a trace where it ends with .json."),
]


@reporting
def command(
    directory: ProfileArgument,
    rank: RankOption = None,
    top: Annotated[int, typer.Option(help="How many op types to list.", min=1)] = 10,
    model: ModelOption = None,
    kernels: KernelsOption = None,
) -> Report:
    """
    Print what a profile holds: ranks, tracks, steps, op types by time, memory peaks, and what could not be read.

    With a model, also which of its layers and parts the time went to, and which of its tensors hold memory.

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
        report = profile_report(profile, found)
        if model is None and kernels is not None:
            raise InputError("--kernels takes the words of a model", remedy="give --model")
        return report if model is None else _with_model(report, model, profile, rank, kernels, progress)


def planned_rank(plan: Plan) -> int | None:
    """The rank of a profile that `plan` was made like, where the profile has several."""
    return next((int(item.value) for item in plan.settings if item.name == "rank"), None)


def _with_model(
    report: Report, config: Path, profile: Profile, rank: int | None, kernels: Path | None, progress: Progress
) -> Report:
    """`report` with the time and memory of the rank by layers and parts of the model at `config`."""
    from memplan.compare import compare
    from memplan.reports.model_sections import model_document, model_sections
    from memplan.reports.plan_report import settings_document, settings_sections
    from memplan.requests.plan_request import PlanRequest

    plan = PlanRequest(config, rank=rank).plan_like(profile, progress=progress)
    number = planned_rank(plan) if rank is None else rank
    if profile.rank(next(iter(profile.ranks)) if number is None else number).kernels(progress) is None:
        note = Remark("the rank has no kernels that the model's words could be given to; its traffic tells what ran")
        return replace(report, sections=(*settings_sections(plan), *report.sections), notes=(*report.notes, note))
    result = compare(plan, profile, rank=number, progress=progress)
    if kernels is not None:
        write_placed_kernels(result, profile, kernels)
    told = {"settings": settings_document(plan), **model_document(result, plan)}
    document = report.document
    return replace(
        report,
        sections=(*model_sections(result, plan), *report.sections, *settings_sections(plan)),
        document=None if document is None else lambda: {**document(), "model": told},
        written=(*report.written, *(() if kernels is None else (kernels,))),
    )


def write_placed_kernels(result: Comparison, profile: Profile, path: Path) -> None:
    """Write the kernels of the compared rank with their places; raises `InputError` where none has one."""
    from memplan.compare import write_kernels
    from memplan.core.errors import InputError

    kernels = profile.rank(result.rank).kernels()
    if result.places is None or kernels is None:
        raise InputError("no kernel has a place in the plan", path=path, remedy="compare with a plan of the same model")
    write_kernels(result.places, kernels, path)
