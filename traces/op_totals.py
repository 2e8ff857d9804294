"""Kernels by type: which types took most time, and the type of each name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.decimals import ABSENT
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels, OpTotal

_ROWS = 1 << 18  # what is added up at a time


def largest_types(kernels: Kernels, count: int) -> list[OpTotal]:
    """The `count` kernel types with the largest total duration; kernels without a type count under their name."""
    names, types = dictionary_encoded(kernels.name), dictionary_encoded(kernels.type)
    untyped = np.array([kind in ABSENT for kind in types.values], dtype=bool)
    keys = types.codes.astype(np.int64)
    if untyped.any():
        keys = np.where(untyped[types.codes], names.codes.astype(np.int64) + len(types.values), keys)
    return largest_totals(keys, kernels.duration_ns, [*types.values, *names.values], count)


def types_by_name(kernels: Kernels | None) -> dict[str, str]:
    """Op types by kernel name; empty where the kernels have none."""
    if kernels is None or not len(kernels):
        return {}
    names, types = dictionary_encoded(kernels.name), dictionary_encoded(kernels.type)
    pairs = np.unique(names.codes.astype(np.int64) * len(types.values) + types.codes)
    found = (divmod(pair, len(types.values)) for pair in pairs.tolist())
    return {names.values[name]: types.values[kind] for name, kind in found if types.values[kind] not in ABSENT}


def largest_totals(keys: Int64s, durations: Int64s, strings: Sequence[str], count: int) -> list[OpTotal]:
    """Totals by key (a position in `strings`), largest first; sums stay whole numbers."""
    totals = np.zeros(len(strings), dtype=np.int64)
    for begin in range(0, len(keys), _ROWS):  # a piece at a time: NumPy holds the interpreter's lock through each
        piece = slice(begin, begin + _ROWS)
        np.add.at(totals, keys[piece], durations[piece])
    counts = np.bincount(keys, minlength=len(strings))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda key: (-int(totals[key]), strings[key]))
    return [OpTotal(strings[key], int(counts[key]), int(totals[key])) for key in order[:count]]
