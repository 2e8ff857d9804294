"""What host moves are chosen from: every gap of every storage as columns, and which of them go together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memplan.core.arrays import Bools, Int64s
from memplan.hardware import HostTier, Link
from memplan.placement.residency import Gap, Storage, gaps_of, live_bytes, stays
from memplan.placement.schedule import GapColumns, QueueTimes, gap_columns, run_gaps

if TYPE_CHECKING:
    from memplan.placement.choice_kernels import ChoiceColumns


@dataclass(frozen=True, slots=True)
class MoveProblem:
    """
    Gaps by storage and start, as columns. `unit` numbers what is decided together: a persistent storage is on the
    host at both ends of the schedule or at neither, so that the plan can be run step after step.

    `host_bytes` is what the host has room for, `None` where no limit is known. `live` is the bytes in HBM at each step
    with nothing moved. `changed` says whether a gap's storage was written
    since the gap before, `current` whether the host has its bytes when the schedule begins. Where there are several
    `tiers`, the links and bytes are those of all together (`HostTier.joined`).
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
    host_bytes: int | None
    tiers: tuple[HostTier, ...]

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

    def choice_columns(self) -> ChoiceColumns:
        """What choices of units are scored by, for the loops of `choice_kernels`."""
        from memplan.placement.choice_kernels import ChoiceColumns

        columns = self.columns
        count = np.arange(len(columns.gaps))
        kept = np.array([storage.persistent for storage in self.storages], dtype=bool)[self.storage]
        return ChoiceColumns(
            self.durations,
            self.live,
            self.unit,
            self.storage,
            self.before,
            self.changed,
            self.current,
            kept,
            columns.size,
            columns.start,
            columns.end,
            columns.returns,
            columns.out_ns,
            columns.in_ns,
            columns.lane,
            np.lexsort((count, columns.returns, self.before)),
            np.lexsort((count, columns.start)),
            np.lexsort((count, columns.returns)),
            *self.gaps_of_units(),
        )

    def gaps_of_units(self) -> tuple[Int64s, Int64s]:
        """The gaps of each unit: where its own begin in the second array, and that array."""
        by_unit = np.argsort(self.unit, kind="stable").astype(np.int64)
        counts = np.bincount(self.unit, minlength=self.units)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), by_unit

    def _copies(self, moved: Bools) -> tuple[Bools, Int64s]:
        from memplan.placement.move_kernels import needed_copies

        chosen = moved[self.unit]
        copied = np.empty(len(chosen), dtype=np.int64)
        needed_copies(chosen, self.storage, self.before, self.changed, self.current, copied)
        return chosen, copied


def move_problem(
    storages: Sequence[Storage],
    durations_ns: Sequence[int] | Int64s,
    host: HostTier,
) -> MoveProblem:
    """What can be moved of `storages` to `host`, and what lies beside it, while ops of `durations_ns` run."""
    out_link, in_link = host.joined.out_link, host.joined.in_link
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
        host.joined.capacity,
        host.tiers,
    )


def _closable(gaps: Sequence[Gap]) -> list[Gap]:
    """`gaps` without those that end the schedule on the host where it begins in HBM."""
    opened = {gap.storage for gap in gaps if gap.leaves_after is None}
    return [gap for gap in gaps if gap.returns_at is not None or gap.storage in opened]
