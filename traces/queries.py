"""Questions to a timeline, answered from its sorted columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from memplan.traces.profile import (
    CounterSeries,
    Density,
    Flow,
    Int64s,
    OpTotal,
    Overlap,
    Slices,
    Track,
    TrackKind,
)
from memplan.traces.timeline import Timeline


class TimelineView:
    """
    Answers for one rank's timeline; every one is a few binary searches.

    `read_arguments(at, size)` fetches the `args` of a slice from wherever they lie.
    """

    def __init__(self, timeline: Timeline, read_arguments: Callable[[int, int], Mapping[str, object]]) -> None:
        self._timeline = timeline
        self._read_arguments = read_arguments

    @property
    def tracks(self) -> Sequence[Track]:
        """All tracks; counters come last."""
        return self._timeline.tracks

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First start and last end over all slices, or `None` without slices."""
        columns = self._timeline.slices
        filled = np.flatnonzero(np.diff(columns.bounds))
        if not len(filled):
            return None
        first, last = columns.bounds[filled], columns.bounds[filled + 1] - 1
        return int(columns.start_ns[first].min()), int(columns.reach_ns[last].max())

    def slices(self, track: int, t0: int | None, t1: int | None) -> Slices:
        """Slices of `track` that overlap `[t0, t1)`; one of no duration counts where it starts."""
        columns = self._timeline.slices
        low, high = self._rows(track)
        start = columns.start_ns[low:high]
        first = 0 if t0 is None else int(np.searchsorted(columns.reach_ns[low:high], t0, side="right"))
        first = first if t0 is None else min(first, int(np.searchsorted(start, t0, side="left")))
        last = len(start) if t1 is None else int(np.searchsorted(start, t1, side="left"))
        rows: slice | Int64s = slice(low + first, low + max(first, last))
        if t0 is not None:
            begin = columns.start_ns[rows]
            index = np.flatnonzero((begin + columns.duration_ns[rows] > t0) | (begin >= t0))
            if len(index) < len(begin):
                rows = index + low + first
        return Slices(
            columns.start_ns[rows],
            columns.duration_ns[rows],
            columns.name[rows],
            columns.depth[rows],
            columns.category[rows],
            self._timeline.strings,
            self._timeline.strings,
        )

    def density(self, track: int, t0: int, t1: int, pixels: int) -> Density:
        """See `memplan.traces.profile.Density`."""
        edges = t0 + np.arange(pixels + 1, dtype=np.int64) * (t1 - t0) // pixels
        busy = np.diff(self._covered(track, edges)) / np.maximum(np.diff(edges), 1)
        category = np.full(pixels, -1, dtype=np.int32)
        found = self.slices(track, t0, t1)
        if len(found):
            first = np.clip((found.start_ns - t0) * pixels // max(t1 - t0, 1), 0, pixels - 1)
            last = np.clip((found.start_ns + found.duration_ns - t0) * pixels // max(t1 - t0, 1), 0, pixels - 1)
            wide = last > first
            order = np.argsort(found.duration_ns, kind="stable")
            category[first[order]] = found.category[order]
            for row in order[wide[order]].tolist():
                category[first[row] : last[row] + 1] = found.category[row]
        return Density(busy, category, self._timeline.strings)

    def counters(self, track: int) -> list[CounterSeries]:
        """The series of counter track `track`."""
        columns = self._timeline.counters
        return [
            CounterSeries(
                name,
                unit,
                columns.time_ns[columns.bounds[number] : columns.bounds[number + 1]],
                columns.value[columns.bounds[number] : columns.bounds[number + 1]],
            )
            for number, (owner, name, unit) in enumerate(columns.series)
            if owner == track
        ]

    def flows(self, track: int, start_ns: int) -> list[Flow]:
        """Arrows that start or end where the slice of `track` starts that starts at `start_ns`."""
        columns = self._timeline.flows
        outgoing = (columns.source_track == track) & (columns.source_ns == start_ns)
        incoming = (columns.target_track == track) & (columns.target_ns == start_ns)
        return [
            Flow(
                self._timeline.strings[columns.category[row]],
                int(columns.source_track[row]),
                int(columns.source_ns[row]),
                int(columns.target_track[row]),
                int(columns.target_ns[row]),
            )
            for row in np.flatnonzero(outgoing | incoming).tolist()
        ]

    def arguments(self, track: int, start_ns: int) -> Mapping[str, object]:
        """The `args` of the slice of `track` that starts at `start_ns` (the outermost, if several do)."""
        columns = self._timeline.slices
        low, high = self._rows(track)
        row = low + int(np.searchsorted(columns.start_ns[low:high], start_ns, side="left"))
        if row >= high or columns.start_ns[row] != start_ns or not columns.arguments_size[row]:
            return {}
        return self._read_arguments(int(columns.arguments_at[row]), int(columns.arguments_size[row]))

    def overlap(self) -> Overlap | None:
        """Sums over the overlap-analysis tracks, `None` where there are none."""
        totals: dict[str, int] = {}
        for track in self.tracks:
            if track.kind is TrackKind.OVERLAP:
                low, high = self._rows(track.id)
                total = int(self._timeline.slices.duration_ns[low:high].sum())
                totals[track.thread] = totals.get(track.thread, 0) + total
        if not totals:
            return None
        return Overlap(
            totals.get("Computing", 0),
            totals.get("Communication", 0),
            totals.get("Communication(Not Overlapped)", 0),
            totals.get("Free", 0),
        )

    def top_categories(self, kind: TrackKind, count: int) -> list[OpTotal]:
        """The categories (names where there is none) with the largest total duration on tracks of `kind`."""
        columns = self._timeline.slices
        keys, durations = [], []
        for track in self.tracks:
            if track.kind is kind:
                rows = slice(*self._rows(track.id))
                category = columns.category[rows]
                keys.append(np.where(category > 0, category, columns.name[rows]))
                durations.append(columns.duration_ns[rows])
        if not keys:
            return []
        return ranked(np.concatenate(keys), np.concatenate(durations), self._timeline.strings, count)

    def _rows(self, track: int) -> tuple[int, int]:
        bounds = self._timeline.slices.bounds
        if not 0 <= track < len(self.tracks):
            raise IndexError(f"there is no track {track}")
        if track >= len(bounds) - 1:
            return 0, 0
        return int(bounds[track]), int(bounds[track + 1])

    def _covered(self, track: int, times: Int64s) -> Int64s:
        """Time under any slice of `track` before each of `times`, in ns."""
        columns = self._timeline.slices
        low, high = self._rows(track)
        if low == high:
            return np.zeros(len(times), dtype=np.int64)
        before = np.searchsorted(columns.start_ns[low:high], times, side="left")
        last = low + np.maximum(before - 1, 0)
        over = np.maximum(columns.reach_ns[last] - times, 0)
        return np.where(before > 0, columns.covered_ns[last] - over, 0)


def ranked(keys: Int64s, durations: Int64s, strings: Sequence[str], count: int) -> list[OpTotal]:
    """Totals by key, largest first; sums stay whole numbers."""
    totals = np.zeros(len(strings), dtype=np.int64)
    np.add.at(totals, keys, durations)
    counts = np.bincount(keys, minlength=len(strings))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda key: (-int(totals[key]), strings[key]))
    return [OpTotal(strings[key], int(counts[key]), int(totals[key])) for key in order[:count]]
