"""A rank's timeline as sorted columns: slices, counter series and flows, and the tracks that own them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats, Int32s, Int64s
from memplan.traces.profile import Track

REACH_BLOCK = 256  # rows that `SliceColumns.block_end_ns` sums up


@dataclass(frozen=True, slots=True)
class SliceColumns:
    """
    All slices sorted by track and start; track `t` owns rows `bounds[t]` to `bounds[t + 1]`.

    `reach_ns` and `covered_ns` are as `memplan.traces.timeline.nesting.fill_nesting` makes them. `block_end_ns` is the
    latest end of each `REACH_BLOCK` rows.
    """

    bounds: Int64s
    start_ns: Int64s
    duration_ns: Int64s
    name: Int32s
    category: Int32s
    depth: NDArray[np.int16]
    reach_ns: Int64s
    covered_ns: Int64s
    arguments_at: Int64s
    arguments_size: Int32s
    block_end_ns: Int64s


@dataclass(frozen=True, slots=True)
class CounterColumns:
    """Samples sorted by series and time; series `s` owns rows `bounds[s]` to `bounds[s + 1]` and belongs to a track."""

    bounds: Int64s
    time_ns: Int64s
    value: Floats
    series: Sequence[tuple[int, str, str]]  # track, name, unit


@dataclass(frozen=True, slots=True)
class FlowColumns:
    """Arrows from start to end, sorted by source track and time; `by_target` orders them by target track and time."""

    source_track: Int32s
    source_ns: Int64s
    target_track: Int32s
    target_ns: Int64s
    category: Int32s
    by_target: Int32s


@dataclass(frozen=True, slots=True)
class TimelineColumns:
    """Everything that the trace files of a rank hold."""

    tracks: Sequence[Track]
    strings: Sequence[str]
    slices: SliceColumns
    counters: CounterColumns
    flows: FlowColumns
