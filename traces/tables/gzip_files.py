"""Unpacks gzip files, with an eye on those that unpack to far more than they should."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.notes import Notebook

GZIP_MARK = b"\x1f\x8b"
"""What gzip files begin with."""
_MOST_BYTES = 20 * 1024**3
_MOST_RATIO = 500  # a real trace packs to about a twentieth
_HARMLESS = 64 * 1024 * 1024
_BLOCK = 4 * 1024 * 1024


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does; raises `OSError` where it can't be read."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MARK


def most_unpacked(path: Path) -> int:
    """How many bytes a file may unpack to before that is no longer believed."""
    return min(max(path.stat().st_size * _MOST_RATIO, _HARMLESS), _MOST_BYTES)


def unzip(path: Path, target: Path, notes: Notebook, progress: Progress) -> None:
    """
    Unpack `path` into `target`, block by block. What a damaged file still gives is kept, with a note.

    Raises `InputError` where it holds more than 20 GB, or 500 times its own size.
    """
    size, most = path.stat().st_size, most_unpacked(path)
    done = 0
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file, target.open("wb") as sink:
        try:
            while block := file.read1(_BLOCK):  # what there is, before an end that comes too early
                done += len(block)
                if done > most:
                    raise InputError(
                        "unpacks to far more than a trace of its size holds", path=path, remedy="unpack it yourself"
                    )
                sink.write(block)
                progress(raw.tell(), size, f"packed bytes of {path.name}")
        except (EOFError, OSError, zlib.error) as error:
            notes.add(
                path, Sentence("damaged: only the first {} unpacked [byte|bytes] could be read ({})", (done, error))
            )
