"""
What a calibration of kernels is worth on shapes it never saw and on other profiles; the page it prints is
`kernel_calibration.md`.

    python -m benchmarks.kernel_calibration [--data ../shared/data] [--profile NAME CHIP FOLDER ...] [-o FILE]

`--profile` adds a profile that is no part of the shared data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.calibration_bounds import drawn_halves, flexible, floors, hindsight, left_by_factors, spread, twins
from benchmarks.calibration_profiles import Mask, Profiled, public_profiles
from benchmarks.markdown import percent, section, table
from memplan.cost.calibration_fit import calibrate, rows_predicted, unseen_draws
from memplan.cost.measured_kernels import calibration_choice, merged_kernels
from memplan.cost.overlap import Array

HERE = Path(__file__).parent
DRAWS, TENTHS, FEWEST_SHAPES = 20, 4, 30
"""Random halves and tenths of a profile, and the distinct kernels from which on a profile is divided."""
PARTS = (2, 3, 5, 10)
"""Parts that a profile is divided in, each predicted by a fit to all others."""
NOTICED = 0.0025
"""Share of a class's time from which on it counts as worse."""


def page(data: Path, more: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """The lines of the page."""
    every = public_profiles(data, more)
    large = [each for each in every if each.shapes >= FEWEST_SHAPES]
    yield "# Calibrations of kernels"
    yield ""
    yield (
        "Made by `python -m benchmarks.kernel_calibration -o benchmarks/kernel_calibration.md`"
        f"{_given(more)}. Errors are sums of "
        "absolute deviations over sums of measured time. A class is a kind of `kernels.json`. The model is the "
        "uncalibrated one with kernels in their order. Seen are types, each with its data type, of which the fit has "
        f"a kernel, known those of which it has {calibration_choice('fewest_for_evidence'):.0f} distinct ones or more. "
        "Fit and check never share a shape, or "
        "never a profile. Constants of the method are ranges and thresholds (`memplan/cost/calibration.json`): "
        "traits, ranges and thresholds were chosen with these profiles in view, so that the method knows them, though "
        "no fit knows the shapes it is checked on."
    )
    yield ""
    yield from halves(large)
    yield from between(every)
    yield from growth(large)
    drawn = drawn_halves(large, TENTHS)
    yield from hindsight(drawn, TENTHS)
    yield from flexible(drawn, TENTHS)
    yield from twins(large)
    yield from floors(large)
    yield from spread(large)


def _given(more: Sequence[tuple[str, str, str]]) -> str:
    return f" with `--profile` for {', '.join(name for name, _, _ in more)}" if more else ""


def halves(every: Sequence[Profiled]) -> Iterator[str]:
    """Each half of the distinct kernels predicted by a fit to the other, halves drawn at random."""
    yield from section(
        "By halves of the shapes",
        f"Halves of the distinct kernels drawn at random, {DRAWS} times, each predicted by a fit to the other: means. "
        f"Classes are worse where their error is larger than the model's by more than {NOTICED:.2%} of their time: in "
        "means over the draws, and in single draws.",
    )
    rows, classes = [], []
    for each in every:
        drawn = _drawn(each, DRAWS)
        by_class = {
            str(kind): np.array([each.errors(draw.predicted, each.kind == kind) for draw in drawn])
            for kind in np.unique(each.kind)
        }
        means = sum(found[:, 1].mean() - found[:, 0].mean() > NOTICED for found in by_class.values())
        worse = sum(int((found[:, 1] - found[:, 0] > NOTICED).sum()) for found in by_class.values())
        cells = [cell for pick in (_all, _seen, _known) for cell in _mean(each, drawn, pick)]
        of = len(by_class)
        rows.append((each.name, str(each.shapes), *cells, f"{means} of {of}", f"{worse} of {DRAWS * of}"))
        for kind, found in by_class.items():
            model, fit, share = found.mean(axis=0)
            same = fit == model
            worst = "-" if same else f"{max((found[:, 1] - found[:, 0]).max(), 0.0):+.1%}"
            classes.append(
                (
                    each.name,
                    kind,
                    percent(share),
                    percent(model),
                    percent(fit),
                    "-" if same else _change(model, fit),
                    worst,
                )
            )
    header = (
        "profile", "shapes", "model, all", "calibrated", "change", "time", "model, types seen", "calibrated", "change",
        "time of these", "model, known types", "calibrated", "change", "time of these", "classes worse", "in draws",
    )  # fmt: skip
    yield from table(header, rows)
    yield f"The same by parts of a tenth, each predicted by a fit to the other nine, {TENTHS} times."
    yield ""
    rows = []
    for each in every:
        drawn = _drawn(each, TENTHS, 10)
        rows.append((each.name, *(cell for pick in (_all, _seen, _known) for cell in _mean(each, drawn, pick))))
    yield from table((header[0], *header[2:14]), rows)
    yield "Halves again, each class, known types and others; the worst draw in points of the class's own time."
    yield ""
    yield from table(
        ("profile", "class", "time of profile", "model", "calibrated", "change", "worst draw, points"), classes
    )


@dataclass(frozen=True, slots=True)
class Draw:
    """What fits to the other parts give each row, of which rows the type was seen, and of which it was known."""

    predicted: Array
    seen: Mask
    known: Mask


def _drawn(each: Profiled, draws: int, count: int = 2) -> list[Draw]:
    """As many draws of the distinct kernels into `count` parts, each predicted by a fit to all others."""
    parts = [each.parts(seed, count) for seed in range(draws)]
    found = []
    for part, predicted in zip(parts, unseen_draws(each.kernels, each.machine, each.name, parts), strict=True):
        seen, known = np.zeros(len(part), bool), np.zeros(len(part), bool)
        for number in range(count):
            asked = part == number
            seen[asked], known[asked] = each.known_by(~asked, 1)[asked], each.known_by(~asked)[asked]
        found.append(Draw(predicted, seen, known))
    return found


def _all(draw: Draw) -> Mask:
    return np.ones(len(draw.known), bool)


def _seen(draw: Draw) -> Mask:
    return draw.seen


def _known(draw: Draw) -> Mask:
    return draw.known


def _mean(each: Profiled, drawn: Sequence[Draw], pick: Callable[[Draw], Mask]) -> tuple[str, str, str, str]:
    """Errors of the model and calibrated, the change, and the share of all time, in means over draws."""
    model, fit, share = np.mean([each.errors(draw.predicted, pick(draw)) for draw in drawn], axis=0)
    return percent(model), percent(fit), _change(model, fit), f"{share:.0%}"


def _change(model: float, fit: float) -> str:
    return f"{fit / model - 1:+.0%}" if model else "-"


def growth(every: Sequence[Profiled]) -> Iterator[str]:
    """How the error falls with the share of shapes that a fit has seen, on the same kernels throughout."""
    yield from section(
        "By the share of shapes seen",
        "Left of the model's error by fits to so much of the distinct kernels, checked on the rest, "
        f"{TENTHS} times, on "
        "kernels whose type is known in each of all these draws; and by the median of each of their shapes, the floor.",
    )
    rows = []
    for each in every:
        drawn = [_drawn(each, TENTHS, count) for count in PARTS]
        own = np.logical_and.reduce([draw.known for draws in drawn for draw in draws])
        if not own.any():
            continue
        model, _, share = each.errors(each.model, own)
        left = [np.mean([each.errors(draw.predicted, own)[1] for draw in draws]) / model for draws in drawn]
        left.append(left_by_factors(each, own, each.shape) / (model * each.time[own].sum()))
        rows.append((each.name, percent(share), percent(model), *(f"{part:.0%}" for part in left)))
    seen = (f"{1 - 1 / count:.0%} seen" for count in PARTS)
    yield from table(("profile", "time of profile", "model", *seen, "all seen"), rows)


def between(every: Sequence[Profiled]) -> Iterator[str]:
    """Fits to one profile, and to all others of its generation, checked on another one."""
    yield from section(
        "By other profiles",
        "Fitted to one profile, or to all others of its generation together, and checked on another. Kernels spoken "
        "for are those that were measured there and those of types known and sizes near what is known; where they take "
        "less than 0.1 % of the time, the pair is left out. Classes are worse as above.",
    )
    rows = []
    fits = {each.name: calibrate(each.kernels, each.machine, each.name, shapes=False) for each in every}
    for checked in every:
        others = [each for each in every if each.name != checked.name and each.machine.family == checked.machine.family]
        told = [(each.name, fits[each.name]) for each in others]
        if len(others) > 2:
            merged = merged_kernels([each.kernels for each in others])
            told.append(("all others", calibrate(merged, others[0].machine, "all others", shapes=False)))
        for name, fit in told:
            predicted, covered = rows_predicted(checked.kernels, checked.machine, fit)
            model, calibrated, share = checked.errors(predicted, covered)
            if share < 0.001:
                continue
            classes = [checked.errors(predicted, checked.kind == kind) for kind in np.unique(checked.kind)]
            worse = sum(after - before > NOTICED for before, after, _ in classes)
            whole = checked.errors(predicted, np.ones_like(covered))
            rows.append(
                (name, checked.name, percent(share), percent(model), percent(calibrated), _change(model, calibrated),
                 percent(whole[0]), percent(whole[1]), _change(whole[0], whole[1]), f"{worse} of {len(classes)}")
            )  # fmt: skip
    header = ("fitted to", "checked on", "time spoken for", "model there", "calibrated there", "change", "model, all",
              "calibrated, all", "change", "classes worse")  # fmt: skip
    yield from table(header, rows)


def main() -> None:
    """Print the page, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--profile", nargs=3, action="append", default=[], metavar=("NAME", "CHIP", "FOLDER"))
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    text = (
        "\n".join(page(options.data, [(name, core, folder) for name, core, folder in options.profile])).rstrip() + "\n"
    )
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
