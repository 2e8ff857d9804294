from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.arrays import Int64s
from memplan.core.intervals import interval_difference, interval_total, interval_union

Spans = list[tuple[int, int]]
spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def arrays(of: Spans) -> tuple[Int64s, Int64s]:
    columns = np.array(of, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def units(of: Spans) -> set[int]:
    return {unit for start, end in of for unit in range(start, end)}


def listed(intervals: tuple[Int64s, Int64s]) -> Spans:
    return list(zip(*(side.tolist() for side in intervals), strict=True))


def test_touching_intervals_become_one_unless_they_are_to_stay_apart() -> None:
    told = arrays([(5, 6), (0, 4), (3, 5), (10, 12), (7, 7)])
    assert listed(interval_union(*told)) == [(0, 6), (10, 12)]
    assert listed(interval_union(*told, keep_touching=True)) == [(0, 5), (5, 6), (10, 12)]


def test_what_is_taken_away_cuts_what_is_there() -> None:
    whole, part = arrays([(0, 6), (10, 12)]), arrays([(1, 2), (5, 10), (11, 20)])
    assert listed(interval_difference(whole, part)) == [(0, 1), (2, 5), (10, 11)]
    assert listed(interval_difference(whole, arrays([]))) == [(0, 6), (10, 12)]
    assert listed(interval_difference(arrays([]), part)) == []


@given(spans, spans, st.booleans())
def test_intervals_cover_what_their_units_do(some: Spans, others: Spans, keep_touching: bool) -> None:
    first = interval_union(*arrays(some), keep_touching=keep_touching)
    second = interval_union(*arrays(others), keep_touching=keep_touching)
    assert units(listed(first)) == units(some)
    assert interval_total(*first) == len(units(some))
    left = interval_difference(first, second)
    assert units(listed(left)) == units(some) - units(others)
    assert interval_total(*left) == len(units(some) - units(others))
