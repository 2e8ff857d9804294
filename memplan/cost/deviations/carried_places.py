"""How far kernels that were measured in several places follow what the model has their places cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.cost.deviations.fitting import surest_share
from memplan.cost.measured_kernels import calibration_choice
from memplan.cost.overlap import Array


def carried_places(kernels: Sequence[tuple[Array, Array]]) -> float:
    """
    The power (0 to 1) of what the model has places cost with which measurements tell others of the same kernel best.

    Each of `kernels` has its times (ns) and by which factor the model has it longer in each one's place than alone.
    Every measurement is told by the median of all others of its kernel; 0, the plain median, where more may be chance.
    """
    several = [(times, places) for times, places in kernels if len(times) > 1 and np.ptp(places) > 0]
    fewest, sureness = calibration_choice("fewest_for_means"), calibration_choice("carry_sureness")
    return surest_share(lambda power: _missed(several, power), int(fewest), sureness)


def _missed(kernels: Sequence[tuple[Array, Array]], power: float) -> Array:
    """Nanoseconds by which each kernel's measurements are off what its others tell of them."""
    return np.array(
        [
            float(np.abs(places**power * _medians_of_others(times / places**power) - times).sum())
            for times, places in kernels
        ]
    )


def _medians_of_others(values: Array) -> Array:
    """For each of two values or more the median of all others."""
    order = np.argsort(values, kind="stable")
    ranks = np.argsort(order, kind="stable")
    others = len(values) - 1
    middle = [np.where(index < ranks, index, index + 1) for index in ((others - 1) // 2, others // 2)]
    return np.asarray(sum(values[order][index] for index in middle) / 2)
