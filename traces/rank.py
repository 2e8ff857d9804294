"""The profile of one rank: asks a reader for each part once, and answers from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from memplan.traces.dictionary_array import coded
from memplan.traces.profile import (
    Allocations,
    CounterSeries,
    Density,
    Flow,
    Kernels,
    LinkUse,
    MemoryCurve,
    OpTotal,
    Overlap,
    Slices,
    StepTimes,
    Track,
    TrackKind,
)
from memplan.traces.timeline.query import TimelineView, ranked
from memplan.traces.readers.csv_table import ABSENT


class Reader(Protocol):
    """Reads the parts of one rank's profile from files of some form."""

    def device(self) -> str:
        """`NPU:<local id>` as the files have it, empty where none tells."""

    def chip(self) -> str | None:
        """Name of the chip, `None` where the files don't tell."""

    def kernels(self) -> Kernels | None:
        """Device kernels."""

    def curves(self) -> dict[str, MemoryCurve]:
        """Memory curves by component."""

    def allocations(self) -> Allocations | None:
        """Allocations by op."""

    def steps(self) -> list[StepTimes]:
        """Steps as the profiler sums them up."""

    def timeline(self, kernels: Kernels | None) -> TimelineView | None:
        """The timeline; `kernels` gives types to its device slices."""

    def links(self) -> list[LinkUse]:
        """Uses of links between ranks."""

    def tables(self) -> Sequence[str]:
        """Names of further tables."""

    def table(self, name: str) -> Mapping[str, Sequence[str]]:
        """A further table as text; raises `KeyError` for one that is not there."""


class Rank:
    """One rank. Implements `memplan.traces.profile.RankProfile`."""

    def __init__(self, number: int, reader: Reader) -> None:
        self._number = number
        self._reader = reader

    @property
    def rank(self) -> int:
        return self._number

    @cached_property
    def device(self) -> str:
        return self._reader.device()

    @cached_property
    def chip(self) -> str | None:
        return self._reader.chip()

    @cached_property
    def span_ns(self) -> tuple[int, int]:
        """First start and last end of slices and kernels, or of memory samples where there are none of these."""
        starts, ends = [], []
        if self._view is not None and self._view.span_ns is not None:
            starts.append(self._view.span_ns[0])
            ends.append(self._view.span_ns[1])
        kernels = self.kernels()
        if kernels is not None and len(kernels):
            starts.append(int(kernels.start_ns[0]))
            ends.append(int((kernels.start_ns + kernels.duration_ns).max()))
        if not starts:
            times = [curve.time_ns for curve in self._curves.values() if len(curve.time_ns)]
            starts, ends = [int(time[0]) for time in times], [int(time[-1]) for time in times]
        return (min(starts), max(ends)) if starts else (0, 0)

    @property
    def tracks(self) -> Sequence[Track]:
        return self._view.tracks if self._view is not None else ()

    def slices(self, track: int, t0: int | None = None, t1: int | None = None) -> Slices:
        return self._timeline.slices(track, t0, t1)

    def density(self, track: int, t0: int, t1: int, pixels: int) -> Density:
        return self._timeline.density(track, t0, t1, pixels)

    def counters(self, track: int) -> Sequence[CounterSeries]:
        return self._timeline.counters(track)

    def flows(self, track: int, start_ns: int) -> Sequence[Flow]:
        return self._timeline.flows(track, start_ns)

    def arguments(self, track: int, start_ns: int) -> Mapping[str, object]:
        return self._timeline.arguments(track, start_ns)

    def kernels(self) -> Kernels | None:
        return self._kernels

    def memory_components(self) -> Sequence[str]:
        return list(self._curves)

    def memory(self, component: str) -> MemoryCurve | None:
        return self._curves.get(component)

    def allocations(self) -> Allocations | None:
        return self._allocations

    def steps(self) -> Sequence[StepTimes]:
        return self._steps

    def overlap(self) -> Overlap | None:
        return self._view.overlap() if self._view is not None else None

    def top_ops(self, count: int = 20) -> Sequence[OpTotal]:
        kernels = self.kernels()
        if kernels is not None:
            return top_types(kernels, count)
        return self._view.top_categories(TrackKind.STREAM, count) if self._view is not None else []

    def links(self) -> Sequence[LinkUse]:
        return self._links

    @cached_property
    def _links(self) -> list[LinkUse]:
        return self._reader.links()

    def tables(self) -> Sequence[str]:
        return self._reader.tables()

    def table(self, name: str) -> Mapping[str, Sequence[str]]:
        return self._reader.table(name)

    def load(self) -> None:
        """Read every file now."""
        _ = (
            self._view,
            self._kernels,
            self._curves,
            self._allocations,
            self._steps,
            self._links,
            self.device,
            self.chip,
        )
        for name in self.tables():
            self.table(name)

    @property
    def _timeline(self) -> TimelineView:
        if self._view is None:
            raise IndexError(f"rank {self.rank} has no tracks: there is no trace file")
        return self._view

    @cached_property
    def _view(self) -> TimelineView | None:
        return self._reader.timeline(self.kernels())

    @cached_property
    def _kernels(self) -> Kernels | None:
        return self._reader.kernels()

    @cached_property
    def _curves(self) -> dict[str, MemoryCurve]:
        return self._reader.curves()

    @cached_property
    def _allocations(self) -> Allocations | None:
        return self._reader.allocations()

    @cached_property
    def _steps(self) -> list[StepTimes]:
        return self._reader.steps()


def top_types(kernels: Kernels, count: int) -> list[OpTotal]:
    """The `count` kernel types with the largest total duration; kernels without a type count under their name."""
    names, types = coded(kernels.name), coded(kernels.type)
    untyped = np.array([kind in ABSENT for kind in types.values], dtype=bool)
    keys = types.codes.astype(np.int64)
    if untyped.any():
        keys = np.where(untyped[types.codes], names.codes.astype(np.int64) + len(types.values), keys)
    return ranked(keys, kernels.duration_ns, [*types.values, *names.values], count)


def types_by_name(kernels: Kernels | None) -> dict[str, str]:
    """Op types by kernel name; empty where the kernels have none."""
    if kernels is None or not len(kernels):
        return {}
    names, types = coded(kernels.name), coded(kernels.type)
    pairs = np.unique(names.codes.astype(np.int64) * len(types.values) + types.codes)
    found = (divmod(pair, len(types.values)) for pair in pairs.tolist())
    return {names.values[name]: types.values[kind] for name, kind in found if types.values[kind] not in ABSENT}
