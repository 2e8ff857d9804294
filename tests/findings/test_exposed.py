"""What of communications nothing hides, held against the plain definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.intervals import interval_union
from memplan.findings.rank_case import NOTHING, DeviceCommunication, RankCase
from memplan.findings.step_breakdown import exposed_communications
from memplan.traces.notes import Notebook
from memplan.traces.rank import RankProfile, RankReader

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=12)


@given(SPANS, SPANS, st.integers(0, 20))
def test_every_moment_belongs_to_the_first_communication_that_runs_then_unless_something_computes(
    computing: list[tuple[int, int]], communicating: list[tuple[int, int]], moved: int
) -> None:
    starts = np.array([start for start, _ in computing], dtype=np.int64)
    busy = interval_union(starts, np.array([start + length for start, length in computing], dtype=np.int64))
    ran = [
        DeviceCommunication(str(place), start, start + length, False, min(moved, length), None)
        for place, (start, length) in enumerate(sorted(communicating))
    ]
    profile = RankProfile(0, lambda _: RankReader(Notebook(Path())))
    case = RankCase(0, profile, None, NOTHING[0], NOTHING[0], ran, [], busy, NOTHING, NOTHING, [])
    taken = {time for start, length in computing for time in range(start, start + length)}
    for one in exposed_communications(case):
        span = one.communication
        mine = set(range(span.start_ns, span.end_ns)) - taken
        taken |= mine
        assert one.exposed_ns == len(mine)
        shown = {time for low, high in zip(*map(list, one.exposed), strict=True) for time in range(low, high)}
        assert shown == mine
        last = range(span.end_ns - (span.transfer_ns or 0), span.end_ns)
        assert one.transfer_ns == len(mine & set(last))
