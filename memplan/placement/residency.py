"""Which bytes are in HBM at which step: the common ground of host moves, offsets and the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Storage:
    """
    Bytes that live together: `size` (allocator rounding included) needed over the half-open steps `[start, end)`.

    `uses` are the steps that touch it, `writes` those that change it. `persistent` storages exist before the first
    step and after the last. `remade` are the steps that make all of it anew, so that it need not exist between the use
    before and that step.
    """

    tensor: int
    size: int
    start: int
    end: int
    uses: tuple[int, ...]
    writes: tuple[int, ...]
    persistent: bool
    remade: tuple[int, ...] = ()

    @property
    def absences(self) -> list[tuple[int, int]]:
        """Spans of steps in which nothing needs the bytes, for they are made anew after it."""
        if not self.remade:
            return []
        used, remade = sorted(set(self.uses)), set(self.remade)
        return [(before + 1, after) for before, after in pairwise(used) if after in remade and after - before > 1]


@dataclass(frozen=True, slots=True)
class Gap:
    """
    Steps `[start, end)` in which a storage lies idle and could leave HBM.

    `returns_at` is the step that needs it back, `None` if no later step does (a persistent storage after its last
    use). `leaves_after` is the last step before the gap, `None` if it starts the schedule outside HBM. `dirty` says
    whether the host's copy is older than HBM's when the gap starts, so that the bytes have to be moved out.
    """

    storage: int
    start: int
    end: int
    leaves_after: int | None
    returns_at: int | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class Residency:
    """A storage is in HBM over the half-open steps `[start, end)`."""

    storage: int
    start: int
    end: int


def gaps_of(storages: Sequence[Storage], steps: int) -> list[Gap]:
    """
    All gaps of all storages, by storage and start.

    A persistent storage has a gap before its first and after its last use; a copy of it exists on the host as long as
    nothing has written it. Either of these gaps exists also without a step in it if the other has steps: what the first
    op uses can be fetched before it, and what the last one changes be on the host again before the next run.
    """
    gaps = []
    for index, storage in enumerate(storages):
        used, remade = sorted(set(storage.uses)), set(storage.remade)
        if not used or storage.size == 0:
            continue
        # Unless the schedule ends with it on the host, the host's copy of what is written is one run old.
        dirty = not storage.persistent or bool(storage.writes)
        away = used[0] > 0 or used[-1] + 1 < steps
        if storage.persistent and away:
            gaps.append(Gap(index, 0, used[0], None, used[0], dirty=False))
        for before, after in pairwise(used):
            if after - before > 1 and after not in remade:
                gaps.append(Gap(index, before + 1, after, before, after, dirty=dirty))
        if storage.persistent and away and (used[-1] + 1 < steps or storage.writes):
            gaps.append(Gap(index, used[-1] + 1, steps, used[-1], None, dirty=dirty))
    return gaps


def stays(storages: Sequence[Storage], absent: Sequence[tuple[int, int, int]]) -> list[Residency]:
    """Residencies left of lifetimes without each `(storage, start, end)` of `absent` and what waits to be remade."""
    holes: dict[int, list[tuple[int, int]]] = {}
    for index, start, end in absent:
        if start < end:
            holes.setdefault(index, []).append((start, end))
    result = []
    for index, storage in enumerate(storages):
        at = storage.start
        for start, end in sorted((*holes.get(index, ()), *storage.absences)):
            if start > at:
                result.append(Residency(index, at, start))
            at = max(at, end)
        if at < storage.end:
            result.append(Residency(index, at, storage.end))
    return result


def live_bytes(storages: Sequence[Storage], residencies: Sequence[Residency], steps: int) -> NDArray[np.int64]:
    """Bytes in HBM during each step."""
    change = np.zeros(steps + 1, dtype=np.int64)
    if residencies:
        size = np.array([storages[r.storage].size for r in residencies], dtype=np.int64)
        np.add.at(change, np.array([r.start for r in residencies]), size)
        np.subtract.at(change, np.array([r.end for r in residencies]), size)
    return np.cumsum(change)[:steps]


def least_bytes(storages: Sequence[Storage], steps: int) -> NDArray[np.int64]:
    """Bytes that each step needs in HBM whatever is moved away: those it touches."""
    need = np.zeros(steps, dtype=np.int64)
    for storage in storages:
        need[list(set(storage.uses))] += storage.size
    return need
