"""The folders that an assistant may have read, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from memplan.core.errors import InputError

_MOST_FILES = 200_000


class ReadableFolders:
    """
    Folders and all below them; a link that leads out of them counts as outside.

    Raises `InputError` for no folder at all and for one that does not exist.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if not folders:
            raise InputError("no folder was named that may be read", remedy="name one: memplan mcp FOLDER")
        for folder in folders:
            if not folder.is_dir():
                raise InputError("is no folder", path=folder, remedy="name a folder that exists")
        self.roots = tuple(folder.resolve() for folder in folders)

    def readable(self, name: str) -> Path:
        """
        The file or folder `name`, relative to the first of the folders that has it, where links lead to.

        Raises `InputError` for one that is outside, doesn't exist, or holds a link that leads outside.
        """
        if "\0" in name:
            raise InputError("a path with a zero byte is none")
        try:
            return self._found(name)
        except (OSError, UnicodeError):
            # Too long a name, or one that no file can have.
            raise InputError("no file or folder can have this name", path=name[:40]) from None

    def _found(self, name: str) -> Path:
        given = Path(name)
        wanted = [given] if given.is_absolute() else [root / given for root in self.roots]
        inside = [path for candidate in wanted if self._inside(path := candidate.resolve())]
        if not inside:
            roots = ", ".join(map(str, self.roots))
            raise InputError("is outside the folders that may be read", path=name, remedy=f"name one below {roots}")
        found = next((path for path in inside if path.exists()), None)
        if found is None:
            raise InputError("no such file or folder", path=name)
        if found.is_dir():
            self._refuse_links_outside(found, name)
        return found

    def _inside(self, path: Path) -> bool:
        return any(path == root or root in path.parents for root in self.roots)

    def _refuse_links_outside(self, folder: Path, name: str) -> None:
        seen = 0
        for top, folders, files in os.walk(folder):
            for entry in (*folders, *files):
                seen += 1
                path = Path(top, entry)
                if path.is_symlink() and not self._inside(path.resolve()):
                    raise InputError(
                        f"holds a link that leads outside the folders that may be read: {path.name}", path=name
                    )
            if seen > _MOST_FILES:
                raise InputError(f"holds more than {_MOST_FILES:,} files", path=name, remedy="name one profile of it")
