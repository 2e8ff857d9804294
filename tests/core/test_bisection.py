"""The largest value that fits is the one a linear search finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.bisection import crossing, largest_fitting


@given(st.integers(0, 300), st.integers(0, 300), st.booleans())
def test_it_is_what_counting_up_finds(limit: int, most: int, doubling: bool) -> None:
    tried: list[int] = []

    def fits(value: int) -> bool:
        tried.append(value)
        return value <= limit

    assert largest_fitting(fits, most, doubling=doubling) == min(limit, most)
    assert all(1 <= value <= most for value in tried)
    assert len(tried) <= 20


@pytest.mark.parametrize(("doubling", "dearest"), [(True, 8), (False, 1 << 15)])
def test_doubling_never_tries_much_more_than_fits(doubling: bool, dearest: int) -> None:
    tried: list[int] = []

    def fits(value: int) -> bool:
        tried.append(value)
        return value <= 4

    assert largest_fitting(fits, (1 << 16) - 1, doubling=doubling) == 4
    assert max(tried) == dearest


@pytest.mark.parametrize(("bound", "expected"), [(0.3, 0.3), (-5.0, -1.0), (9.0, 2.0)])
def test_a_crossing_is_where_a_condition_begins_to_hold(bound: float, expected: float) -> None:
    found = crossing(lambda value: value > bound, -1.0, 2.0, within=1e-3)
    assert expected - 1e-3 <= found <= expected
