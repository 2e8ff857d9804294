"""Fitting a calibration to a profile, with the rows it is checked on kept apart from those it is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.cost.calibration import FEATURES, Calibration, Correction, correction_terms, kernel_key
from memplan.cost.kernel import Kernel, op_class
from memplan.cost.kernel_time import KernelCost, kernel_cost
from memplan.cost.machine import Machine
from memplan.cost.measured_kernels import MeasuredKernels, calibration_choice
from memplan.cost.overlap import Array


def calibrate(
    kernels: MeasuredKernels, machine: Machine, profile: str, *, progress: Progress = silent, shapes: bool = True
) -> Calibration:
    """
    Fit `kernels` of profile `profile`: its odd rows (1, 3, ... of all its kernels) are fitted, even ones only checked.

    With `shapes` the error on shapes never seen is measured too, by fits to one half of the distinct kernels that are
    checked on the other. Raises `InputError` for a profile without compute kernels.
    """
    if not len(kernels):
        raise InputError("the profile holds no compute kernels with shapes", remedy="profile with shapes recorded")
    rows = _Rows.of(kernels, machine, kernels.row % 2 == 1)
    result = _fitted(rows, machine, profile, progress)
    predicted = rows.predicted(result, machine)
    error = _error(predicted, rows.truth, ~rows.fitted)
    model = rows.terms[:, 1]
    covered = np.array([rows.spoken_for(result, index) for index in range(len(kernels))])
    result = replace(
        result,
        train_error=_error(predicted, rows.truth, rows.fitted) or 0.0,
        check_error=error,
        model_error=_error(model, rows.truth, ~rows.fitted),
        uncovered=float(rows.truth[~covered].sum() / rows.truth.sum()),
    )
    if not shapes:
        return result
    unseen, plain = unseen_errors(kernels, machine, profile)
    return replace(result, unseen_error=unseen, unseen_model_error=plain)


def unseen_errors(
    kernels: MeasuredKernels, machine: Machine, profile: str, *, halves: NDArray[np.bool_] | None = None
) -> tuple[float | None, float | None]:
    """
    The error on kernels whose shapes a fit has not seen, and the model's on the same: each half of the distinct kernels
    is checked by a fit to the other. `halves` says which half a kernel's shape is in; by default every other one.
    """
    numbers = np.array(_numbered(kernels.kernels))
    first = numbers % 2 == 0 if halves is None else halves
    predicted = np.zeros(len(kernels))
    for fitted in (first, ~first):
        rows = _Rows.of(kernels, machine, fitted)
        if fitted.any():
            predicted[~fitted] = rows.predicted(_fitted(rows, machine, profile, silent), machine)[~fitted]
        else:
            predicted[~fitted] = rows.terms[~fitted, 1]
    every = np.ones(len(kernels), bool)
    model = _Rows.of(kernels, machine, every).terms[:, 1]
    return _error(predicted, kernels.duration_ns, every), _error(model, kernels.duration_ns, every)


def _numbered(kernels: Sequence[Kernel]) -> list[int]:
    """The number of each kernel's shape among those of its type, in order of first sight."""
    seen: dict[str, dict[str, int]] = {}
    found = []
    for kernel in kernels:
        own = seen.setdefault(kernel.type, {})
        found.append(own.setdefault(kernel_key(kernel), len(own)))
    return found


@dataclass(frozen=True, slots=True)
class _Rows:
    """All rows: their kernels and costs, terms of the correction, measured time, shape, and which rows are fitted."""

    kernels: tuple[Kernel, ...]
    costs: tuple[KernelCost, ...]
    keys: tuple[str, ...]
    terms: Array
    truth: Array
    fitted: NDArray[np.bool_]

    @staticmethod
    def of(kernels: MeasuredKernels, machine: Machine, fitted: NDArray[np.bool_]) -> _Rows:
        costs = tuple(kernel_cost(kernel, machine) for kernel in kernels.kernels)
        rate = machine.hbm_bytes_per_second
        terms = [correction_terms(k, c, rate) for k, c in zip(kernels.kernels, costs, strict=True)]
        keys = tuple(kernel_key(kernel) for kernel in kernels.kernels)
        return _Rows(kernels.kernels, costs, keys, np.array(terms), kernels.duration_ns, fitted)

    def predicted(self, calibration: Calibration, machine: Machine) -> Array:
        """The corrected time of every row."""
        rate = machine.hbm_bytes_per_second
        pairs = zip(self.kernels, self.costs, strict=True)
        return np.array([float(calibration.corrected_ns(kernel, cost, rate)) for kernel, cost in pairs])

    def spoken_for(self, calibration: Calibration, row: int) -> bool:
        """Whether a row's kernel was seen or has a fit."""
        known = self.keys[row] in calibration.seen_ns
        return known or calibration.fit(self.kernels[row].type, self.costs[row].duration_ns) is not None


def _fitted(rows: _Rows, machine: Machine, profile: str, progress: Progress) -> Calibration:
    """The fits to the rows that are to be fitted, errors left out."""
    types: dict[str, list[int]] = {}
    classes: dict[str, list[int]] = {}
    times: dict[str, list[float]] = {}
    for index, (kernel, cost) in enumerate(zip(rows.kernels, rows.costs, strict=True)):
        if cost.known:
            types.setdefault(kernel.type, []).append(index)
            classes.setdefault(op_class(kernel.type).rule, []).append(index)
            if rows.fitted[index]:
                times.setdefault(rows.keys[index], []).append(float(rows.truth[index]))
    fits: dict[str, list[Correction]] = {"types": [], "classes": []}
    # What a type's fit is for are its other shapes, what that of a class is for are its other types.
    parts = {"types": rows.keys, "classes": [kernel.type for kernel in rows.kernels]}
    for kind, groups in (("types", types), ("classes", classes)):
        for number, (name, members) in enumerate(sorted(groups.items())):
            progress(number, len(groups), name)
            fit = _fit(name, np.array(members), rows, parts[kind])
            if fit is not None:
                fits[kind].append(fit)
    return Calibration(
        profile=profile,
        chip=machine.name,
        cubes=machine.cubes,
        clock_hz=machine.clock_hz,
        types=tuple(fits["types"]),
        classes=tuple(fits["classes"]),
        train_error=0.0,
        check_error=None,
        model_error=None,
        seen_ns={key: float(np.median(values)) for key, values in times.items()},
    )


def _error(predicted: Array, truth: Array, rows: NDArray[np.bool_]) -> float | None:
    """Sum of absolute deviations over the sum of times; `None` for no rows."""
    total = float(truth[rows].sum())
    return float(np.abs(predicted - truth)[rows].sum()) / total if total else None


def _fit(name: str, members: NDArray[np.int64], rows: _Rows, parts: Sequence[str]) -> Correction | None:
    """The fit of one class on its fitted rows; `None` where `parts` it has not seen would be none the better for it."""
    train, check = members[rows.fitted[members]], members[~rows.fitted[members]]
    if len(train) < calibration_choice("fewest_rows"):
        return None
    chosen = _carried_over([parts[index] for index in train], rows.terms[train], rows.truth[train])
    if chosen is None:
        return None
    model = rows.terms[:, 1]
    values: Array = np.maximum(rows.terms @ np.asarray(chosen), 1.0)
    mine, apart = np.zeros(len(model), bool), np.zeros(len(model), bool)
    mine[train], apart[check] = True, True
    return Correction(
        name=name,
        coefficients=chosen,
        span_ns=(float(model[train].min()), float(model[train].max())),
        train_rows=len(train),
        check_rows=len(check),
        train_error=_error(values, rows.truth, mine) or 0.0,
        check_error=_error(values, rows.truth, apart),
        model_error=_error(model, rows.truth, apart),
        shapes=len({rows.keys[index] for index in train}),
    )


def _carried_over(keys: Sequence[str], terms: Array, truth: Array) -> tuple[float, ...] | None:
    """
    The coefficients that carry over to kernels of other `keys`, `None` where none do.

    Keys are dealt into folds; each is predicted by a fit to the others. A scale has to beat the model by `carry_gain`,
    in all and on most keys, more terms the scale; what is chosen is drawn towards the model as if `shrinkage` more keys
    had gone as it says.
    """
    shapes = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(shapes) < calibration_choice("fewest_shapes"):
        return None
    own = np.array([shapes[key] for key in keys])
    folds = own % min(int(calibration_choice("folds")), len(shapes))
    alone = _plain(1.0)
    least, chosen = _deviation(terms, truth, alone), None
    for method in (_scale, _least_deviations):
        predicted = np.zeros(len(truth))
        for fold in range(int(folds.max()) + 1):
            inside = folds == fold
            fitted = _drawn(method(terms[~inside], truth[~inside]), len(set(own[~inside].tolist())))
            predicted[inside] = terms[inside] @ np.asarray(fitted)
        off, before = np.abs(predicted - truth), np.abs(terms[:, 1] - truth)
        better = np.bincount(own, before - off) > 0
        if off.sum() < calibration_choice("carry_gain") * least and better.mean() >= calibration_choice("carry_share"):
            least, chosen = float(off.sum()), _drawn(method(terms, truth), len(shapes))
    return chosen


def _plain(scale: float) -> tuple[float, ...]:
    return tuple(scale if name == "model" else 0.0 for name in FEATURES)


def _scale(terms: Array, truth: Array) -> tuple[float, ...]:
    """The scale of the model's time with the least sum of absolute deviations: a weighted median."""
    model = terms[:, 1]
    order = np.argsort(truth / model)
    weight = np.cumsum(model[order])
    return _plain(float((truth / model)[order][np.searchsorted(weight, weight[-1] / 2)]))


def _drawn(coefficients: tuple[float, ...], shapes: int) -> tuple[float, ...]:
    """`coefficients` fitted to so many shapes, drawn towards the model."""
    share = shapes / (shapes + calibration_choice("shrinkage"))
    return tuple(share * own + (1 - share) * plain for own, plain in zip(coefficients, _plain(1.0), strict=True))


def _deviation(terms: Array, truth: Array, coefficients: tuple[float, ...]) -> float:
    return float(np.abs(terms @ np.asarray(coefficients) - truth).sum())


def _least_deviations(terms: Array, truth: Array) -> tuple[float, ...]:
    """
    Coefficients that are never negative with the least sum of absolute deviations.

    Every subset of the terms is solved by iteratively reweighted least squares; of those without a negative
    coefficient the best is taken. A model time alone is always among them.
    """
    best = tuple(np.median(truth / terms[:, 1]) if name == "model" else 0.0 for name in FEATURES)
    least = float(np.abs(terms @ np.asarray(best) - truth).sum())
    for size in range(1, len(FEATURES) + 1):
        for subset in combinations(range(len(FEATURES)), size):
            columns = terms[:, subset]
            weights = np.ones(len(truth))
            solution = np.zeros(size)
            for _ in range(int(calibration_choice("rounds"))):
                root = np.sqrt(weights)[:, None]
                solution = np.linalg.lstsq(columns * root, truth * root[:, 0], rcond=None)[0]
                rest = np.abs(columns @ solution - truth)
                weights = 1 / np.maximum(rest, 1e-3 * truth)
            deviation = float(np.abs(columns @ solution - truth).sum())
            # More terms have to earn their place, or rows never seen pay for it.
            if (solution >= 0).all() and deviation < calibration_choice("least_gain") * least:
                least = deviation
                full = np.zeros(len(FEATURES))
                full[list(subset)] = solution
                best = tuple(full)
    return tuple(float(value) for value in best)
