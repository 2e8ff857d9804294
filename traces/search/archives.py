"""
Archives of profiles: `.zip`, `.tar` and `.tar.gz`, unpacked into the cache, once, and read there like any folder.

Archives are untrusted: nothing is written outside the folder, links and devices are left out, and what they may unpack
to is bounded.
"""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.traces.file_kinds import UNPACK_BY_HAND
from memplan.traces.notes import Notebook
from memplan.traces.tables.gzip_files import most_unpacked
from memplan.traces.timeline.store import cache_directory, key_of

if TYPE_CHECKING:
    from typing_extensions import Self

_ENDING = re.compile(r"\.(?:zip|tgz|tar(?:\.\w+)?)$", re.IGNORECASE)
_MOST_ARCHIVES = 64
_MOST_ENTRIES = 200_000
_LONGEST_HEADER = 1 << 20
_BLOCK = 1 << 20
_OTHERS = re.compile(r".+\.(?:7z|rar|zst|lz4)", re.IGNORECASE)
_DAMAGES = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, RuntimeError,
    NotImplementedError, ValueError,
)  # fmt: skip
"""What the libraries raise for archives that are damaged, encrypted, or packed in a way that they don't know."""


def unpacked_archive(path: Path, notes: Notebook) -> Path:
    """
    The folder in the cache that holds what is in the archive at `path`; `notes` tell what of it is left out.

    It is called like the archive, save where all lies in one folder, which it is then: names tell ranks and times.
    Raises `InputError` where it can't be read at all, holds too many files, or far more than an archive of its size.
    """
    if _OTHERS.fullmatch(path.name):
        raise InputError("is packed in a way that is not read", path=path, remedy=UNPACK_BY_HAND)
    try:
        cache = cache_directory() / "archives"
        folder = cache / key_of([path], "named archive").name
        told = folder.with_suffix(".notes")
        if not told.exists():
            cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            building = Path(tempfile.mkdtemp(prefix="memplan-", dir=cache))
            try:
                inside = building / _called(path)
                inside.mkdir()
                left_out = list(_unpack(path, inside))
                shutil.rmtree(folder, ignore_errors=True)
                building.replace(folder)
                told.write_text("\n".join(left_out), encoding="utf-8", errors="replace")
            finally:
                shutil.rmtree(building, ignore_errors=True)
        for text in filter(None, told.read_text(encoding="utf-8").split("\n")):
            notes.add(path, text)
    except OSError as error:
        raise InputError("can't be unpacked: {}", reason(error), path=path) from None
    inside = folder / _called(path)
    notes.name_below(inside, path)
    entries = list(inside.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else inside


def unpacked_archives(paths: Sequence[Path], notes: Notebook) -> Iterator[Path]:
    """The folders of what is in `paths`; `notes` tell of those that can't be read, and of those beyond the 64th."""
    for path in paths[:_MOST_ARCHIVES]:
        try:
            yield unpacked_archive(path, notes)
        except InputError as error:  # noqa: PERF203 - the others are read all the same
            notes.add(path, error.message)
    for path in paths[_MOST_ARCHIVES:]:
        notes.add(
            path, Sentence("not unpacked: more than {} [archive|archives]; open it by its own path", (_MOST_ARCHIVES,))
        )


def _called(path: Path) -> str:
    """The name of the folder for what is in an archive."""
    return _ENDING.sub("", path.name).encode()[:200].decode(errors="ignore") or "archive"


def _unpack(path: Path, folder: Path) -> Iterator[str]:
    """Write the files of an archive into `folder`; what was left out, in words."""
    most, done, skipped = most_unpacked(path), 0, 0
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise InputError(
            "can't be unpacked: no archive, or cut off: its list of files, at the end, is missing", path=path
        )
    entries = _zip_entries(path) if zipfile.is_zipfile(path) else _tar_entries(path)
    try:
        for number, (name, file) in enumerate(entries):
            target = _place(folder, name)
            if number >= _MOST_ENTRIES:
                raise InputError("holds more than {:,} files", _MOST_ENTRIES, path=path, remedy=UNPACK_BY_HAND)
            if target is None or file is None:
                skipped += 1
                if skipped <= 8:
                    yield f"{_shown(name)}: not unpacked: {'leads outside' if target is None else 'no plain file'}"
                continue
            with suppress(FileExistsError, NotADirectoryError):
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with target.open("xb") as sink:
                    while block := file.read(_BLOCK):
                        done += len(block)
                        if done > most:
                            raise InputError("unpacks to far more than it should", path=path, remedy=UNPACK_BY_HAND)
                        sink.write(block)
            except (FileExistsError, IsADirectoryError, NotADirectoryError, FileNotFoundError):
                yield f"{_shown(name)}: not unpacked: another entry has its name"
            except _DAMAGES as error:
                yield f"{_shown(name)}: damaged: unpacked up to the damage only ({_shown(str(error))})"
                if not zipfile.is_zipfile(path):
                    return
    except _DAMAGES as error:
        if not any(folder.iterdir()):
            raise InputError("can't be unpacked: {}", _shown(str(error)), path=path) from None
        yield f"damaged: what follows in it is not unpacked ({_shown(str(error))})"
    if skipped > 8:
        yield f"{skipped} entries not unpacked in all"


def _zip_entries(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            link = (entry.external_attr >> 16) & 0o170000 == 0o120000
            if entry.is_dir() or entry.filename.endswith("\\"):
                continue
            if entry.flag_bits & 1:
                raise NotImplementedError("its files are encrypted")
            if link:
                yield entry.filename, None
                continue
            with archive.open(entry) as file:
                yield entry.filename, file


class _BoundedHeader(tarfile.TarInfo):
    """A header whose extension (a long name, say) is read only if it is as short as such are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in one block."""
        found = super().frombuf(buf, encoding, errors)
        kinds = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
        if found.type in (*kinds, tarfile.GNUTYPE_LONGLINK) and found.size > _LONGEST_HEADER:
            raise tarfile.ReadError("a header is far too long")
        return found


def _tar_entries(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(path, "r|*", tarinfo=_BoundedHeader) as archive:
        for entry in archive:
            if not entry.isdir():
                yield entry.name, archive.extractfile(entry) if entry.isreg() else None


def _place(folder: Path, name: str) -> Path | None:
    """Where an entry goes, with either kind of slash; `None` for one that leads outside."""
    parts = [part for part in re.split(r"[\\/]+", name.replace("\0", "")) if part not in ("", ".")]
    absolute = name[:1] in ("/", "\\") or re.match(r"[A-Za-z]:", name) is not None
    if absolute or not parts or ".." in parts or any(len(part.encode(errors="replace")) > 250 for part in parts):
        return None
    return folder.joinpath(*parts)


def _shown(text: str) -> str:
    return text[:120].replace("\n", " ").replace("\r", " ")
