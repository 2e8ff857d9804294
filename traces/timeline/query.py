"""Questions to a timeline, answered from its sorted columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from memplan.core.arrays import Int32s, Int64s
from memplan.core.once import Once
from memplan.core.progress import Progress
from memplan.traces.op_totals import largest_totals
from memplan.traces.profile import CounterSeries, Flow, OpTotal, Overlap, Slices, Track, TrackKind
from memplan.traces.timeline.columns import REACH_BLOCK, TimelineColumns


class TimelineQuery:
    """
    Answers for one rank's timeline; every one is a few binary searches.

    `read_arguments(at, size)` fetches the `args` of a slice from wherever they lie.
    """

    def __init__(self, timeline: TimelineColumns, read_arguments: Callable[[int, int], Mapping[str, object]]) -> None:
        self._timeline = timeline
        self._read_arguments = read_arguments
        self._targets = Once(self._read_targets)

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
        size = REACH_BLOCK
        block = reaching // size
        blocks = block + np.flatnonzero(columns.block_end_ns[block : -(-first // size)] > t0)
        before = (blocks[:, None] * size + np.arange(size)).reshape(-1)
        before = before[(before >= reaching) & (before < first)]
        before = before[columns.start_ns[before] + columns.duration_ns[before] > t0]
        return np.asarray(np.concatenate([before, np.arange(first, last)]))

    def busy_ns(self, track: int, t0: int, t1: int) -> int:
        """How much of `[t0, t1)` lies under any slice of `track`: where slices lie in one another, it counts once."""
        before, after = self._covered(track, np.array([t0, t1], dtype=np.int64)).tolist()
        return int(after - before)

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
        """
        Arrows that start in the slice of `track` that starts at `start_ns`, or end where it starts.

        A start belongs to the innermost slice around it, as the trace format has it.
        """
        columns = self._timeline.flows
        outgoing = _matching(columns.source_track, columns.source_ns, track, start_ns)
        incoming = columns.by_target[slice(*_matching(*self._targets(), track, start_ns))]
        return [
            Flow(
                self._timeline.strings[columns.category[row]],
                int(columns.source_track[row]),
                int(columns.source_ns[row]),
                int(columns.target_track[row]),
                int(columns.target_ns[row]),
            )
            for row in [*range(*outgoing), *self._started_inside(track, start_ns), *incoming.tolist()]
        ]

    def _started_inside(self, track: int, start_ns: int) -> list[int]:
        """Arrows that start after the start of the slices of `track` that begin at `start_ns`, and in none within."""
        slices, arrows = self._timeline.slices, self._timeline.flows
        low, high = self._rows(track)
        starts = slices.start_ns[low:high]
        first, last = (low + int(np.searchsorted(starts, start_ns, side=side)) for side in ("left", "right"))
        found: set[int] = set()
        for row in range(first, last):
            end = start_ns + int(slices.duration_ns[row])
            begin = _matching(arrows.source_track, arrows.source_ns, track, start_ns)[1]
            stop = _matching(arrows.source_track, arrows.source_ns, track, end)[0]
            if begin >= stop:
                continue
            times = arrows.source_ns[begin:stop]
            inner = slice(row + 1, low + int(np.searchsorted(starts, end, side="left")))
            child = np.flatnonzero(slices.depth[inner] == slices.depth[row] + 1) + row + 1
            place = np.searchsorted(slices.start_ns[child], times, side="right") - 1
            free = np.ones(len(times), dtype=np.bool_)
            known = place >= 0
            around = child[place[known]]
            free[known] = times[known] >= slices.start_ns[around] + slices.duration_ns[around]
            found.update((begin + np.flatnonzero(free)).tolist())
        return sorted(found)

    def launches(self, category: str) -> tuple[Int64s, Int64s]:
        """Ends and starts in ns of all arrows of `category`, in order of their ends."""
        columns = self._timeline.flows
        wanted = [code for code, text in enumerate(self._timeline.strings) if text == category]
        rows = np.flatnonzero(np.isin(columns.category, wanted))
        rows = rows[np.argsort(columns.target_ns[rows], kind="stable")]
        return columns.target_ns[rows], columns.source_ns[rows]

    def _read_targets(self, _: Progress) -> tuple[Int32s, Int64s]:
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

    def arguments_of_row(self, track: int, row: int) -> Mapping[str, object]:
        """The `args` of one of all slices of `track`, in their order."""
        columns = self._timeline.slices
        at = self._rows(track)[0] + row
        return self._read_arguments(int(columns.arguments_at[at]), int(columns.arguments_size[at]))

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
        return largest_totals(np.concatenate(keys), np.concatenate(durations), self._timeline.strings, count)

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
