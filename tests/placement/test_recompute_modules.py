"""The fewest modules of a program to recompute so that its step fits."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from memplan.placement.recompute_modules import fewest_recomputed


@given(savings=st.lists(st.integers(0, 50), max_size=12), capacity=st.integers(0, 700))
def test_no_fewer_modules_fit(savings: list[int], capacity: int) -> None:
    names = [f"layers.{number}" for number in range(len(savings))]

    def peak(recomputed: Sequence[str]) -> int:
        return 600 - sum(savings[: len(recomputed)])

    chosen, read = fewest_recomputed(names, lambda modules: modules, peak, capacity)
    assert tuple(read) == chosen == tuple(names[: len(chosen)])
    fitting = [count for count in range(len(names) + 1) if peak(names[:count]) <= capacity]
    if fitting:
        assert len(chosen) == fitting[0]
    else:
        assert peak(chosen) == peak(names)


@given(peaks=st.lists(st.integers(100, 700), min_size=2, max_size=12), capacity=st.integers(0, 700))
def test_modules_that_take_more_than_they_save_leave_the_lowest_peak_that_was_seen(
    peaks: list[int], capacity: int
) -> None:
    names = [f"layers.{number}" for number in range(len(peaks) - 1)]
    asked: list[int] = []

    def peak(recomputed: Sequence[str]) -> int:
        asked.append(len(recomputed))
        return peaks[len(recomputed)]

    chosen, _ = fewest_recomputed(names, lambda modules: modules, peak, capacity)
    lowest = min(peaks[count] for count in asked)
    assert peaks[len(chosen)] <= max(capacity, lowest)
    if min(peaks[:2]) <= capacity:
        assert peaks[len(chosen)] <= capacity
    assert len(asked) <= 12


def test_without_a_limit_nothing_is_recomputed() -> None:
    assert fewest_recomputed(["a"], lambda modules: modules, lambda _: 10**9, None)[0] == ()
