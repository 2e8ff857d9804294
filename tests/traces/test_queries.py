"""Questions to a timeline against the slow and obvious way of answering them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from memplan.traces.timeline.events import Events, FlowRows, SampleRows, SliceRows
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.tracks import build


def timeline(start: list[int], duration: list[int], category: list[int] | None = None) -> TimelineQuery:
    """One track with these slices; categories are called `c0`, `c1`, ..."""
    count = len(start)
    zeros = np.zeros(count, dtype=np.int32)
    kinds = np.array(category if category is not None else [0] * count, dtype=np.int32) + 1
    none, empty = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    events = Events(
        ["", *(f"c{number}" for number in range(64))],
        [("1", "1")],
        SliceRows(
            np.array(start, dtype=np.int64), np.array(duration, dtype=np.int64), zeros, zeros, kinds,
            np.zeros(count, dtype=np.int64), zeros,
        ),
        SampleRows(none, empty, empty, empty, none, np.empty(0)),
        FlowRows(none, empty, empty, empty, none),
        [],
    )  # fmt: skip
    return TimelineQuery(build(events, {}), lambda _at, _size: {})


def random_slices(seed: int, count: int, span: int, longest: int) -> tuple[list[int], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, span, count)
    duration = rng.integers(0, longest, count)
    duration[:: max(count // 5, 1)] = span // 3
    return start.tolist(), duration.tolist(), rng.integers(0, 5, count).tolist()


@pytest.mark.parametrize(("count", "longest"), [(40, 50), (3000, 20), (3000, 400)])
def test_windows_hold_exactly_the_slices_that_overlap(count: int, longest: int) -> None:
    start, duration, category = random_slices(1, count, 10_000, longest)
    view = timeline(start, duration, category)
    rng = np.random.default_rng(2)
    for _ in range(60):
        t0, t1 = sorted(rng.integers(-100, 11_000, 2).tolist())
        wanted = sorted(
            (s, d) for s, d in zip(start, duration, strict=True) if s < t1 and (s + d > t0 or s >= t0)
        )  # fmt: skip
        found = view.slices(0, t0, t1)
        assert sorted(zip(found.start_ns.tolist(), found.duration_ns.tolist(), strict=True)) == wanted
        assert found.start_ns.tolist() == sorted(found.start_ns.tolist())


@pytest.mark.parametrize(("count", "longest"), [(40, 50), (3000, 20), (20_000, 4)])
def test_busy_time_is_exact_in_any_window(count: int, longest: int) -> None:
    start, duration, category = random_slices(3, count, 10_000, longest)
    view = timeline(start, duration, category)
    covered = np.zeros(20_000, dtype=bool)
    for s, d in zip(start, duration, strict=True):
        covered[s : s + d] = True
    for low, high in ((0, 10_000), (500, 1_500), (9_000, 14_000)):
        edges = [low + (high - low) * part // 17 for part in range(18)]
        for t0, t1 in [(low, high), *pairwise(edges)]:
            assert view.busy_ns(0, t0, t1) == int(covered[t0:t1].sum())


def test_depth_is_the_nesting_level() -> None:
    view = timeline([0, 0, 10, 20, 60, 200], [100, 50, 30, 5, 10, 10])
    slices = view.slices(0, None, None)
    assert slices.start_ns.tolist() == [0, 0, 10, 20, 60, 200]
    assert slices.duration_ns.tolist() == [100, 50, 30, 5, 10, 10]
    assert slices.depth.tolist() == [0, 1, 2, 3, 1, 0]


def test_an_empty_track_of_counters_answers_too() -> None:
    view = timeline([5], [5])
    assert view.busy_ns(0, 100, 200) == 0
    with pytest.raises(IndexError):
        view.slices(7, None, None)


@pytest.mark.parametrize("size", [90_000, 120_000])
def test_compiled_and_plain_loops_agree(size: int) -> None:
    rng = np.random.default_rng(7)
    start = np.sort(rng.integers(0, 10**7, size)).tolist()
    duration = rng.integers(0, 1000, size).tolist()
    view = timeline(start, duration, rng.integers(0, 30, size).tolist())
    slices = view.slices(0, None, None)
    ends: list[int] = []
    for begin, length, depth in list(
        zip(slices.start_ns.tolist(), slices.duration_ns.tolist(), slices.depth.tolist(), strict=True)
    )[:5000]:
        free = next((lane for lane, end in enumerate(ends) if end <= begin), len(ends))
        ends[free : free + 1] = [begin + length]
        assert depth == free
