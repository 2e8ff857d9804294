"""Lanes of kernels: nothing overlaps within one, whatever the profile says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.arrays import Int64s
from memplan.traces.kernel_lanes import kernel_lanes
from memplan.traces.profile import Kernels

ROWS = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 20), st.integers(0, 6)), max_size=30)


def kernels_of(rows: list[tuple[int, int, int]]) -> Kernels:
    """Kernels of (stream, start, duration), ordered by start as profiles have them."""
    columns: Int64s = np.array(sorted(rows, key=lambda row: row[1]), dtype=np.int64).reshape(-1, 3)
    unknown = np.full(len(rows), -1, dtype=np.int64)
    texts = [""] * len(rows)
    return Kernels(columns[:, 1], columns[:, 2], unknown, unknown, columns[:, 0], unknown, *(texts,) * 7, {})


@given(ROWS)
def test_kernels_of_one_lane_are_of_one_stream_and_apart(rows: list[tuple[int, int, int]]) -> None:
    kernels = kernels_of(rows)
    lanes = kernel_lanes(kernels)
    assert len(set(lanes.names)) == len(lanes.names)
    assert set(lanes.lane.tolist()) == set(range(len(lanes.names)))
    for lane in range(len(lanes.names)):
        mine = np.flatnonzero(lanes.lane == lane)
        assert len(np.unique(kernels.stream[mine])) == 1
        order = mine[np.lexsort((kernels.duration_ns[mine], kernels.start_ns[mine]))]
        ends = kernels.start_ns[order] + kernels.duration_ns[order]
        assert (ends[:-1] <= kernels.start_ns[order][1:]).all()


def test_lanes_are_named_after_their_streams() -> None:
    lanes = kernel_lanes(kernels_of([(-1, 0, 5), (7, 0, 5), (7, 3, 5), (7, 5, 1)]))
    assert lanes.names == ["Communication", "Stream 7", "Stream 7, overlapping 1"]
    assert lanes.lane.tolist() == [0, 1, 2, 1]
