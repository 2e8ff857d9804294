"""Questions to a timeline, answered from its sorted columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from memplan.core.arrays import Int64s
from memplan.traces.timeline.nesting import BLOCK
from memplan.traces.profile import CounterSeries, Density, Flow, OpTotal, Overlap, Slices, Track, TrackKind
from memplan.traces.timeline.tracks import Int32s, Timeline


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
        rows = self._overlapping(track, t0, t1)
        return Slices(
            columns.start_ns[rows],
            columns.duration_ns[rows],
            columns.name[rows],
            columns.depth[rows],
            columns.category[rows],
            self._timeline.strings,
            self._timeline.strings,
        )

    def _overlapping(self, track: int, t0: int | None, t1: int | None) -> slice | Int64s:
        """
        Rows of `track` that overlap `[t0, t1)`.

        Those that start in the window lie together. Of those before it, whole blocks that end before `t0` are passed
        over; few others hold the slices that reach into the window.
        """
        columns = self._timeline.slices
        low, high = self._rows(track)
        start = columns.start_ns[low:high]
        last = high if t1 is None else low + int(np.searchsorted(start, t1, side="left"))
        if t0 is None:
            return slice(low, last)
        first = min(low + int(np.searchsorted(start, t0, side="left")), last)
        reaching = low + int(np.searchsorted(columns.reach_ns[low:first], t0, side="right"))
        if reaching >= first:
            return slice(first, last)
        size = BLOCK**2
        block = reaching // size
        blocks = block + np.flatnonzero(columns.block_end_ns[block : -(-first // size)] > t0)
        before = (blocks[:, None] * size + np.arange(size)).reshape(-1)
        before = before[(before >= reaching) & (before < first)]
        before = before[columns.start_ns[before] + columns.duration_ns[before] > t0]
        return np.asarray(np.concatenate([before, np.arange(first, last)]))

    def density(self, track: int, t0: int, t1: int, pixels: int) -> Density:
        """See `memplan.traces.profile.Density`."""
        columns = self._timeline.slices
        low, high = self._rows(track)
        edges = np.array([t0 + (t1 - t0) * pixel // pixels for pixel in range(pixels + 1)], dtype=np.int64)
        busy = np.diff(self._covered(track, edges)) / np.maximum(np.diff(edges), 1)
        bounds = low + np.searchsorted(columns.start_ns[low:high], edges, side="left")
        parts = [self._holders(low, bounds[:-1], edges)]
        level = np.ceil(np.log(np.maximum(np.diff(bounds), 1) / BLOCK) / np.log(BLOCK)).astype(np.int64)
        level = np.clip(level, 0, len(columns.summaries))
        steps = np.unique(level[np.diff(bounds) > 0]).tolist()
        parts.extend(self._contents(np.flatnonzero(level == step), bounds, edges, step) for step in steps)
        pixel, category, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Density(busy, _heaviest(pixel, category, weight, pixels), self._timeline.strings)

    def _holders(self, low: int, bounds: Int64s, edges: Int64s) -> tuple[Int64s, Int32s, Int64s]:
        """For pixels that begin inside a slice: pixel, category and time of the slice that lasts longest there."""
        columns = self._timeline.slices
        pixel = np.flatnonzero(bounds > low)
        reach = columns.reach_ns[bounds[pixel] - 1]
        inside = reach > edges[pixel]
        pixel, reach = pixel[inside], reach[inside]
        holder = low + np.searchsorted(columns.reach_ns[low : int(bounds[-1])], reach, side="left")
        return pixel, columns.category[holder], np.minimum(reach, edges[pixel + 1]) - edges[pixel]

    def _contents(self, pixels: Int64s, bounds: Int64s, edges: Int64s, level: int) -> tuple[Int64s, Int32s, Int64s]:
        """Pixel, category and time of the slices that start in `pixels`, or of the blocks of them at `level`."""
        columns = self._timeline.slices
        size = BLOCK**level
        first = -(-bounds[pixels] // size)
        counts = np.maximum(bounds[pixels + 1] // size - first, 0)
        pixel = np.repeat(pixels, counts)
        rows = np.arange(len(pixel)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        if level:
            category, weight = columns.summaries[level - 1]
            return pixel, category[rows], weight[rows]
        start = columns.start_ns[rows]
        end = np.minimum(start + np.maximum(columns.duration_ns[rows], 1), edges[pixel + 1])
        return pixel, columns.category[rows], np.maximum(end - start, 1)

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
        outgoing = _matching(columns.source_track, columns.source_ns, track, start_ns)
        incoming = columns.by_target[slice(*_matching(*self._targets, track, start_ns))]
        return [
            Flow(
                self._timeline.strings[columns.category[row]],
                int(columns.source_track[row]),
                int(columns.source_ns[row]),
                int(columns.target_track[row]),
                int(columns.target_ns[row]),
            )
            for row in [*range(*outgoing), *incoming.tolist()]
        ]

    @cached_property
    def _targets(self) -> tuple[Int32s, Int64s]:
        """Tracks and times at which arrows end, in order."""
        columns = self._timeline.flows
        return columns.target_track[columns.by_target], columns.target_ns[columns.by_target]

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


def _matching(tracks: Int32s, times: Int64s, track: int, time: int) -> tuple[int, int]:
    """Bounds of the rows with this track and time, in columns sorted by track and time."""
    low, high = int(np.searchsorted(tracks, track, side="left")), int(np.searchsorted(tracks, track, side="right"))
    found = times[low:high]
    return (
        low + int(np.searchsorted(found, time, side="left")),
        low + int(np.searchsorted(found, time, side="right")),
    )


def _heaviest(pixel: Int64s, category: Int32s, weight: Int64s, pixels: int) -> Int32s:
    """The category of each pixel with the largest total weight, -1 where there is none."""
    chosen = np.full(pixels, -1, dtype=np.int32)
    if len(pixel):
        width = int(category.max()) + 1
        code = pixel * width + category
        order = np.argsort(code, kind="stable")
        code = code[order]
        first = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
        total = np.add.reduceat(weight[order], first)
        code = code[first]
        ranking = np.lexsort((total, code // width))
        chosen[code[ranking] // width] = code[ranking] % width  # the last one of a pixel wins: the heaviest
    return chosen


def ranked(keys: Int64s, durations: Int64s, strings: Sequence[str], count: int) -> list[OpTotal]:
    """Totals by key, largest first; sums stay whole numbers."""
    totals = np.zeros(len(strings), dtype=np.int64)
    np.add.at(totals, keys, durations)
    counts = np.bincount(keys, minlength=len(strings))
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda key: (-int(totals[key]), strings[key]))
    return [OpTotal(strings[key], int(counts[key]), int(totals[key])) for key in order[:count]]
