"""One track of the timeline made ready for drawing: its lanes, each with a pyramid of busy cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Floats, Int64s
from memplan.gui.model.timeline import lane_arrays as arrays
from memplan.gui.model.timeline.lane_sums import block_sums, span_peaks
from memplan.traces.profile import Slices

Codes = NDArray[np.integer[Any]]

_SLICES_PER_CELL = 8
_MAX_CELLS = 1 << 16
_MIN_CELLS = 1 << 6
_TAIL = 2048
_MOST_KINDS = 2000
OTHER_KIND = "other"
"""What slices are of a track of more than `_MOST_KINDS` kinds that are not of the most frequent ones."""
_NUMBERS = re.compile(r"(?:-op\d+|[\s_#:.-]+\d+)+$")


class _Loops:
    """
    The compiled loops: their compiler is slow to import, not before one is needed.

    Imported once: to import in each call takes as long as a loop, and two run for every lane of a frame.
    """

    def __init__(self) -> None:
        from memplan.gui.model.timeline import lane_kernels as kernels

        self.fill_cells, self.halve_cells, self.paint_lane = kernels.fill_cells, kernels.halve_cells, kernels.paint_lane
        self.times_within, self.wide_slices = kernels.times_within, kernels.wide_slices


_loops = cache(_Loops)


@dataclass(frozen=True, slots=True)
class Lane:
    """
    Slices of one nesting level, ordered by start, and their pyramid; `category` indexes `TrackLanes.kinds`.

    `indices[i]` is the position in the track's `Slices` of the lane's slice `i`; `None` when they are the same. `busy`
    and `top` hold the pyramid's levels one after another, `sums` and `peaks` the sums and maxima of runs of durations.
    A lane that is not `compiled` has no pyramid: NumPy draws it, before the loops are compiled that draw the others.
    """

    start_ns: Int64s
    duration_ns: Int64s
    category: Codes
    indices: NDArray[np.int64] | None
    sums: Int64s
    peaks: Int64s
    busy: NDArray[np.float32]
    top: NDArray[np.int32]
    cells: int
    origin_ns: int
    cell_ns: int
    compiled: bool = True

    def index(self, position: int) -> int:
        """Position in the track's slices of the lane's slice `position`."""
        return position if self.indices is None else int(self.indices[position])

    def position(self, index: int) -> int:
        """Position in the lane of the track's slice `index`, which is one of the lane's."""
        return index if self.indices is None else int(np.searchsorted(self.indices, index))

    def at(self, time_ns: int, slack_ns: int = 0) -> int | None:
        """Position of the slice that covers `time_ns`, else of the nearest within `slack_ns`, else `None`."""
        after = int(np.searchsorted(self.start_ns, time_ns, side="right"))
        best, distance = None, slack_ns + 1
        for position in (after - 1, after):
            if not 0 <= position < len(self.start_ns):
                continue
            start = int(self.start_ns[position])
            away = max(start - time_ns, time_ns - start - int(self.duration_ns[position]) + 1, 0)
            if away < distance:
                best, distance = position, away
        return best

    def between(self, t0: int, t1: int) -> tuple[int, int]:
        """Positions `[first, last)` of the slices that overlap `[t0, t1)`."""
        first = int(self.start_ns.searchsorted(t0, side="right"))
        if first and int(self.start_ns[first - 1]) + int(self.duration_ns[first - 1]) > t0:
            first -= 1
        return first, max(int(self.start_ns.searchsorted(t1, side="left")), first)

    def add_times(self, t0: int, t1: int, times: Int64s, counts: Int64s) -> None:
        """Add to `times` and `counts`, by category, what the slices that overlap `[t0, t1)` fill of it."""
        shown = slice(*self.between(t0, t1))
        columns = self.start_ns[shown], self.duration_ns[shown], self.category[shown]
        if not self.compiled:
            arrays.add_times_within(*columns, t0, t1, times, counts)
            return
        _loops().times_within(*columns, t0, t1, times, counts)

    def wide(
        self, t0_ns: int, fraction: float, ns_per_px: float, width: int, shortest_px: float, most: int
    ) -> tuple[Int64s, Floats, Floats]:
        """
        The first `most` slices with at least `shortest_px` pixels in the `width` from `t0_ns + fraction` on.

        Their positions, and their left and right borders within the picture in pixels.
        """
        if not self.compiled:
            columns = self.start_ns, self.duration_ns
            return arrays.roomy_slices(columns, t0_ns, fraction, ns_per_px, width, float(shortest_px), most)
        found = np.empty(most, dtype=np.int64)
        left, right = np.empty((2, most))
        count = _loops().wide_slices(
            self.start_ns, self.duration_ns, self.peaks, t0_ns, fraction, ns_per_px, width, float(shortest_px),
            found, left, right,
        )  # fmt: skip
        return found[:count], left[:count], right[:count]


@dataclass(frozen=True, slots=True)
class TrackLanes:
    """
    All lanes of a track, outermost first, and the slices they come from.

    `kinds` are what its slices are told apart by: their categories, else what their names begin with.
    """

    slices: Slices
    lanes: tuple[Lane, ...]
    kinds: tuple[str, ...] = ()

    def lane_of(self, index: int) -> int:
        """Which lane holds slice `index`: there is one for each nesting level that occurs."""
        if len(self.lanes) == 1:
            return 0
        return next(
            number
            for number, lane in enumerate(self.lanes)
            if lane.indices is not None
            and (position := lane.position(index)) < len(lane.indices)
            and int(lane.indices[position]) == index
        )

    @property
    def compiled(self) -> bool:
        """Whether compiled loops draw all lanes."""
        return all(lane.compiled for lane in self.lanes)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First start and last end, or `None` without slices."""
        if not len(self.slices):
            return None
        return int(self.slices.start_ns[0]), max(
            int((lane.start_ns[-1:] + lane.duration_ns[-1:]).max()) for lane in self.lanes
        )


def build_lane(
    start: Int64s, duration: Int64s, category: Codes, indices: Int64s | None, *, compiled: bool = True
) -> Lane:
    """
    A lane and its pyramid over slices ordered by start; arrays are kept, not copied.

    One that is not `compiled` waits for no loop to be compiled, and has no pyramid.
    """
    start, duration, category = (_read_only(column) for column in (start, duration, category))
    count = len(start)
    origin = int(start[0])
    sums, peaks = block_sums(duration), span_peaks(duration)
    if not compiled:
        none = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int32)
        return Lane(start, duration, category, indices, sums, peaks, *none, 0, origin, 1, compiled=False)
    loops = _loops()
    end = int((start[-_TAIL:] + duration[-_TAIL:]).max())
    cells = _MIN_CELLS
    while cells < min(count // _SLICES_PER_CELL, _MAX_CELLS):
        cells *= 2
    cell_ns = max(1, -(-(end - origin + 1) // cells))
    busy = np.empty(2 * cells - 1, dtype=np.float32)
    top = np.empty(2 * cells - 1, dtype=np.int32)
    loops.fill_cells(start, duration, category, origin, cell_ns, busy[:cells], top[:cells])
    first, size = 0, cells
    while size > 1:
        fine = slice(first, first + size)
        coarse = slice(first + size, first + size + size // 2)
        loops.halve_cells(busy[fine], top[fine], busy[coarse], top[coarse])
        first, size = first + size, size // 2
    lane = Lane(start, duration, category, indices, sums, peaks, busy, top, cells, origin, cell_ns)
    # One pixel, so that compiled code is loaded here, on the reading thread, not in the first frame.
    lane.wide(origin, 0.0, 1.0, 1, 1.0, 1)
    lane.add_times(0, 0, np.zeros(1, np.int64), np.zeros(1, np.int64))
    paint(np.zeros((1, 1), np.uint32), (0, 1), lane, origin, 0.0, 1.0, np.zeros(int(category.max()) + 1, np.uint32), 0)
    return lane


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    """`column` as what lies in a mapped file is: loops are compiled for one sort of array only, whoever made it."""
    view = column.view()
    view.flags.writeable = False
    return view


def category_kind(name: str) -> str:
    """What slices of one kind are all called: a name's last part without the numbers at its end."""
    last = name.rsplit("/", 1)[-1] or name
    return _NUMBERS.sub("", last) or last


def _kinds(slices: Slices) -> tuple[Codes, tuple[str, ...]]:
    """Of each slice the position of its kind in the kinds that occur."""
    found: dict[str, int] = {}

    # Tables of strings are shared by all tracks of a profile: only what occurs in this one is looked at.
    def numbers_of(texts: Sequence[str], codes: Int64s, last: int, kind: Callable[[str], str]) -> NDArray[np.int32]:
        numbers = np.zeros(last + 1, dtype=np.int32)
        for code in codes.tolist():
            numbers[code] = found.setdefault(kind(texts[code]), len(found))
        return numbers

    used = np.flatnonzero(np.bincount(slices.category))
    bare = np.array([not slices.categories[code] for code in used.tolist()], dtype=bool)
    by_category = numbers_of(slices.categories, used[~bare], int(used[-1]), str)
    by_name, without = None, None
    if bare.any():
        without = np.isin(slices.category, used[bare])
        names = np.flatnonzero(np.bincount(slices.name[without]))
        by_name = numbers_of(slices.names, names, int(names[-1]), category_kind)
    # A byte a slice, where it can be: of ten million slices that is a twentieth of all that they take.
    size: np.dtype[np.integer[Any]] = np.dtype(np.uint8 if len(found) <= 0xFF else np.int32)
    kinds = by_category.astype(size)[slices.category]
    if without is not None and by_name is not None:
        kinds[without] = by_name.astype(size)[slices.name[without]]
    if len(found) > _MOST_KINDS:
        return _most_frequent(kinds, tuple(found))
    return kinds, tuple(found)


def _most_frequent(kinds: Codes, names: tuple[str, ...]) -> tuple[Codes, tuple[str, ...]]:
    """The kinds that most slices are of, and one for all others: of a name a slice, a window can't tell colours."""
    kept = np.sort(np.argsort(-np.bincount(kinds, minlength=len(names)), kind="stable")[:_MOST_KINDS])
    renumbered = np.full(len(names), _MOST_KINDS, dtype=np.int32)
    renumbered[kept] = np.arange(_MOST_KINDS, dtype=np.int32)
    return renumbered[kinds], (*(names[code] for code in kept.tolist()), OTHER_KIND)


def build_lanes(slices: Slices, *, compiled: bool = True) -> TrackLanes:
    """Split `slices` by nesting level and build each level's pyramid; none of lanes that are not `compiled`."""
    if not len(slices):
        return TrackLanes(slices, ())
    deepest = int(slices.depth.max())
    category, kinds = _kinds(slices)
    if deepest == 0:
        start = np.ascontiguousarray(slices.start_ns)
        duration = np.ascontiguousarray(slices.duration_ns)
        return TrackLanes(slices, (build_lane(start, duration, category, None, compiled=compiled),), kinds)
    lanes = []
    for depth in range(deepest + 1):
        indices = np.flatnonzero(slices.depth == depth).astype(np.int64)
        if len(indices):
            columns = slices.start_ns[indices], slices.duration_ns[indices], category[indices]
            lanes.append(build_lane(*columns, indices, compiled=compiled))
    return TrackLanes(slices, tuple(lanes), kinds)


def paint(
    image: NDArray[np.uint32],
    rows: tuple[int, int],
    lane: Lane,
    t0_ns: int,
    fraction: float,
    ns_per_px: float,
    colours: NDArray[np.uint32],
    ground: int,
) -> None:
    """Paint `lane` into rows `[rows[0], rows[1])` of `image` from the moment `t0_ns + fraction` on."""
    if not lane.compiled:
        columns = lane.start_ns, lane.duration_ns, lane.category, lane.sums
        arrays.draw_lane(image, rows, columns, t0_ns, fraction, ns_per_px, colours, ground)
        return
    _loops().paint_lane(
        image, rows[0], rows[1],
        lane.start_ns, lane.duration_ns, lane.category, lane.sums, lane.busy, lane.top, lane.cells,
        lane.origin_ns, lane.cell_ns, t0_ns, fraction, ns_per_px, colours, ground,
    )  # fmt: skip
