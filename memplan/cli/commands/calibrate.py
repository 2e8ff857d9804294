"""`memplan calibrate`: fit the cost model to a profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.console import progress_bar
from memplan.cli.reporting import new_file, reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.cost.machine import Machine
    from memplan.cost.measured_kernels import Observed
    from memplan.traces.profile import Kernels


@reporting
def command(
    profiles: Annotated[list[Path], typer.Argument(help="Profile directories, of one chip.", show_default=False)],
    output: Annotated[Path, new_file("Write the calibration here.", "--output", "-o", show_default=True)] = Path(
        "calibration.json"
    ),
    chip: Annotated[
        str | None, typer.Option("--chip", "-c", help="The chip it was measured on; by default what the profile shows.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="The rank to use; by default the first with kernels.")] = None,
) -> Report:
    """
    Fit efficiencies and overheads of each kernel class to one profile or several.

    Odd rows are fitted and even rows only checked; the errors on both, and on shapes never seen, are reported and kept
    in the file.
    """
    from memplan.cost.calibration import save_calibration
    from memplan.cost.calibration_fit import calibrate
    from memplan.cost.measured_kernels import measured_kernels, merged_kernels, observe
    from memplan.reports.calibration_report import calibration_report

    columns, notes = _columns(profiles[0], rank)
    seen, measured = observe(columns), [measured_kernels(columns)]
    for path in profiles[1:]:
        columns, own = _columns(path, rank)
        notes += own
        shown = observe(columns)
        if (shown.cubes, shown.vectors) != (seen.cubes, seen.vectors):
            raise InputError(
                f"shows {shown.cubes} cube and {shown.vectors} vector cores, the first profile {seen.cubes} and "
                f"{seen.vectors}",
                path=path,
                remedy="calibrate for each chip apart",
            )
        measured.append(measured_kernels(columns))
    core, chosen = _machine(chip, seen)
    name = " and ".join(path.name for path in profiles)
    with progress_bar() as progress:
        result = calibrate(merged_kernels(measured), core, name, progress=progress)
    save_calibration(result, output)
    return replace(calibration_report(result, seen, chosen, tuple(notes)), written=(output,))


def _columns(profile: Path, rank: int | None) -> tuple[Kernels, list[str]]:
    """The kernels of a rank of a profile, of the first with kernels if none is named, and what there is to note."""
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
    return columns, [f"{note.file}: {note.text}" for note in opened.notes]


def _machine(chip: str | None, seen: Observed) -> tuple[Machine, str]:
    """The machine with the profile's own cores and clock, and how it was chosen."""
    from memplan.cost.machine import bandwidths, machine
    from memplan.cost.measured_kernels import identify
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
