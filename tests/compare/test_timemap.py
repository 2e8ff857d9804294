"""The map between planned and measured time: exact at its anchors, rising, and its own inverse."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memplan.compare.timemap import time_map
from memplan.core.arrays import Int64s
from memplan.core.ascending import rising

EPOCH = 1_767_225_600 * 10**9
ANCHORS = st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=30)


def made(anchors: list[tuple[int, int]]) -> tuple[Int64s, Int64s]:
    return (
        np.array([plan for plan, _ in anchors], dtype=np.int64),
        np.array([EPOCH + measured for _, measured in anchors], dtype=np.int64),
    )


@given(ANCHORS)
def test_anchors_that_are_kept_are_hit_to_the_nanosecond(anchors: list[tuple[int, int]]) -> None:
    mapped = time_map(*made(anchors))
    assert (np.diff(mapped.plan_ns) > 0).all()
    assert (np.diff(mapped.profile_ns) > 0).all()
    assert mapped.to_profile(mapped.plan_ns).tolist() == mapped.profile_ns.tolist()
    assert mapped.to_plan(mapped.profile_ns).tolist() == mapped.plan_ns.tolist()


@given(ANCHORS, st.lists(st.integers(-(10**12), 2 * 10**12), min_size=2, max_size=20))
def test_time_never_runs_backwards(anchors: list[tuple[int, int]], times: list[int]) -> None:
    mapped = time_map(*made(anchors))
    ordered = np.array(sorted(times), dtype=np.int64)
    assert (np.diff(mapped.to_profile(ordered)) >= 0).all()
    assert [mapped.to_profile(time) for time in ordered.tolist()] == mapped.to_profile(ordered).tolist()


def test_between_anchors_the_map_is_a_straight_line_and_beyond_them_keeps_pace() -> None:
    mapped = time_map(np.array([0, 100]), np.array([EPOCH, EPOCH + 300]))
    assert mapped.to_profile(50) == EPOCH + 150
    assert mapped.to_plan(EPOCH + 30) == 10
    assert mapped.to_profile(-7) == EPOCH - 7
    assert mapped.to_profile(105) == EPOCH + 305
    assert mapped.to_plan(EPOCH + 1) == 0


def test_one_anchor_only_shifts() -> None:
    mapped = time_map(np.array([5]), np.array([EPOCH]))
    assert mapped.to_profile(7) == EPOCH + 2
    assert mapped.to_plan(EPOCH - 5) == 0


def test_an_op_out_of_order_is_left_out_rather_than_bending_the_map() -> None:
    mapped = time_map(np.array([0, 10, 20, 30]), np.array([EPOCH, EPOCH + 90, EPOCH + 20, EPOCH + 30]))
    assert mapped.plan_ns.tolist() == [0, 20, 30]


@given(st.lists(st.integers(0, 20), max_size=9))
def test_the_rising_part_is_a_longest_one(values: list[int]) -> None:
    def longest(rest: list[int], above: int) -> int:
        if not rest:
            return 0
        skip = longest(rest[1:], above)
        return max(skip, 1 + longest(rest[1:], rest[0])) if rest[0] > above else skip

    kept = rising(np.array(values, dtype=np.int64)).tolist()
    chosen = [values[position] for position in kept]
    assert kept == sorted(set(kept))
    assert all(left < right for left, right in itertools.pairwise(chosen))
    assert len(kept) == longest(values, -1)
