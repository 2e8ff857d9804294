"""
What calibrating can be worth on shapes never seen: how far kernels of one type are off the model alike.

If the deviations of two shapes of a type have the correlation r, all other shapes of it together tell no more than
r of a deviation's variance, and the error that is left is at least sqrt(1 - r) of the model's: a third less takes
r = 0.56.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from memplan.cost import Kernel, Machine
from memplan.cost.calibration import kernel_key
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.measured_kernels import MeasuredKernels
from memplan.cost.uncertainty import interval_class

HEADER = ("profile", "pairs of a type and bound", "correlation", "least error left", "of these within twice the time",
          "correlation", "least error left")  # fmt: skip
FACTORS_HEADER = ("profile", "model", "median of a type and bound", "median of a class and bound",
                  "a factor for each class, fitted to the profile itself")  # fmt: skip
HALVES_HEADER = ("profile", "a class and bound", "classes made worse", "a type and bound", "classes made worse",
                 "a class, types and layouts of operands", "classes made worse", "a factor for each class and bound, "
                 "fitted to the profile itself")  # fmt: skip
_DRAWS, _NOTICED = 16, 0.0025
"""Random halves, and the share of a class's time from which on it counts as worse."""
_SHRUNK = 0.25, 1.0, 3.0, 6.0
"""Kernels that say "as modelled" beside those measured, in trials of which the best is taken."""
_MOST = 1.5
"""Deviations beyond e to this power count as that much: a kernel that waited is no kind's way."""
_NEAR = math.log(2)


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A distinct kernel: type and bound, data types and layouts of its first two operands, class, logarithms of modelled
    time and of measured over it, share of time.
    """

    alike: tuple[str, str]
    operands: tuple[tuple[str, str], ...]
    class_name: str
    size: float
    off: float
    share: float

    def error_with(self, factor: float) -> float:
        """What the modelled time times `factor` misses, as a share of the profile's time."""
        return self.share * abs(factor * math.exp(-self.off) - 1)


def shapes_of(kernels: MeasuredKernels, machine: Machine) -> list[Shape]:
    """The distinct kernels of a profile."""
    times: dict[str, list[float]] = {}
    first: dict[str, Kernel] = {}
    for kernel, time in zip(kernels.kernels, kernels.duration_ns.tolist(), strict=True):
        key = kernel_key(kernel)
        times.setdefault(key, []).append(time)
        first.setdefault(key, kernel)
    total = float(kernels.duration_ns.sum())
    found = []
    for key, own in times.items():
        cost = kernel_cost(first[key], machine)
        off = math.log(float(np.median(own)) / cost.duration_ns)
        alike = first[key].type, str(cost.bound)
        class_name = interval_class(first[key], cost)
        operands = tuple((operand.dtype, str(operand.layout)) for operand in first[key].present[:2])
        found.append(Shape(alike, operands, class_name, math.log(cost.duration_ns), off, sum(own) / total))
    return found


def correlation(shapes: list[Shape], *, near: bool = False) -> tuple[int, float | None]:
    """Pairs of shapes of one type and bound, and how alike their deviations are, by the time that both take."""
    count, together, apart = 0, 0.0, 0.0
    for one, other in combinations(shapes, 2):
        if one.alike == other.alike and (not near or abs(one.size - other.size) <= _NEAR):
            weight = math.sqrt(one.share * other.share)
            count += 1
            first, second = (max(-_MOST, min(_MOST, shape.off)) for shape in (one, other))
            together += weight * first * second
            apart += weight * (first**2 + second**2) / 2
    return count, together / apart if apart else None


def cells(name: str, kernels: MeasuredKernels, machine: Machine) -> Iterator[str]:
    """A row of the table."""
    yield name
    shapes = shapes_of(kernels, machine)
    for near in (False, True):
        count, alike = correlation(shapes, near=near)
        left = None if alike is None else math.sqrt(1 - max(0.0, alike))
        yield from (str(count), "-" if alike is None else f"{alike:.2f}", "-" if left is None else f"{left:.0%}")


def factor_cells(name: str, kernels: MeasuredKernels, machine: Machine) -> Iterator[str]:
    """A row of what simpler estimators leave, with the amount of shrinkage that turns out best."""
    shapes = shapes_of(kernels, machine)
    yield name
    yield f"{sum(shape.error_with(1.0) for shape in shapes):.1%}"
    for alike in (lambda shape: shape.alike, lambda shape: (shape.class_name, shape.alike[1])):
        yield f"{min(left_by_medians(shapes, alike, shrunk) for shrunk in _SHRUNK):.1%}"
    yield f"{left_by_own_factors(shapes):.1%}"


def left_by_medians(shapes: Sequence[Shape], alike: Callable[[Shape], Hashable], shrunk: float) -> float:
    """
    The error of a profile when each shape has the median deviation of the n others that are `alike`, as much of it as
    n / (n + `shrunk`).
    """
    left = 0.0
    for shape in shapes:
        others = [other for other in shapes if other is not shape and alike(other) == alike(shape)]
        told = _weighted_median([(other.off, math.sqrt(other.share)) for other in others]) if others else 0.0
        left += shape.error_with(math.exp(told * len(others) / (len(others) + shrunk)))
    return left


def halves_cells(name: str, kernels: MeasuredKernels, machine: Machine) -> Iterator[str]:
    """A row of what medians of one random half of the shapes leave of the model's error on the other."""
    shapes = shapes_of(kernels, machine)
    plain = sum(shape.error_with(1.0) for shape in shapes)
    yield name
    for alike in (_class_and_bound, lambda shape: shape.alike, lambda shape: (shape.class_name, shape.operands)):
        left, worse, classes = 0.0, 0, 0
        for seed in range(_DRAWS):
            side = np.random.default_rng(seed).permutation(len(shapes)) % 2
            halves = [[shape for shape, own in zip(shapes, side, strict=True) if own == half] for half in (0, 1)]
            missed: dict[str, list[float]] = {}
            for fitted, checked in (halves, halves[::-1]):
                factors = nested_factors(fitted, alike)
                for shape in checked:
                    off = shape.error_with(factors.get(alike(shape), 1.0))
                    missed.setdefault(shape.class_name, []).append(off - shape.error_with(1.0))
                    left += off / _DRAWS
            shares = {own: sum(shape.share for shape in shapes if shape.class_name == own) for own in missed}
            classes += len(missed)
            worse += sum(sum(off) > _NOTICED * shares[own] for own, off in missed.items())
        yield from (f"{left / plain:.0%}", f"{worse} of {classes}")
    yield f"{left_by_own_factors(shapes, _class_and_bound) / plain:.0%}"


def _class_and_bound(shape: Shape) -> Hashable:
    return shape.class_name, shape.alike[1]


def nested_factors(shapes: Sequence[Shape], alike: Callable[[Shape], Hashable]) -> dict[Hashable, float]:
    """A factor for each group of `shapes`, with the shrinkage, all of it included, that suits them one by one best."""
    groups: dict[Hashable, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(alike(shape), []).append(shape)
    found = {}
    for key, own in groups.items():
        plain = sum(shape.error_with(1.0) for shape in own)
        trials = [(left_by_medians(own, alike, shrunk), shrunk) for shrunk in _SHRUNK]
        least, shrunk = min(trials)
        told = _weighted_median([(shape.off, math.sqrt(shape.share)) for shape in own])
        found[key] = math.exp(told * len(own) / (len(own) + shrunk)) if least < plain else 1.0
    return found


def left_by_own_factors(
    shapes: Sequence[Shape], alike: Callable[[Shape], Hashable] = lambda shape: shape.class_name
) -> float:
    """The error that is left of a profile by one factor for those `alike`, the best for this very profile."""
    classes: dict[Hashable, list[Shape]] = {}
    for shape in shapes:
        classes.setdefault(alike(shape), []).append(shape)
    return sum(
        min(sum(shape.error_with(math.exp(tried.off)) for shape in own) for tried in own) for own in classes.values()
    )


def _weighted_median(values: Sequence[tuple[float, float]]) -> float:
    ordered = sorted(values)
    passed = np.cumsum([weight for _, weight in ordered])
    return ordered[int(np.searchsorted(passed, passed[-1] / 2))][0]
