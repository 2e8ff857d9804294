"""Opens a profile directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.core.progress import Progress, silent
from memplan.traces.discover import RankSource, find_ranks
from memplan.traces.notes import Notebook
from memplan.traces.profile import (
    Flow,
    MemoryCurve,
    Note,
    OpTotal,
    Overlap,
    Profile,
    RankProfile,
    Slices,
    StepTimes,
)
from memplan.traces.rank import Rank
from memplan.traces.readers.choice import reader_of

SIMULATED = "memplan_simulated"
_EVERY_OP = 1 << 30


class DirectoryProfile:
    """The profile in a directory. Implements `memplan.traces.profile.Profile`; ranks are read when asked for."""

    def __init__(
        self, path: Path, sources: Sequence[RankSource], notes: Notebook, progress: Progress, cache: Path | None
    ) -> None:
        self._path = path
        self._sources = {source.rank: source for source in sources}
        self._notes = notes
        self._progress = progress
        self._cache = cache
        self._ranks: dict[int, Rank] = {}

    @property
    def path(self) -> Path:
        return self._path

    @property
    def producer(self) -> str:
        return next(iter(self._sources.values())).producer

    @property
    def simulated(self) -> bool:
        return any(source.metadata.get(SIMULATED) is True for source in self._sources.values())

    @property
    def ranks(self) -> Sequence[int]:
        return list(self._sources)

    @property
    def notes(self) -> Sequence[Note]:
        return self._notes.notes

    def rank(self, rank: int) -> RankProfile:
        return self._loaded(rank)

    def _loaded(self, rank: int) -> Rank:
        if rank not in self._ranks:
            self._ranks[rank] = Rank(rank, reader_of(self._sources[rank], self._notes, self._progress, self._cache))
        return self._ranks[rank]

    def slices(self, rank: int, track: int, t0: int | None = None, t1: int | None = None) -> Slices:
        return self._loaded(rank).slices(track, t0, t1)

    def flows(self, rank: int, track: int, start_ns: int) -> Sequence[Flow]:
        return self._loaded(rank).flows(track, start_ns)

    def memory(self, component: str, rank: int | None = None) -> MemoryCurve | None:
        ranks = self.ranks if rank is None else [rank]
        curves = (self._loaded(number).memory(component) for number in ranks)
        return next((curve for curve in curves if curve is not None), None)

    def steps(self) -> Mapping[int, Sequence[StepTimes]]:
        return {rank: self._loaded(rank).steps() for rank in self.ranks}

    def overlap(self) -> Mapping[int, Overlap | None]:
        return {rank: self._loaded(rank).overlap() for rank in self.ranks}

    def top_ops(self, count: int = 20) -> Sequence[OpTotal]:
        totals: dict[str, tuple[int, int]] = {}
        for rank in self.ranks:
            for op in self._loaded(rank).top_ops(_EVERY_OP):
                number, time = totals.get(op.type, (0, 0))
                totals[op.type] = (number + op.count, time + op.total_ns)
        ranking = sorted(totals.items(), key=lambda entry: (-entry[1][1], entry[0]))
        return [OpTotal(kind, number, time) for kind, (number, time) in ranking[:count]]

    def load(self) -> None:
        for rank in self.ranks:
            self._loaded(rank).load()


def open_profile(path: str | Path, *, progress: Progress = silent, cache: Path | None = None) -> Profile:
    """
    Open the CANN profile at `path`: see `memplan.traces.discover.find_ranks` for what that may be.

    Only the directory is looked through; each rank's files are read when first asked for. `cache` is the folder for
    imported traces, the user's cache directory by default. Raises `InputError` where there is no profile.
    """
    path = Path(path)
    notes = Notebook(path if path.is_dir() else path.parent)
    return DirectoryProfile(path, find_ranks(path, notes), notes, progress, cache)
