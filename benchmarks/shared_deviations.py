"""
What calibrating can be worth on shapes never seen: how far kernels of one type are off the model alike.

If the deviations of two shapes of a type have the correlation r, all other shapes of it together tell no more than
r of a deviation's variance, and the error that is left is at least sqrt(1 - r) of the model's: a third less takes
r = 0.56.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from memplan.cost import Kernel, Machine
from memplan.cost.calibration import kernel_key
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.measured_kernels import MeasuredKernels

HEADER = ("profile", "pairs of a type and bound", "correlation", "least error left", "of these within twice the time",
          "correlation", "least error left")  # fmt: skip
_MOST = 1.5
"""Deviations beyond e to this power count as that much: a kernel that waited is no kind's way."""
_NEAR = math.log(2)


@dataclass(frozen=True, slots=True)
class Shape:
    """A distinct kernel: type and bound, logarithms of its modelled time and of measured over that, share of time."""

    alike: tuple[str, str]
    size: float
    off: float
    share: float


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
        found.append(Shape(alike, math.log(cost.duration_ns), max(-_MOST, min(_MOST, off)), sum(own) / total))
    return found


def correlation(shapes: list[Shape], *, near: bool = False) -> tuple[int, float | None]:
    """Pairs of shapes of one type and bound, and how alike their deviations are, by the time that both take."""
    count, together, apart = 0, 0.0, 0.0
    for one, other in combinations(shapes, 2):
        if one.alike == other.alike and (not near or abs(one.size - other.size) <= _NEAR):
            weight = math.sqrt(one.share * other.share)
            count += 1
            together += weight * one.off * other.off
            apart += weight * (one.off**2 + other.off**2) / 2
    return count, together / apart if apart else None


def cells(name: str, kernels: MeasuredKernels, machine: Machine) -> Iterator[str]:
    """A row of the table."""
    yield name
    shapes = shapes_of(kernels, machine)
    for near in (False, True):
        count, alike = correlation(shapes, near=near)
        left = None if alike is None else math.sqrt(1 - max(0.0, alike))
        yield from (str(count), "-" if alike is None else f"{alike:.2f}", "-" if left is None else f"{left:.0%}")
