"""What of communications nothing hides, held against the plain definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.intervals import Intervals, interval_union
from memplan.findings.device_communication import DeviceCommunication
from memplan.findings.exposed_communication import awaited_copies, exposed_communications
from memplan.findings.rank_case import NOTHING, RankCase
from memplan.traces.notes import Notebook
from memplan.traces.rank import RankProfile, RankReader

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12)


@given(SPANS, SPANS, SPANS, st.integers(0, 20))
def test_every_moment_is_of_what_ends_before_computing_goes_on_and_of_such_the_first(
    computing: list[tuple[int, int]], communicating: list[tuple[int, int]], copied: list[tuple[int, int]], moved: int
) -> None:
    busy, copying = _intervals(computing), _intervals(copied)
    ran = [
        DeviceCommunication(str(place), start, start + length, False, min(moved, length), None)
        for place, (start, length) in enumerate(sorted(communicating))
    ]
    profile = RankProfile(0, lambda _: RankReader(Notebook(Path())))
    communicates = _intervals(communicating)
    case = RankCase(0, profile, None, NOTHING[0], NOTHING[0], ran, [], busy, communicates, copying, [])
    copies = _moments(awaited_copies(case))
    works = _moments(busy)
    assert not copies & works
    assert copies <= _moments(copying)
    owner: dict[int, int] = {}
    for time in range(80):
        if time in works:
            continue
        running = [place for place, one in enumerate(ran) if one.start_ns <= time < one.end_ns]
        until = next((later for later in range(time, 200) if later in works), 200)
        awaited = [place for place in running if ran[place].end_ns <= until]
        if running:
            owner[time] = (awaited or running)[0]
    found = exposed_communications(case)
    for place, one in enumerate(sorted(ran, key=lambda one: one.start_ns)):
        mine = {time for time, whose in owner.items() if whose == place}
        assert one is found[place].communication
        assert _moments(found[place].exposed) == mine
        assert found[place].exposed_ns == len(mine)
        last = range(one.end_ns - (one.transfer_ns or 0), one.end_ns)
        assert found[place].transfer_ns == len(mine & set(last))


def test_what_ends_a_gap_is_what_computing_waited_for() -> None:
    ran = [DeviceCommunication("sum", 5, 60, False, 55, None)]
    profile = RankProfile(0, lambda _: RankReader(Notebook(Path())))
    busy = (np.array([0, 20, 40]), np.array([10, 30, 70]))
    case = RankCase(
        0, profile, None, NOTHING[0], NOTHING[0], ran, [], busy, _intervals([(5, 55)]), _intervals([(8, 12)]), []
    )
    assert _moments(awaited_copies(case)) == set(range(10, 20))
    (one,) = exposed_communications(case)
    assert _moments(one.exposed) == {*range(10, 20), *range(30, 40)}


def _intervals(spans: list[tuple[int, int]]) -> Intervals:
    starts = np.array([start for start, _ in spans], dtype=np.int64)
    return interval_union(starts, np.array([start + length for start, length in spans], dtype=np.int64))


def _moments(intervals: Intervals) -> set[int]:
    return {time for low, high in zip(*map(list, intervals), strict=True) for time in range(low, high)}
