"""Fitting a calibration to a profile, and to parts of it that are checked on the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.cost.calibration import Calibration, TypeErrors, kernel_key
from memplan.cost.deviations import (
    Deviations,
    PlainTimes,
    Trait,
    carried_places,
    fitted_deviations,
    mean_place,
    trait_of,
)
from memplan.cost.kernel_time import plain_times
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.l2 import kernel_accesses, l2_states
from memplan.cost.machine import Machine
from memplan.cost.measured_kernels import MeasuredKernels
from memplan.cost.ordered_costs import costs_in_order
from memplan.cost.overlap import Array


def calibrate(
    kernels: MeasuredKernels, machine: Machine, profile: str, *, progress: Progress = silent, shapes: bool = True
) -> Calibration:
    """
    Fit `kernels` of profile `profile`, all of its rows.

    Its errors are those of a fit to the odd rows (1, 3, ... of all its kernels), on these and on the even ones. With
    `shapes` the error on shapes never seen is measured too, by fits to one half of the distinct kernels, every other
    one of its type, that are checked on the rest. Raises `InputError` for a profile without compute kernels.
    """
    if not len(kernels):
        raise InputError("the profile holds no compute kernels with shapes", remedy="profile with shapes recorded")
    rows = _Rows.of(kernels, machine, kernels.row % 2 == 1)
    progress(0, 2, "kernels seen")
    part = rows.calibration(machine, profile)
    predicted = rows.predicted(part)
    nothing_told = ~rows.spoken_for(part) & ~rows.fitted
    result = replace(
        replace(rows, fitted=np.ones(len(kernels), bool)).calibration(machine, profile),
        types=rows.type_errors(predicted),
        train_error=_error(predicted, rows.truth, rows.fitted) or 0.0,
        check_error=_error(predicted, rows.truth, ~rows.fitted),
        model_error=_error(rows.model, rows.truth, ~rows.fitted),
        uncovered=float(rows.truth[nothing_told].sum() / max(rows.truth[~rows.fitted].sum(), 1.0)),
    )
    if not shapes:
        return result
    progress(1, 2, "shapes never seen")
    every = np.ones(len(kernels), bool)
    unseen = rows.by_other_parts(machine, profile, np.array(rows.numbered()) % 2)
    return replace(
        result,
        unseen_error=_error(unseen, rows.truth, every),
        unseen_model_error=_error(rows.model, rows.truth, every),
    )


def unseen_draws(
    kernels: MeasuredKernels, machine: Machine, profile: str, draws: Iterable[NDArray[np.int64]]
) -> Iterator[Array]:
    """
    What fits to other shapes give each kernel, for each of several `draws`: each part of the distinct kernels is
    predicted by a fit to all others. A draw numbers the part that each kernel's shape is in.
    """
    rows = _Rows.of(kernels, machine, np.zeros(len(kernels), bool))
    for parts in draws:
        yield rows.by_other_parts(machine, profile, parts)


def rows_predicted(
    kernels: MeasuredKernels, machine: Machine, calibration: Calibration
) -> tuple[Array, NDArray[np.bool_]]:
    """What `calibration` gives each of `kernels` in their order (ns), and whether it speaks for it."""
    rows = _Rows.of(kernels, machine, np.zeros(len(kernels), bool))
    return rows.predicted(calibration), rows.spoken_for(calibration)


def plain_traits(
    kernels: Sequence[Kernel], machine: Machine, ordered_ns: Iterable[int]
) -> tuple[tuple[PlainTimes, ...], tuple[Trait, ...]]:
    """
    Plain times and traits of the `kernels` of a profile, with as much in L2 as those before seem to have left there;
    `ordered_ns` is what the model gives each in its place.
    """
    plain = tuple(plain_times(kernel, machine, time) for kernel, time in zip(kernels, ordered_ns, strict=True))
    states = l2_states(kernel_accesses(kernels), machine.l2)
    return plain, tuple(trait_of(*each) for each in zip(kernels, plain, states, strict=True))


@dataclass(frozen=True, slots=True)
class _Rows:
    """All rows: their kernels, shapes, plain times and traits, modelled and measured time, and which are fitted."""

    kernels: tuple[Kernel, ...]
    plain: tuple[PlainTimes, ...]
    keys: tuple[str, ...]
    traits: tuple[Trait, ...]
    model: Array
    truth: Array
    fitted: NDArray[np.bool_]

    @staticmethod
    def of(kernels: MeasuredKernels, machine: Machine, fitted: NDArray[np.bool_]) -> _Rows:
        """All rows of `kernels`, with as much in L2 as the kernels before seem to have left there."""
        ordered = costs_in_order(kernels.kernels, machine, pushing=False)
        plain, traits = plain_traits(kernels.kernels, machine, (cost.duration_ns for cost in ordered))
        return _Rows(
            kernels.kernels,
            plain,
            tuple(kernel_key(kernel) for kernel in kernels.kernels),
            traits,
            np.array([float(times.ordered_ns) for times in plain]),
            kernels.duration_ns,
            fitted,
        )

    def numbered(self) -> list[int]:
        """The number of each kernel's shape among those of its type, in order of first sight."""
        seen: dict[str, dict[str, int]] = {}
        found = []
        for kernel, key in zip(self.kernels, self.keys, strict=True):
            own = seen.setdefault(kernel.type, {})
            found.append(own.setdefault(key, len(own)))
        return found

    def by_other_parts(self, machine: Machine, profile: str, parts: NDArray[np.int64]) -> Array:
        """What each row gets by a fit to all rows of other `parts` than its own."""
        predicted = np.zeros(len(self.truth))
        for part in np.unique(parts):
            asked = parts == part
            others = replace(self, fitted=~asked)
            predicted[asked] = others.predicted(others.calibration(machine, profile), asked)[asked]
        return predicted

    def predicted(self, calibration: Calibration, asked: NDArray[np.bool_] | None = None) -> Array:
        """The corrected time of every row, of those not `asked` for the model's."""
        found = self.model.copy()
        rows = np.flatnonzero(np.ones(len(found), bool) if asked is None else asked).tolist()
        known = dict.fromkeys(self.traits[row] for row in rows if self.plain[row].known)
        told = [trait for trait in known if calibration.deviations.covers(trait)]
        times = dict(zip(told, calibration.deviations.times_ns(told).tolist(), strict=True)) if told else {}
        for row in rows:
            if self.plain[row].known:
                found[row] = times.get(self.traits[row], found[row])
            seen = calibration.seen_time_ns(self.keys[row], self.plain[row], self.traits[row].hot)
            found[row] = found[row] if seen is None else seen
        return np.maximum(np.round(found), 1.0)

    def spoken_for(self, calibration: Calibration) -> NDArray[np.bool_]:
        """Whether each row's kernel was seen or is like such."""
        return np.array(
            [
                key in calibration.seen_ns or calibration.deviations.covers(trait)
                for key, trait in zip(self.keys, self.traits, strict=True)
            ]
        )

    def calibration(self, machine: Machine, profile: str) -> Calibration:
        """What the rows that are to be fitted say, errors left out."""
        rows: dict[str, list[int]] = {}
        for index in np.flatnonzero(self.fitted).tolist():
            if self.plain[index].known:
                rows.setdefault(self.keys[index], []).append(index)
        places = np.array([plain.place for plain in self.plain])
        carried = carried_places([(self.truth[own], places[own]) for own in rows.values()])
        alone = {key: float(np.median(self.truth[own] / places[own] ** carried)) for key, own in rows.items()}
        return Calibration(
            profile=profile,
            chip=machine.name,
            cubes=machine.cubes,
            clock_hz=machine.clock_hz,
            types=(),
            deviations=self._deviations(list(rows.values())),
            train_error=0.0,
            check_error=None,
            model_error=None,
            seen_ns={key: float(np.median(self.truth[own])) for key, own in rows.items()},
            seen_alone_ns=alone if carried else {},
            carried=carried,
        )

    def _deviations(self, shapes: Sequence[Sequence[int]]) -> Deviations:
        """Deviations of distinct kernels, each given by its rows, with its places on average."""
        traits = [mean_place([self.traits[row] for row in own]) for own in shapes]
        return fitted_deviations(traits, [self.truth[own] for own in shapes])

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
