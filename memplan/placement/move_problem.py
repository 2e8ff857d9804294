"""What host moves are chosen from: every gap of every storage as columns, and which of them go together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.hardware import Link
from memplan.placement.residency import Gap, Storage, gaps_of, live_bytes, stays
from memplan.placement.schedule import GapColumns, QueueTimes, gap_columns, run_gaps


@dataclass(frozen=True, slots=True)
class MoveProblem:
    """
    Gaps by storage and start, as columns. `unit` numbers what is decided together: a persistent storage is on the
    host at both ends of the schedule or at neither, so that the plan can be run step after step.

    `host_bytes` is what the host has room for, `None` where no limit is known. `live` is the bytes in HBM at each step
    with nothing moved. `changed` says whether a gap's storage was written
    since the gap before, `current` whether the host has its bytes when the schedule begins.
    """

    storages: Sequence[Storage]
    durations: Int64s
    columns: GapColumns
    storage: Int64s
    before: Int64s
    changed: Bools
    current: Bools
    unit: Int64s
    units: int
    live: Int64s
    out_link: Link
    in_link: Link
    host_bytes: int | None = None

    @property
    def steps(self) -> int:
        """How many ops run."""
        return len(self.durations)

    def gaps(self, moved: Bools) -> tuple[Gap, ...]:
        """The gaps of the units that are `moved`, each copied out only where the host lacks its bytes."""
        chosen, copied = self._copies(moved)
        every = self.columns.gaps
        return tuple(
            Gap(gap.storage, gap.start, gap.end, gap.leaves_after, gap.returns_at, dirty=bool(copied[index] >= 0))
            for index in np.flatnonzero(chosen).tolist()
            for gap in (every[index],)
        )

    def run(self, moved: Bools, capacity: int) -> QueueTimes:
        """The schedule with the units that are `moved`, at most `capacity` bytes in HBM wherever that is possible."""
        chosen, copied = self._copies(moved)
        return run_gaps(self.columns, self.durations, self.live_without(chosen), capacity, chosen, copied)

    def live_without(self, chosen: Bools) -> Int64s:
        """Bytes in HBM at each step with the storages of the `chosen` gaps absent all through them."""
        columns = self.columns
        change = np.zeros(self.steps + 1, dtype=np.int64)
        np.subtract.at(change, columns.start[chosen], columns.size[chosen])
        np.add.at(change, columns.end[chosen], columns.size[chosen])
        return self.live + np.cumsum(change)[: self.steps]

    def host_peak(self, moved: Bools) -> int:
        """The most bytes that the host keeps at any step: of each storage from its first gap to its last."""
        gaps = np.flatnonzero(moved[self.unit])
        if not len(gaps):
            return 0
        storage, place = np.unique(self.storage[gaps], return_inverse=True)
        first = np.full(len(storage), self.steps, dtype=np.int64)
        last = np.zeros(len(storage), dtype=np.int64)
        np.minimum.at(first, place, self.columns.start[gaps])
        np.maximum.at(last, place, self.columns.end[gaps])
        for index, number in enumerate(storage.tolist()):
            if self.storages[number].persistent:
                first[index], last[index] = 0, self.steps
        size = np.zeros(len(storage), dtype=np.int64)
        size[place] = self.columns.size[gaps]
        change = np.zeros(self.steps + 1, dtype=np.int64)
        np.add.at(change, first, size)
        np.subtract.at(change, last, size)
        return int(np.cumsum(change).max())

    def moved_bytes(self, moved: Bools) -> int:
        """Bytes over the links in both directions."""
        chosen, copied = self._copies(moved)
        size = self.columns.size
        return int(size[copied >= 0].sum() + size[chosen & (self.columns.returns >= 0)].sum())

    def _copies(self, moved: Bools) -> tuple[Bools, Int64s]:
        from memplan.placement.move_kernels import needed_copies

        chosen = moved[self.unit]
        copied = np.empty(len(chosen), dtype=np.int64)
        needed_copies(chosen, self.storage, self.before, self.changed, self.current, copied)
        return chosen, copied


def move_problem(
    storages: Sequence[Storage],
    durations_ns: Sequence[int] | Int64s,
    *,
    out_link: Link,
    in_link: Link,
    host_bytes: int | None = None,
) -> MoveProblem:
    """What can be moved of `storages` while ops of `durations_ns` run."""
    durations = np.asarray(durations_ns, dtype=np.int64)
    steps = len(durations)
    live = live_bytes(storages, stays(storages, ()), steps)
    gaps = _closable(gaps_of(storages, steps))
    columns = gap_columns(gaps, storages, out_link, in_link)
    changed = np.zeros(len(gaps), dtype=bool)
    current = np.zeros(len(gaps), dtype=bool)
    unit = np.zeros(len(gaps), dtype=np.int64)
    units = 0
    opening: dict[int, int] = {}
    since = 0
    for index, gap in enumerate(gaps):
        storage = storages[gap.storage]
        if index == 0 or gaps[index - 1].storage != gap.storage:
            since = 0
        writes = sorted(storage.writes)
        until = steps if gap.leaves_after is None else gap.leaves_after + 1
        changed[index] = gap.leaves_after is not None and bisect_left(writes, since) < bisect_left(writes, until)
        current[index] = storage.persistent and not writes
        since = 0 if gap.leaves_after is None else gap.leaves_after + 1
        if gap.returns_at is None and gap.storage in opening:
            unit[index] = opening[gap.storage]
            continue
        if gap.leaves_after is None:
            opening[gap.storage] = units
        unit[index] = units
        units += 1
    return MoveProblem(
        storages,
        durations,
        columns,
        np.fromiter((gap.storage for gap in gaps), dtype=np.int64, count=len(gaps)),
        np.fromiter((-1 if g.leaves_after is None else g.leaves_after for g in gaps), dtype=np.int64, count=len(gaps)),
        changed,
        current,
        unit,
        units,
        live,
        out_link,
        in_link,
        host_bytes,
    )


def _closable(gaps: Sequence[Gap]) -> list[Gap]:
    """`gaps` without those that end the schedule on the host where it begins in HBM."""
    opened = {gap.storage for gap in gaps if gap.leaves_after is None}
    return [gap for gap in gaps if gap.returns_at is not None or gap.storage in opened]
