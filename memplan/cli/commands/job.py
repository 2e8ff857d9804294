"""`memplan job [options] -- COMMAND`: a job without a screen, planned before, watched during and judged after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.commands.diff import MostMemory, MostTime
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError, MemplanError
from memplan.core.files import replacing_file
from memplan.core.units import format_bytes
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.reports.job_report import JobPart
    from memplan.schema import Plan
    from memplan.traces.directory import Profile

FOLDER_VARIABLE = "MEMPLAN_JOB_FOLDER"
"""Where a job that watches itself (`memplan.MemoryWatch`, `memplan.Callback`) may leave its curve."""


@reporting
def command(
    words: Annotated[list[str], typer.Argument(help="The job's command, behind --.", metavar="-- COMMAND")],
    *,
    plan: Annotated[
        Path | None,
        typer.Option(help="What was planned for it: it is refused where that does not fit.", show_default=False),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Where the job leaves its profile; without it what MemoryWatch left is looked at.", show_default=False
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The profile of an earlier run, for the gate.", show_default=False)
    ] = None,
    most_time: MostTime = None,
    most_memory: MostMemory = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where report.html and verdict.json go.")] = Path(
        "memplan-job"
    ),
    anyway: Annotated[bool, typer.Option("--anyway", help="Run it even where the plan does not fit.")] = False,
) -> Report:
    """
    Run a job: refuse what can't fit before, pass its output on, look at its profile after, and decide for a gate.

    Exits with 0 where it ran to its end, keeps to the plan and is no worse than the run before it; with 1 where not.
    FOLDER/verdict.json says why; FOLDER/report.html shows it. The job finds FOLDER/watch in MEMPLAN_JOB_FOLDER.
    """
    from memplan.imports import read_plan
    from memplan.reports.job_report import job_report
    from memplan.reports.renderers.render import render_report
    from memplan.runtime.job_process import run_job_process

    if against is None and (most_time is not None or most_memory is not None):
        raise InputError("a gate needs a run to compare with", remedy="give --against PROFILE")
    if against is not None and not against.exists():
        raise InputError("no such profile", path=against)
    planned = None if plan is None else read_plan(plan)
    folder.mkdir(parents=True, exist_ok=True)
    if planned is not None and not planned.fits and not anyway:
        missing = f"the plan does not fit: {format_bytes(planned.missing_bytes)} are missing; the job was not started"
        report = job_report(None, [], missing)
    else:
        began = time.time()
        watch = (folder / "watch").absolute()
        process = run_job_process(words, environment={FOLDER_VARIABLE: str(watch)})
        limits = (most_time, most_memory)
        report = job_report(process, list(_parts(planned, profile, watch, began, against, limits)))
    for name, form in (("verdict.json", "json"), ("report.html", "html")):
        with replacing_file(folder / name) as file:
            file.write(render_report(report, form))
    return report


def _parts(
    plan: Plan | None,
    profile: Path | None,
    watch: Path,
    began: float,
    against: Path | None,
    limits: tuple[float | None, float | None],
) -> Iterator[JobPart]:
    """What is looked at after the run; what can't be, and was asked for, is a part that says no."""
    from memplan.reports.job_report import JobPart

    left = profile if profile is not None else (watch if watch.exists() else None)
    if left is None:
        if against is not None:
            raise InputError("the gate needs the job's profile", remedy="give --profile, where the job leaves it")
        return
    try:
        opened = _newest(left, began)
    except MemplanError as error:
        yield JobPart(
            "profile", Report(title=str(left), headline=str(error), answer=False), decides=profile is not None
        )
        return
    yield from _looked_at(opened, plan, against, limits, whole=profile is not None)


def _newest(left: Path, began: float) -> Profile:
    """The profile that the job left at `left`; raises `InputError` for one that was there before it ran."""
    import memplan

    files = [path for path in left.rglob("*") if path.is_file()] if left.is_dir() else [left]
    if not any(path.exists() and path.stat().st_mtime >= began - 1 for path in files):
        raise InputError("the job left no profile here", path=left, remedy="profile a few of its steps")
    return memplan.open_profile(left)


def _looked_at(
    profile: Profile,
    plan: Plan | None,
    against: Path | None,
    limits: tuple[float | None, float | None],
    *,
    whole: bool,
) -> Iterator[JobPart]:
    import memplan
    from memplan.compare import compare
    from memplan.findings import diagnose
    from memplan.findings.profile_change import profile_change
    from memplan.findings.regression import RegressionLimits, regressions
    from memplan.reports.comparison.compare_report import compare_report
    from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
    from memplan.reports.diagnosis.diff_report import diff_report
    from memplan.reports.job_report import JobPart

    compared, refused = None, ""
    if plan is not None and whole:
        try:
            compared = compare(plan, profile)
        except MemplanError as error:
            refused = str(error)
    found = diagnose(profile, ranks=profile.ranks[:1], plan=plan, compared=compared)
    yield JobPart("diagnosis", diagnosis_report(found, str(profile.path)), decides=False)
    if plan is not None and compared is not None:
        yield JobPart("plan", compare_report(compared, {op.index: op.name for op in plan.ops}), decides=True)
    elif refused:
        yield JobPart("plan", Report(title="plan", headline=refused, answer=False), decides=True)
    if against is not None:
        earlier = memplan.open_profile(against)
        before = diagnose(earlier, ranks=earlier.ranks[:1])
        change = profile_change(before, earlier.ranks[0], found, profile.ranks[0])
        worse = regressions(change, RegressionLimits(*limits))
        yield JobPart("gate", diff_report(change, str(against), str(profile.path), (), worse), decides=True)
