"""Opens a profile directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memplan.progress import Progress, silent
from memplan.traces.discover import RankSource, find_ranks
from memplan.traces.notes import Notebook
from memplan.traces.profile import Note, Profile, RankProfile
from memplan.traces.rank import Rank
from memplan.traces.readers import reader_of

SIMULATED = "memplan_simulated"


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
