"""Compiled loops over columns of text: exact times and floats."""

from __future__ import annotations

import numpy as np

from memplan.core.jit import jit_numpy_division
from memplan.traces.scan.addresses import i32, put_f64, put_i64, u8
from memplan.traces.scan.json_text import decimal_float, scaled_ns


@jit_numpy_division
def times(text: int, bounds: int, count: int, values: int) -> None:
    """
    Nanoseconds of `count` strings of microseconds, stored at address `values` where they are numbers.

    String `k` lies between the `k`th and the next of the 32-bit offsets at `bounds` into `text`.
    """
    for k in range(count):
        value, valid = scaled_ns(text, i32(bounds + 4 * k), i32(bounds + 4 * k + 4))
        if valid:
            put_i64(values + 8 * k, value)


@jit_numpy_division
def floats(text: int, bounds: int, count: int, values: int) -> None:
    """Like `times`, for floats."""
    for k in range(count):
        value, valid = decimal_float(text, i32(bounds + 4 * k), i32(bounds + 4 * k + 4))
        if valid:
            put_f64(values + 8 * k, value)


@jit_numpy_division
def integers(text: int, bounds: int, count: int, values: int) -> None:
    """Like `times`, for whole numbers of at most 18 digits, or 19 that fit, without a sign."""
    for k in range(count):
        i, end = np.int64(i32(bounds + 4 * k)), np.int64(i32(bounds + 4 * k + 4))
        while i < end and (u8(text + i) == 32 or u8(text + i) == 9):
            i += 1
        value = np.int64(0)
        start = i
        while i < end and 48 <= u8(text + i) <= 57 and value <= 922337203685477579:
            value = value * 10 + (np.int64(u8(text + i)) - 48)
            i += 1
        used = i > start
        while i < end and (u8(text + i) == 32 or u8(text + i) == 9):
            i += 1
        if used and i == end:
            put_i64(values + 8 * k, value)
