"""How pipes that run side by side overlap: one rule for every kind of kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""A column of numbers, one a candidate or a kernel."""
Nanoseconds = TypeVar("Nanoseconds", float, Array)
_LEAST_NS = 1e-9


def overlapped(pipes: Sequence[Nanoseconds], norm: float) -> Nanoseconds:
    """
    How long pipes busy for `pipes` nanoseconds take together: the `norm` of their times, so that the slowest decides
    and near ones make it longer; the higher `norm`, the less they wait for each other.

    `norm` is the machine's `pipe_norm`. Arrays are taken element by element.
    """
    slowest = np.maximum(reduce(np.maximum, pipes), _LEAST_NS)
    total: Nanoseconds = slowest * sum((time / slowest) ** norm for time in pipes) ** (1 / norm)
    return total
