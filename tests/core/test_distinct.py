"""Numbers for distinct values: as NumPy gives them, for close and for far values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memplan.core.distinct import distinct, first_rows, running_count


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize(("low", "high", "rows"), [(-3, 3, 40), (0, 120, 3), (-100, 100, 0), (-2, 90, 1), (5, 6, 9)])
def test_as_numpy_numbers_them(dtype: type[np.signedinteger[Any]], low: int, high: int, rows: int) -> None:
    values: NDArray[np.signedinteger[Any]] = np.random.default_rng(rows).integers(low, high, rows).astype(dtype)
    expected = np.unique(values, return_index=True, return_inverse=True)
    found, place = distinct(values)
    assert found.dtype == values.dtype
    assert np.array_equal(found, expected[0])
    assert np.array_equal(place, expected[2].reshape(-1))
    assert np.array_equal(first_rows(place, len(found)), expected[1])


def test_values_as_far_apart_as_numbers_go() -> None:
    ends = np.iinfo(np.int64)
    values = np.array([7, ends.max, ends.min, 7, 0, ends.max], dtype=np.int64)
    found, place = distinct(values)
    assert found.tolist() == [ends.min, 0, 7, ends.max]
    assert place.tolist() == [2, 3, 0, 2, 1, 3]


def test_counts_run_with_the_rows() -> None:
    assert running_count(np.array([False, True, True, False, True])).tolist() == [0, 1, 2, 2, 3]
    assert running_count(np.zeros(0, dtype=bool)).tolist() == []
