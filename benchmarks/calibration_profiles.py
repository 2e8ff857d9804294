"""Public profiles that calibrations are tried on, with what tells their kernels apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.aicore import kernels_of, measured_profiles
from benchmarks.first_generation import LENET, OLDER, RESNET, RESNET_BACK, ROWS, costed_rows
from memplan.cost import Machine, machine
from memplan.cost.calibration import kernel_key
from memplan.cost.calibration_fit import plain_traits
from memplan.cost.deviations import Trait
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.measured_kernels import MeasuredKernels, calibration_choice, measured_kernels, observe
from memplan.cost.ordered_costs import costs_in_order
from memplan.cost.overlap import Array
from memplan.hardware import chip

Mask = NDArray[np.bool_]
_ALEXNET = "profiles/alexnet-ddp-2rank/text/level2/rank1_ascend_pt"
_FIRST_GENERATION = (
    ("910, AlexNet 2023", ROWS), ("910, AlexNet 2020", OLDER), ("910, LeNet", LENET),
    ("910, ResNet-50, stage 1", RESNET), ("910, ResNet-50, stage 2 back", RESNET_BACK),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profiled:
    """The kernels of a profile, a number for each one's shape, its type with its data type, class, bound and trait."""

    name: str
    machine: Machine
    kernels: MeasuredKernels
    shape: NDArray[np.int64]
    type: NDArray[np.str_]
    kind: NDArray[np.str_]
    bound: NDArray[np.str_]
    model: Array
    traits: tuple[Trait, ...]

    @property
    def time(self) -> Array:
        """Nanoseconds measured."""
        return self.kernels.duration_ns

    @property
    def shapes(self) -> int:
        """Distinct kernels."""
        return int(self.shape.max()) + 1

    def parts(self, seed: int, count: int = 2) -> NDArray[np.int64]:
        """The part of each row where the distinct kernels are drawn into `count` parts."""
        return (np.random.default_rng(seed).permutation(self.shapes) % count)[self.shape]

    def known_by(self, fitted: Mask, least: int | None = None) -> Mask:
        """Whether the `least` distinct kernels of each row's type are among those fitted, or as many as judge one."""
        pairs = set(zip(self.type[fitted].tolist(), self.shape[fitted].tolist(), strict=True))
        counts = Counter(name for name, _ in pairs)
        needed = calibration_choice("fewest_for_evidence") if least is None else least
        return np.array([counts[name] >= needed for name in self.type.tolist()])

    def errors(self, predicted: Array, own: Mask) -> tuple[float, float, float]:
        """The model's error on the rows `own`, that of what is `predicted`, and the rows' share of all time."""
        time = float(self.time[own].sum())
        if not time:
            return 0.0, 0.0, 0.0
        model, fit = (float(np.abs(times - self.time)[own].sum()) for times in (self.model, predicted))
        return model / time, fit / time, time / float(self.time.sum())


def public_profiles(data: Path, more: Sequence[tuple[str, str, str]]) -> list[Profiled]:
    """Those of the shared data and of the repository, and `more`: name, chip and folder of each."""
    found = [_profiled(*each) for each in measured_profiles(data)]
    given = (("alexnet-ddp-2rank, level 2, rank 1", "910B2", str(data / _ALEXNET)), *more)
    return found + [_profiled(*each) for each in (*_first_generation(data), *_folders(given))]


def _folders(given: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, Machine, MeasuredKernels]]:
    for name, chip_name, folder in given:
        columns = kernels_of(Path(folder), None)
        if columns is not None:
            yield name, machine(chip(chip_name), clock_hz=observe(columns).clock_hz), measured_kernels(columns)


def _first_generation(data: Path) -> Iterator[tuple[str, Machine, MeasuredKernels]]:
    for name, path in _FIRST_GENERATION:
        rows = [(kernel, row.measured) for row, kernel, _ in costed_rows(path, data)]
        timed = [(kernel, measured) for kernel, measured in rows if measured is not None]
        times = np.array([1e3 * measured for _, measured in timed])
        yield (
            name,
            machine(chip("910A")),
            MeasuredKernels(tuple(kernel for kernel, _ in timed), times, np.arange(len(timed))),
        )


def _profiled(name: str, core: Machine, kernels: MeasuredKernels) -> Profiled:
    _, shape = np.unique([kernel_key(kernel) for kernel in kernels.kernels], return_inverse=True)
    costs = costs_in_order(kernels.kernels, core, pushing=False)
    return Profiled(
        name,
        core,
        kernels,
        shape.astype(np.int64),
        np.array(
            [" ".join((kernel.type, *(each.dtype for each in kernel.operands[:1]))) for kernel in kernels.kernels]
        ),
        np.array([op_class(kernel.type).kind for kernel in kernels.kernels]),
        np.array([str(cost.bound) for cost in costs]),
        np.array([float(cost.duration_ns) for cost in costs]),
        plain_traits(kernels.kernels, core, (cost.duration_ns for cost in costs))[1],
    )
