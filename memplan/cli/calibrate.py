"""`memplan calibrate`: fit the cost model to a profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table, progress_bar
from memplan.core.errors import InputError

if TYPE_CHECKING:
    from memplan.cost.calibration_fit import Observed
    from memplan.cost.calibration import Calibration
    from memplan.cost.machine import Machine

_SHOWN = 30


def command(
    profile: Annotated[Path, typer.Argument(help="A profile directory.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the calibration here.")] = Path(
        "calibration.json"
    ),
    chip: Annotated[
        str | None, typer.Option("--chip", "-c", help="The chip it was measured on; by default what the profile shows.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="The rank to use; by default the first with kernels.")] = None,
    as_json: JsonOption = False,
) -> int:
    """
    Fit efficiencies and overheads of each kernel class to a profile.

    Odd rows are fitted and even rows only checked; the errors on both are reported and kept in the file.
    """
    from memplan.cost.calibration_fit import calibrate, measured, observe
    from memplan.cost.calibration import save_calibration
    from memplan.traces import open_profile

    with progress_bar() as progress:
        opened = open_profile(profile)
        ranks = [rank] if rank is not None else list(opened.ranks)
        if rank is not None and rank not in opened.ranks:
            known = ", ".join(map(str, opened.ranks))
            raise InputError(f"has no rank {rank}", path=profile, remedy=f"it has {known}")
        columns = next((found for number in ranks if (found := opened.rank(number).kernels(progress)) is not None), None)
    if columns is None:
        raise InputError("holds no kernels", path=profile, remedy="profile with kernel details (level 1 or higher)")
    seen = observe(columns)
    core, chosen = _machine(chip, seen)
    with progress_bar() as progress:
        result = calibrate(measured(columns), core, profile.name, progress=progress)
    save_calibration(result, output)
    if as_json:
        print_json(_document(result, seen, chosen))
        return YES
    _print(result, seen, chosen)
    if result.check_error is not None and result.model_error is not None and result.check_error >= result.model_error:
        print("note: on the rows kept apart the model alone is better: the profile holds too few kernels of a kind")
    for note in opened.notes:
        print(f"note: {note.file}: {note.text}")
    print(f"written to {output}")
    return YES


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


def _document(result: Calibration, seen: Observed, chosen: str) -> dict[str, Any]:
    return {
        "chip": result.chip,
        "chosen": chosen,
        "observed": {
            "cubes": seen.cubes,
            "vectors": seen.vectors,
            "clock_hz": seen.clock_hz,
            "stream_bytes_per_second": seen.stream,
        },
        "train_error": result.train_error,
        "check_error": result.check_error,
        "model_error": result.model_error,
        "types": [
            {
                "type": fit.name,
                "coefficients": fit.coefficients,
                "train_rows": fit.train_rows,
                "check_rows": fit.check_rows,
                "train_error": fit.train_error,
                "check_error": fit.check_error,
                "model_error": fit.model_error,
            }
            for fit in result.types
        ],
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _print(result: Calibration, seen: Observed, chosen: str) -> None:
    clock = "unknown" if seen.clock_hz is None else f"{seen.clock_hz / 1e6:,.0f} MHz"
    print(f"{result.profile}: {seen.cubes} cube cores, {seen.vectors} vector cores, clock {clock}")
    print(f"taken for {result.chip}, {chosen}")
    print_table(
        "Time-weighted error",
        ["rows", "model alone", "calibrated"],
        [
            ("odd: fitted", None, _percent(result.train_error)),
            ("even: kept apart", _percent(result.model_error), _percent(result.check_error)),
        ],
        right=(1, 2),
    )
    rows = sorted(result.types, key=lambda fit: -(fit.train_rows + fit.check_rows))[:_SHOWN]
    print_table(
        f"Fits of {len(result.types)} op types",
        ["type", "rows", "overhead us", "x model", "x bytes", "x compute", "fitted", "kept apart", "model alone"],
        [
            (
                fit.name,
                fit.train_rows + fit.check_rows,
                f"{fit.coefficients[0] / 1e3:.2f}",
                *(f"{value:.3g}" for value in fit.coefficients[1:]),
                _percent(fit.train_error),
                _percent(fit.check_error),
                _percent(fit.model_error),
            )
            for fit in rows
        ],
        right=range(1, 9),
    )
