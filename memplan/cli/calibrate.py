"""`memplan calibrate`: fit the cost model to a profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.cost.calibration_fit import Observed
    from memplan.cost.machine import Machine


@reporting
def command(
    profile: Annotated[Path, typer.Argument(help="A profile directory.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the calibration here.")] = Path(
        "calibration.json"
    ),
    chip: Annotated[
        str | None, typer.Option("--chip", "-c", help="The chip it was measured on; by default what the profile shows.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="The rank to use; by default the first with kernels.")] = None,
) -> Report:
    """
    Fit efficiencies and overheads of each kernel class to a profile.

    Odd rows are fitted and even rows only checked; the errors on both are reported and kept in the file.
    """
    from memplan.cost.calibration import save_calibration
    from memplan.cost.calibration_fit import calibrate, measured_kernels, observe
    from memplan.reports.calibration_report import calibration_report
    from memplan.traces import open_profile

    with progress_bar() as progress:
        opened = open_profile(profile)
        ranks = [rank] if rank is not None else list(opened.ranks)
        if rank is not None and rank not in opened.ranks:
            known = ", ".join(map(str, opened.ranks))
            raise InputError(f"has no rank {rank}", path=profile, remedy=f"it has {known}")
        columns = next(
            (found for number in ranks if (found := opened.rank(number).kernels(progress)) is not None), None
        )
    if columns is None:
        raise InputError("holds no kernels", path=profile, remedy="profile with kernel details (level 1 or higher)")
    seen = observe(columns)
    core, chosen = _machine(chip, seen)
    with progress_bar() as progress:
        result = calibrate(measured_kernels(columns), core, profile.name, progress=progress)
    save_calibration(result, output)
    notes = tuple(f"{note.file}: {note.text}" for note in opened.notes)
    return replace(calibration_report(result, seen, chosen, notes), written=(output,))


def _machine(chip: str | None, seen: Observed) -> tuple[Machine, str]:
    """The machine with the profile's own cores and clock, and how it was chosen."""
    from memplan.cost.calibration_fit import identify
    from memplan.cost.machine import bandwidths, machine
    from memplan.hardware import chip as find_chip

    if chip is not None:
        target, how = find_chip(chip), "as given"
    else:
        candidates = identify(seen, bandwidths())
        if not candidates:
            raise InputError("the profile does not show its chip", remedy="name it with --chip")
        target = candidates[0]
        others = ", ".join(item.name for item in candidates[1:4])
        how = "by its cores, clock and fastest stream" + (f"; {others} would fit too" if others else "")
    return machine(target, clock_hz=seen.clock_hz), how
