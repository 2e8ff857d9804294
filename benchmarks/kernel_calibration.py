"""
What a calibration of kernels is worth on shapes it never saw and on other profiles; the page it prints is
`kernel_calibration.md`.

    python -m benchmarks.kernel_calibration [--data ../shared/data] [-o benchmarks/kernel_calibration.md]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.aicore import measured_profiles
from benchmarks.markdown import percent, table
from memplan.cost import Machine
from memplan.cost.calibration import kernel_key
from memplan.cost.calibration_fit import calibrate, rows_predicted, unseen_times
from memplan.cost.kernel import op_class
from memplan.cost.l2 import costs_in_order
from memplan.cost.measured_kernels import MeasuredKernels, calibration_choice, merged_kernels
from memplan.cost.overlap import Array

HERE = Path(__file__).parent
DRAWS, TENTHS, FEWEST_SHAPES = 20, 4, 30
"""Random halves and tenths of a profile, and the distinct kernels from which on a profile is divided."""
PARTS = (2, 3, 5, 10, 20)
"""Parts that a profile is divided in, each predicted by a fit to all others."""
NOTICED = 0.0025
"""Share of a class's time from which on it counts as worse."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Profiled:
    """The kernels of a profile, a number for each one's shape, its type with its data type, class and bound."""

    name: str
    machine: Machine
    kernels: MeasuredKernels
    shape: NDArray[np.int64]
    type: NDArray[np.str_]
    kind: NDArray[np.str_]
    bound: NDArray[np.str_]
    model: Array

    @property
    def time(self) -> Array:
        """Nanoseconds measured."""
        return self.kernels.duration_ns

    def known_by(self, fitted: Mask) -> Mask:
        """Whether enough distinct kernels of each row's type are among those fitted."""
        pairs = set(zip(self.type[fitted].tolist(), self.shape[fitted].tolist(), strict=True))
        counts = Counter(name for name, _ in pairs)
        least = calibration_choice("fewest_of_type")
        return np.array([counts[name] >= least for name in self.type.tolist()])


def profiled(name: str, machine: Machine, kernels: MeasuredKernels) -> Profiled:
    """`kernels` of the profile `name` with what they are told apart by."""
    _, shape = np.unique([kernel_key(kernel) for kernel in kernels.kernels], return_inverse=True)
    costs = costs_in_order(kernels.kernels, machine)
    return Profiled(
        name,
        machine,
        kernels,
        shape.astype(np.int64),
        np.array(
            [" ".join((kernel.type, *(each.dtype for each in kernel.operands[:1]))) for kernel in kernels.kernels]
        ),
        np.array([op_class(kernel.type).kind for kernel in kernels.kernels]),
        np.array([str(cost.bound) for cost in costs]),
        np.array([float(cost.duration_ns) for cost in costs]),
    )


def page(data: Path) -> Iterator[str]:
    """The lines of the page."""
    every = [profiled(*each) for each in measured_profiles(data)]
    large = [each for each in every if each.shape.max() + 1 >= FEWEST_SHAPES]
    yield "# Calibrations of kernels"
    yield ""
    yield (
        "Made by `python -m benchmarks.kernel_calibration -o benchmarks/kernel_calibration.md`. Errors are sums of "
        "absolute deviations over sums of measured time. A class is a kind of `kernels.json`. The model is the "
        "uncalibrated one with kernels in their order. Known are types, each with its data type, of which the fit has "
        f"{calibration_choice('fewest_of_type'):.0f} distinct kernels or more. Fit and check never share a shape, or "
        "never a profile. Constants of the method are ranges and thresholds (`memplan/cost/calibration.json`): "
        "traits, ranges and thresholds were chosen with these profiles in view, so that the method knows them, though "
        "no fit knows the shapes it is checked on."
    )
    yield ""
    yield from floors(large)
    yield from spread(large)
    yield from halves(large)
    yield from growth(large)
    yield from between(every)


def floors(every: Sequence[Profiled]) -> Iterator[str]:
    """What any calibration leaves at least, and what factors fitted to the very kernels leave."""
    yield "## What there is to be had"
    yield ""
    yield (
        "Left of the model's error by the best factor for each class, type, type and bound, and shape, each found on "
        "the very kernels that it is checked on; over all kernels, then over those of types with three shapes or more. "
        "The last one is what repetitions of a kernel differ by: the floor."
    )
    yield ""
    rows = []
    for each in every:
        for name, own in (("all", np.ones(len(each.kernels), bool)), ("known types", each.known_by(each.time > 0))):
            error = np.abs(each.model - each.time)[own].sum()
            groups = (each.kind, each.type, np.char.add(np.char.add(each.type, " "), each.bound), each.shape)
            left = (_left_by_factors(each, own, group) / error for group in groups)
            rows.append((each.name, name, percent(error / each.time[own].sum()), *(f"{share:.0%}" for share in left)))
    yield from table(("profile", "kernels", "model", "class", "type", "type and bound", "shape"), rows)


def _left_by_factors(each: Profiled, own: Mask, group: NDArray[np.generic]) -> float:
    left = 0.0
    for name in np.unique(group[own]):
        rows = own & (group == name)
        factors = each.time[rows] / each.model[rows]
        order = np.argsort(factors)
        passed = np.cumsum(each.model[rows][order])
        best = factors[order][np.searchsorted(passed, passed[-1] / 2)]
        left += float(np.abs(best * each.model[rows] - each.time[rows]).sum())
    return left


def spread(every: Sequence[Profiled]) -> Iterator[str]:
    """What tells how shapes deviate: the variance that groups explain, by as many kernels as they have."""
    yield "## What deviations go with"
    yield ""
    yield (
        "The share of the variance of logarithms of measured over modelled time, shapes weighted by the root of their "
        "time, that groups of shapes explain beyond what as many groups drawn at random would (adjusted R squared); "
        "and the variance that repetitions of a shape have."
    )
    yield ""
    rows = []
    for each in every:
        first = np.unique(each.shape, return_index=True)[1]
        times = [each.time[each.shape == number] for number in range(len(first))]
        off = np.log(np.array([np.median(own) for own in times]) / each.model[first])
        weights = np.sqrt([own.sum() for own in times])
        size = np.round(np.log2(each.model[first]) / 2)
        kernels = [each.kernels.kernels[row] for row in first]
        formats = [tuple((op.dtype, op.layout) for op in kernel.present[:2]) for kernel in kernels]
        types = each.type[first].tolist()
        bounds = each.bound[first].tolist()
        groups: Mapping[str, Sequence[Hashable]] = {
            "class": each.kind[first].tolist(),
            "type": types,
            "type and bound": list(zip(types, bounds, strict=True)),
            "type and size": list(zip(types, size.tolist(), strict=True)),
            "type, data types and layouts": list(zip(types, formats, strict=True)),
        }
        told = [_explained(off, weights, group) for group in groups.values()]
        noise = sum(float(np.var(np.log(own))) * weight for own, weight in zip(times, weights, strict=True))
        whole = float(np.average((off - np.average(off, weights=weights)) ** 2, weights=weights))
        rows.append(
            (each.name, str(len(first)), f"{whole:.3f}", *map(_share, told), percent(noise / weights.sum() / whole))
        )
    header = ("profile", "shapes", "variance", *groups, "repetitions")
    yield from table(header, rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _explained(off: Array, weights: Array, group: Sequence[Hashable]) -> float | None:
    """Adjusted R squared; `None` where there are as many groups as shapes, or next to it."""
    names = list(dict.fromkeys(group))
    free = len(off) - len(names)
    if free < len(off) / 4:
        return None
    number = np.array([names.index(name) for name in group])
    left = 0.0
    for index in range(len(names)):
        own = number == index
        left += float((weights[own] * (off[own] - np.average(off[own], weights=weights[own])) ** 2).sum())
    whole = float((weights * (off - np.average(off, weights=weights)) ** 2).sum())
    return 1 - left / free / (whole / (len(off) - 1))


def halves(every: Sequence[Profiled]) -> Iterator[str]:
    """Each half of the distinct kernels predicted by a fit to the other, halves drawn at random."""
    yield "## By halves of the shapes"
    yield ""
    yield (
        f"Halves of the distinct kernels drawn at random, {DRAWS} times, each predicted by a fit to the other: means, "
        "and the worst of the draws. Classes are counted as worse where a fit made their error larger than the "
        f"model's by more than {NOTICED:.2%} of their time in one draw."
    )
    yield ""
    rows, classes = [], []
    for each in every:
        drawn = [_drawn(each, seed) for seed in range(DRAWS)]
        cells: list[str] = []
        for pick in (_all, _known):
            errors = np.array([_errors(each, draw.predicted, pick(draw)) for draw in drawn])
            model, fit = errors.mean(axis=0)[:2]
            cells += [percent(model), percent(fit), f"{fit / model - 1:+.0%}", f"{_worst(errors) - 1:+.0%}"]
        known = float(np.mean([each.time[draw.known].sum() for draw in drawn]) / each.time.sum())
        by_class = {
            str(kind): [_errors(each, draw.predicted, each.kind == kind) for draw in drawn]
            for kind in np.unique(each.kind)
        }
        worse = sum(fit - model > NOTICED for found in by_class.values() for model, fit, _ in found)
        rows.append((each.name, *cells, f"{known:.0%}", f"{worse} of {DRAWS * len(by_class)}"))
        for kind, found in by_class.items():
            model, fit, share = np.mean(found, axis=0)
            change = "-" if fit == model else f"{fit / model - 1:+.0%}"
            ends = np.array(found)
            worst = "-" if fit == model else f"{max((ends[:, 1] - ends[:, 0]).max(), 0.0):+.1%}"
            classes.append((each.name, kind, percent(share), percent(model), percent(fit), change, worst))
    header = (
        "profile", "model, all", "calibrated", "change", "worst draw", "model, known types", "calibrated", "change",
        "worst draw", "time of known types", "classes worse",
    )  # fmt: skip
    yield from table(header, rows)
    yield f"The same by parts of a tenth, each predicted by a fit to the other nine, {TENTHS} times."
    yield ""
    rows = []
    for each in every:
        drawn = [_drawn(each, seed, 10) for seed in range(TENTHS)]
        cells = []
        for pick in (_all, _known):
            model, fit, share = np.mean([_errors(each, draw.predicted, pick(draw)) for draw in drawn], axis=0)
            cells += [percent(model), percent(fit), f"{fit / model - 1:+.0%}", f"{share:.0%}"]
        rows.append((each.name, *cells[:3], *cells[4:]))
    yield from table(
        ("profile", "model, all", "calibrated", "change", "model, known types", "calibrated", "change",
         "time of known types"), rows
    )  # fmt: skip
    yield "Halves again, each class, known types and others; the worst draw in points of the class's own time."
    yield ""
    yield from table(
        ("profile", "class", "time of profile", "model", "calibrated", "change", "worst draw, points"), classes
    )


@dataclass(frozen=True, slots=True)
class Draw:
    """What fits to the other halves give each row, and of which rows the type was known."""

    predicted: Array
    known: Mask


def _drawn(each: Profiled, seed: int, count: int = 2) -> Draw:
    part = (np.random.default_rng(seed).permutation(each.shape.max() + 1) % count)[each.shape]
    predicted, _ = unseen_times(each.kernels, each.machine, each.name, parts=part)
    known = np.zeros(len(part), bool)
    for number in range(count):
        known[part == number] = each.known_by(part != number)[part == number]
    return Draw(predicted, known)


def _all(draw: Draw) -> Mask:
    return np.ones(len(draw.known), bool)


def _known(draw: Draw) -> Mask:
    return draw.known


def _errors(each: Profiled, predicted: Array, own: Mask) -> tuple[float, float, float]:
    """The model's error on the rows `own`, that of what is `predicted`, and the rows' share of all time."""
    time = float(each.time[own].sum())
    model, fit = (float(np.abs(times - each.time)[own].sum()) for times in (each.model, predicted))
    return model / time, fit / time, time / float(each.time.sum())


def _worst(errors: Array) -> float:
    return float((errors[:, 1] / errors[:, 0]).max())


def growth(every: Sequence[Profiled]) -> Iterator[str]:
    """How the error falls with the share of shapes that a fit has seen, on the same kernels throughout."""
    yield "## By the share of shapes seen"
    yield ""
    yield (
        "Left of the model's error by fits to so much of the distinct kernels, checked on the rest, "
        f"{TENTHS} times, on "
        "kernels whose type is known in each of all these draws; and by the median of each of their shapes, the floor."
    )
    yield ""
    rows = []
    for each in every:
        drawn = [[_drawn(each, seed, count) for seed in range(TENTHS)] for count in PARTS]
        own = np.logical_and.reduce([draw.known for draws in drawn for draw in draws])
        model, _, share = _errors(each, each.model, own)
        left = [np.mean([_errors(each, draw.predicted, own)[1] for draw in draws]) / model for draws in drawn]
        left.append(_left_by_factors(each, own, each.shape) / (model * each.time[own].sum()))
        rows.append((each.name, percent(share), percent(model), *(f"{part:.0%}" for part in left)))
    seen = (f"{1 - 1 / count:.0%} seen" for count in PARTS)
    yield from table(("profile", "time of profile", "model", *seen, "all seen"), rows)


def between(every: Sequence[Profiled]) -> Iterator[str]:
    """Fits to one profile, and to all others, checked on another one."""
    yield "## By other profiles"
    yield ""
    yield (
        "Fitted to the odd rows of one profile, or of all others together, and checked on all rows of another. "
        "Kernels spoken for are those that were measured there and those of types known and sizes near what is "
        "known; where there are none, the pair is left out."
    )
    yield ""
    rows = []
    fits = [(each.name, each.name, each.kernels, each.machine) for each in every]
    for checked in every:
        others = [each for each in every if each.name != checked.name]
        merged = merged_kernels([each.kernels for each in others])
        for name, of, kernels, machine in [*fits, ("all others", "", merged, others[0].machine)]:
            if of == checked.name:
                continue
            fit = calibrate(kernels, machine, name, shapes=False)
            predicted, covered = rows_predicted(checked.kernels, checked.machine, fit)
            if not covered.any():
                continue
            told = _errors(checked, predicted, covered)
            whole = _errors(checked, predicted, np.ones_like(covered))
            rows.append(
                (name, checked.name, percent(told[2]), percent(told[0]), percent(told[1]),
                 f"{told[1] / told[0] - 1:+.0%}", percent(whole[0]), percent(whole[1]))
            )  # fmt: skip
    header = ("fitted to", "checked on", "time spoken for", "model there", "calibrated there", "change", "model, all",
              "calibrated, all")  # fmt: skip
    yield from table(header, rows)


def main() -> None:
    """Print the page, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    text = "\n".join(page(options.data)).rstrip() + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
