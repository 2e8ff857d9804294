"""A profile of one rank made of arrays, for what no file at hand shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from memplan.core.progress import Progress, silent
from memplan.traces.profile import (
    Allocations,
    CounterSeries,
    Flow,
    Kernels,
    MemoryCurve,
    OpTotal,
    Overlap,
    Slices,
    StepTimes,
    Track,
)
from memplan.traces.rank import RankProfile

Row = tuple[str, str, int, int]  # name, type, start and duration in nanoseconds


def kernels(rows: Sequence[Row], steps: Sequence[int] | None = None) -> Kernels:
    """A kernel table; without `steps` it has no step column."""
    count = len(rows)
    unknown = np.full(count, -1, dtype=np.int64)
    text = [""] * count
    return Kernels(
        start_ns=np.array([row[2] for row in rows], dtype=np.int64),
        duration_ns=np.array([row[3] for row in rows], dtype=np.int64),
        wait_ns=np.zeros(count, dtype=np.int64),
        step=unknown if steps is None else np.array(steps, dtype=np.int64),
        stream=np.zeros(count, dtype=np.int64),
        block_count=unknown,
        name=[row[0] for row in rows],
        type=[row[1] for row in rows],
        core=text,
        input_shapes=text,
        input_dtypes=text,
        output_shapes=text,
        output_dtypes=text,
        pmu={},
    )


def made_rank(
    table: Kernels | None = None,
    curves: Mapping[str, MemoryCurve] | None = None,
    blocks: Allocations | None = None,
    tracks: Sequence[Track] = (),
    rows: Mapping[int, Slices] | None = None,
) -> RankProfile:
    """Just enough of a rank: these arrays and nothing else."""
    return cast(RankProfile, _MadeRank(table, curves or {}, blocks, tracks, rows or {}))


@dataclass
class _MadeRank:
    table: Kernels | None
    curves: Mapping[str, MemoryCurve]
    blocks: Allocations | None
    tracks: Sequence[Track]
    rows: Mapping[int, Slices]
    rank: int = 0
    device: str = "NPU:0"
    chip: str | None = None
    span_ns: tuple[int, int] = (0, 0)

    def slices(self, track: int, t0: int | None = None, t1: int | None = None) -> Slices:
        return self.rows[track]

    def counters(self, track: int) -> Sequence[CounterSeries]:
        return ()

    def flows(self, track: int, start_ns: int) -> Sequence[Flow]:
        return ()

    def arguments(self, track: int, start_ns: int) -> Mapping[str, Any]:
        return {}

    def kernels(self, progress: Progress = silent) -> Kernels | None:
        return self.table

    def memory_curves(self, progress: Progress = silent) -> Mapping[str, MemoryCurve]:
        return self.curves

    def memory_components(self) -> Sequence[str]:
        return list(self.curves)

    def memory(self, component: str) -> MemoryCurve | None:
        return self.curves.get(component)

    def timeline(self, progress: Progress = silent) -> None:
        return None

    def allocations(self, progress: Progress = silent) -> Allocations | None:
        return self.blocks

    def steps(self, progress: Progress = silent) -> Sequence[StepTimes]:
        return ()

    def overlap(self) -> Overlap | None:
        return None

    def top_ops(self, count: int = 20) -> Sequence[OpTotal]:
        return ()
