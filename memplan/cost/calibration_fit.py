"""Fitting a calibration to a profile, with the rows it is checked on kept apart from those it is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.cost.calibration import Calibration, TypeErrors, kernel_key
from memplan.cost.kernel import Kernel
from memplan.cost.kernel_deviations import Trait, fitted_deviations, trait_of
from memplan.cost.kernel_time import KernelCost, kernel_cost
from memplan.cost.machine import Machine
from memplan.cost.measured_kernels import MeasuredKernels
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
    progress(0, 2, "kernels seen")
    result = rows.calibration(machine, profile)
    predicted = rows.predicted(result)
    covered = np.array([rows.spoken_for(result, index) for index in range(len(kernels))])
    result = replace(
        result,
        types=rows.type_errors(predicted),
        train_error=_error(predicted, rows.truth, rows.fitted) or 0.0,
        check_error=_error(predicted, rows.truth, ~rows.fitted),
        model_error=_error(rows.model, rows.truth, ~rows.fitted),
        uncovered=float(rows.truth[~covered].sum() / rows.truth.sum()),
    )
    if not shapes:
        return result
    progress(1, 2, "shapes never seen")
    unseen, plain = unseen_errors(kernels, machine, profile)
    return replace(result, unseen_error=unseen, unseen_model_error=plain)


def unseen_errors(kernels: MeasuredKernels, machine: Machine, profile: str) -> tuple[float | None, float | None]:
    """The error on kernels whose shapes a fit has not seen (`unseen_times`), and the model's on the same."""
    predicted, model = unseen_times(kernels, machine, profile)
    every = np.ones(len(kernels), bool)
    return _error(predicted, kernels.duration_ns, every), _error(model, kernels.duration_ns, every)


def unseen_times(
    kernels: MeasuredKernels, machine: Machine, profile: str, *, halves: NDArray[np.bool_] | None = None
) -> tuple[Array, Array]:
    """
    What fits to other shapes give each kernel, and the model: each half of the distinct kernels is predicted by a fit
    to the other. `halves` says which half a kernel's shape is in; by default every other one of its type.
    """
    first = np.array(_numbered(kernels.kernels)) % 2 == 0 if halves is None else halves
    predicted = np.zeros(len(kernels))
    for fitted in (first, ~first):
        rows = _Rows.of(kernels, machine, fitted)
        predicted[~fitted] = rows.predicted(rows.calibration(machine, profile))[~fitted]
    return predicted, _Rows.of(kernels, machine, first).model


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
    """All rows: their kernels, shapes and costs, modelled and measured time, and which rows are fitted."""

    kernels: tuple[Kernel, ...]
    costs: tuple[KernelCost, ...]
    keys: tuple[str, ...]
    model: Array
    truth: Array
    fitted: NDArray[np.bool_]

    @staticmethod
    def of(kernels: MeasuredKernels, machine: Machine, fitted: NDArray[np.bool_]) -> _Rows:
        costs = tuple(kernel_cost(kernel, machine) for kernel in kernels.kernels)
        keys = tuple(kernel_key(kernel) for kernel in kernels.kernels)
        model = np.array([float(cost.duration_ns) for cost in costs])
        return _Rows(kernels.kernels, costs, keys, model, kernels.duration_ns, fitted)

    def predicted(self, calibration: Calibration) -> Array:
        """The corrected time of every row."""
        pairs = zip(self.kernels, self.costs, strict=True)
        return np.array([float(calibration.corrected_ns(kernel, cost)) for kernel, cost in pairs])

    def spoken_for(self, calibration: Calibration, row: int) -> bool:
        """Whether a row's kernel was seen or is like such."""
        known = self.keys[row] in calibration.seen_ns
        return known or calibration.deviations.covers(trait_of(self.kernels[row], self.costs[row]))

    def calibration(self, machine: Machine, profile: str) -> Calibration:
        """What the rows that are to be fitted say, errors left out."""
        times: dict[str, list[float]] = {}
        traits: dict[str, Trait] = {}
        for index in np.flatnonzero(self.fitted).tolist():
            if self.costs[index].known:
                times.setdefault(self.keys[index], []).append(float(self.truth[index]))
                traits.setdefault(self.keys[index], trait_of(self.kernels[index], self.costs[index]))
        return Calibration(
            profile=profile,
            chip=machine.name,
            cubes=machine.cubes,
            clock_hz=machine.clock_hz,
            types=(),
            deviations=fitted_deviations(list(traits.values()), [np.array(own) for own in times.values()]),
            train_error=0.0,
            check_error=None,
            model_error=None,
            seen_ns={key: float(np.median(values)) for key, values in times.items()},
        )

    def type_errors(self, predicted: Array) -> tuple[TypeErrors, ...]:
        """How each type came out."""
        found = []
        names = np.array([kernel.type for kernel in self.kernels])
        for name in np.unique(names).tolist():
            own = names == name
            check = own & ~self.fitted
            found.append(
                TypeErrors(
                    name=name,
                    rows=int(own.sum()),
                    shapes=len({self.keys[index] for index in np.flatnonzero(own).tolist()}),
                    ratio=float(self.truth[own].sum() / self.model[own].sum()),
                    check_error=_error(predicted, self.truth, check),
                    model_error=_error(self.model, self.truth, check),
                )
            )
        return tuple(found)


def _error(predicted: Array, truth: Array, rows: NDArray[np.bool_]) -> float | None:
    """Sum of absolute deviations over the sum of times; `None` for no rows."""
    total = float(truth[rows].sum())
    return float(np.abs(predicted - truth)[rows].sum()) / total if total else None
