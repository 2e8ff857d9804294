"""Opens a profile directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memplan.core.progress import Progress
from memplan.traces.discover import find_ranks
from memplan.traces.notes import Notebook
from memplan.traces.parallel_groups import parallel_groups
from memplan.traces.profile import Note
from memplan.traces.rank import RankProfile, RankReader
from memplan.traces.rank_source import RankSource
from memplan.traces.readers.choice import open_reader

_logger = logging.getLogger(__name__)

_SIMULATED = "memplan_simulated"  # what the simulator writes into a profile's metadata


class Profile:
    """
    A profile directory: its ranks, read when asked for, and what could not be read.

    `simulated` is true when the files say that a simulator wrote them; every view must show it. `notes` lists what
    has been skipped or repaired so far: it grows as ranks are read.
    """

    def __init__(self, path: Path, sources: Sequence[RankSource], notes: Notebook, cache: Path | None) -> None:
        self._path = path
        self._notes = notes
        self._producer = sources[0].producer
        self._simulated = any(source.metadata.get(_SIMULATED) is True for source in sources)
        self._ranks = {
            source.rank: RankProfile(
                source.rank,
                _opener(source, notes, cache),
                parallel_groups(source.metadata),
                _environment(source.metadata),
                source.producer,
            )
            for source in sources
        }

    @property
    def path(self) -> Path:
        """What was opened."""
        return self._path

    @property
    def producer(self) -> str:
        """The tool that wrote the first rank's files."""
        return self._producer

    @property
    def simulated(self) -> bool:
        """Whether the files say that a simulator wrote them."""
        return self._simulated

    @property
    def ranks(self) -> Sequence[int]:
        """The ranks' numbers, ascending."""
        return list(self._ranks)

    @property
    def notes(self) -> Sequence[Note]:
        """What was skipped, repaired or assumed so far."""
        return self._notes.notes

    def rank(self, rank: int) -> RankProfile:
        """The profile of one rank; raises `KeyError` for a rank that is not there."""
        return self._ranks[rank]


def open_profile(path: str | Path, *, cache: Path | None = None) -> Profile:
    """
    Open the CANN profile at `path`: see `memplan.traces.discover.find_ranks` for what that may be.

    Only the directory is looked through; each rank's files are read when first asked for, watched by whoever asks.
    `cache` is the folder for imported traces, the user's cache directory by default. Raises `InputError` where there is
    no profile.
    """
    path = Path(path)
    notes = Notebook(path if path.is_dir() else path.parent)
    profile = Profile(path, find_ranks(path, notes), notes, cache)
    _logger.info("reading %s: a profile of %s, %d ranks", path, profile.producer, len(profile.ranks))
    return profile


def _environment(metadata: Mapping[str, object]) -> dict[str, str]:
    """Environment variables as torch_npu writes them into a profile's metadata."""
    told = metadata.get("ENV_VARIABLES")
    return {str(name): str(value) for name, value in told.items()} if isinstance(told, Mapping) else {}


def _opener(source: RankSource, notes: Notebook, cache: Path | None) -> Callable[[Progress], RankReader]:
    return lambda progress: open_reader(source, notes, progress, cache)
