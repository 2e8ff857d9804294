"""Notes: what a reader skipped, repaired or did not find, builder while it reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from memplan.core.sentence import Sentence, Text
from memplan.traces.profile import Note, NoteSeverity

_MOST = 1000
_KEPT = (str, int, float, Sentence)


class Notebook:
    """
    Notes of one profile, each told once; readers on several threads may add to them.

    Keeps at most a thousand, so that a hostile file can't fill the memory with complaints; the last one then says
    that more were dropped.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places: list[tuple[Path, Path]] = []
        self._notes: dict[tuple[str, str], Note] = {}
        self._lock = threading.Lock()

    @property
    def root(self) -> Path:
        """The folder relative to which files are named."""
        return self._root

    def name_below(self, folder: Path, shown: Path) -> None:
        """Name files below `folder`, where an archive was unpacked, as if they were below `shown`."""
        self._places.append((folder, shown))

    def tell(self, file: Path | str, text: Text) -> None:
        """Note how `file` was read, with nothing lost by it."""
        self.add(file, text, NoteSeverity.INFO)

    def add(self, file: Path | str, text: Text, severity: NoteSeverity = NoteSeverity.WARNING) -> None:
        """Note `text` about `file`, named relative to the profile's folder: by default, that something is missing."""
        name = str(file)
        if isinstance(file, Path):
            for folder, shown in self._places:
                if file.is_relative_to(folder):
                    file = shown / file.relative_to(folder)
            below = file != self._root and file.is_relative_to(self._root)
            name = file.relative_to(self._root).as_posix() if below else file.name
        with self._lock:
            if len(self._notes) < _MOST:
                plain, told = str(text), _kept(text)
                self._notes.setdefault((name, plain), Note(name, plain, severity, told))
            elif len(self._notes) == _MOST:
                self._notes["", ""] = Note("", "more notes than can be listed: the rest is not shown")

    @property
    def notes(self) -> Sequence[Note]:
        """All notes so far, in the order in which they were made."""
        with self._lock:
            return tuple(self._notes.values())


def _kept(text: Text) -> Sentence | None:
    """The sentence without the objects in it that would hold on to what is read, such as errors."""
    if isinstance(text, str):
        return None
    return Sentence(text.text, tuple(value if isinstance(value, _KEPT) else str(value) for value in text.values))
