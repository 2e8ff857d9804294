"""The best ratios among rows near that of a kernel."""

from __future__ import annotations

from memplan.core.arrays import Bools, Float32s, Int32s, Int64s
from memplan.core.jit import jit_numpy_division


@jit_numpy_division
def best_near(
    at: Int64s,
    scope: Int64s,
    kernel_class: Int32s,
    fit: Float32s,
    token: Int32s,
    scope_there: Int64s,
    step: Int64s,
    ran: Bools,
    near: int,
    no_op: int,
    other: Float32s,
    free: Float32s,
) -> None:
    """
    Fill `other` and `free`: the best of `fit` up to `near` rows from `at` of other scopes, and of rows that none ran.

    Rows whose scope is `no_op` don't count. All arrays of kernels are of one length, those of rows of another.
    """
    rows = len(token)
    for kernel in range(len(at)):
        for row in range(max(0, at[kernel] - near), min(rows, at[kernel] + near + 1)):
            if scope_there[row] == no_op:
                continue
            value = fit[token[row], kernel_class[kernel]]
            if scope_there[row] != scope[kernel] and value > other[kernel]:
                other[kernel] = value
            if not ran[step[kernel], row] and value > free[kernel]:
                free[kernel] = value


__all__ = ["best_near"]
