"""
The store of imported traces: sorted columns as Arrow files in the user's cache directory, mapped into memory.

An entry is a folder named by a hash of everything that its content depends on. It is written beside its place and
then renamed, so that a crash leaves no half entry; whatever can't be read is thrown away and imported again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from memplan.core.sentence import Sentence
from memplan.traces.profile import Note, NoteSeverity, Track, TrackKind
from memplan.traces.timeline.columns import CounterColumns, FlowColumns, SliceColumns, TimelineColumns

STORE_VERSION = 3
_ENTRY = "entry.json"
_STRINGS = "strings.arrow"
_SAMPLE = 64 * 1024
_SAMPLES = 30
_STALE_SECONDS = 24 * 3600
_COLUMNS = {
    group: [field.name for field in fields(kind) if field.name != "series"]
    for group, kind in (("slices", SliceColumns), ("counters", CounterColumns), ("flows", FlowColumns))
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One imported profile: its sources, its size in bytes and when it was made (seconds since 1970)."""

    folder: Path
    sources: Sequence[str]
    size: int
    created: float


@dataclass(frozen=True, slots=True)
class EntryKey:
    """What an entry is made of: name of its folder and signatures of its source files."""

    name: str
    sources: Sequence[str]


def cache_directory() -> Path:
    """The user's cache directory for imported traces (`MEMPLAN_CACHE_DIR` overrides it); it need not exist."""
    if told := os.environ.get("MEMPLAN_CACHE_DIR"):
        return Path(told) / "traces"
    import platformdirs  # loaded where no folder is named, for little else needs one

    return platformdirs.user_cache_path("memplan", appauthor=False) / "traces"


def key_of(paths: Sequence[Path], part: str = "") -> EntryKey:
    """
    The key of what is imported from `paths`, or of a part of it: their full names, sizes, times of change and contents.

    Of files over 2 MB the beginning, the end and evenly spread samples count, so that opening stays quick.
    """
    digest = hashlib.blake2b(f"{STORE_VERSION}{part}".encode(), digest_size=20)
    for path in paths:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest.update(
                f"\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape")
            )
            if status.st_size <= _SAMPLE * (_SAMPLES + 2):
                digest.update(file.read())
            else:
                for number in range(_SAMPLES + 1):
                    file.seek((status.st_size - _SAMPLE) * number // _SAMPLES)
                    digest.update(file.read(_SAMPLE))
    return EntryKey(digest.hexdigest(), [str(path.resolve()) for path in paths])


class Texts(Sequence[str]):
    """Strings of a mapped Arrow column, decoded when asked for."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            found: list[str] = self._column[index].to_pylist()
            return found
        text: str = self._column[int(index)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self._column.to_pylist())


class Store:
    """Entries under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, key: EntryKey) -> tuple[TimelineColumns, list[Note]] | None:
        """The timeline under `key` and the notes of its import, or `None` where there is no whole entry."""
        folder = self._root / key.name
        try:
            described = json.loads((folder / _ENTRY).read_bytes())
            return _timeline(folder, described), [
                Note(file, text, NoteSeverity(severity), _told(said))
                for file, text, severity, *said in described["notes"]
            ]
        except FileNotFoundError:
            return None
        except Exception:  # noqa: BLE001  whatever is wrong with a cached file, the cure is to import again
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def save(self, key: EntryKey, timeline: TimelineColumns, notes: Sequence[Note], extra: Sequence[Path]) -> None:
        """
        Write an entry; raises `OSError` where that is not possible. `extra` are files to move into it.

        Columns are written one by one, and none is copied.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        building = Path(tempfile.mkdtemp(prefix=f"{key.name}.new-", dir=self._root))
        try:
            columns: dict[str, NDArray[Any] | list[str]] = {
                f"{group}.{name}.arrow": getattr(getattr(timeline, group), name)
                for group, names in _COLUMNS.items()
                for name in names
            }
            columns[_STRINGS] = list(timeline.strings)
            from concurrent.futures import ThreadPoolExecutor  # which profiles without a trace don't need

            with ThreadPoolExecutor(2) as pool:
                sizes = dict(
                    zip(columns, pool.map(lambda name: _write(building / name, columns[name]), columns), strict=True)
                )
            for file in extra:
                file.replace(building / file.name)
            described = {
                "version": STORE_VERSION,
                "sources": list(key.sources),
                "created": time.time(),
                "notes": [(note.file, note.text, note.severity.value, *_plain(note.told)) for note in notes],
                "sizes": sizes,
                "series": list(timeline.counters.series),
                "tracks": [[track.kind.value, track.process, track.thread, track.count] for track in timeline.tracks],
            }
            (building / _ENTRY).write_text(json.dumps(described))
            target = self._root / key.name
            try:
                building.rename(target)
            except OSError:
                # Somebody else imported the same meanwhile, or a broken entry is in the way.
                if not (target / _ENTRY).exists():
                    raise
                shutil.rmtree(building, ignore_errors=True)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise

    def scratch(self) -> Path | None:
        """A folder for temporary files from which `save` can move; `None` where there is none to write in."""
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            return None
        return self._root if os.access(self._root, os.W_OK) else None

    def path(self, key: EntryKey, name: str) -> Path:
        """Where a further file of an entry is."""
        return self._root / key.name / name

    def entries(self) -> list[Entry]:
        """All entries, latest first."""
        found = [_entry(folder) for folder in self._root.iterdir()] if self._root.is_dir() else []
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.created)

    def clear(self) -> int:
        """Remove everything, also what crashes left behind; return the bytes that were freed."""
        freed = 0
        for folder in list(self._root.iterdir()) if self._root.is_dir() else ():
            if folder.is_dir() and not folder.is_symlink():
                freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def _sweep(self) -> None:
        """Remove what imports that crashed a day or more ago left behind."""
        for folder in (*self._root.glob("*.new-*"), *self._root.glob("memplan-*")):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def _entry(folder: Path) -> Entry | None:
    """What is in `folder`, `None` where it is no whole entry."""
    try:
        described = json.loads((folder / _ENTRY).read_bytes())
        size = sum(file.stat().st_size for file in folder.iterdir())
        return Entry(folder, [str(source) for source in described["sources"]], size, float(described["created"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, column: NDArray[Any] | list[str]) -> int:
    """Write a column as an Arrow file; return the file's size in bytes."""
    import pyarrow as pa

    # Not `pa.array`: that would import pandas, which takes longer than everything else here.
    if isinstance(column, list):
        encoded = [text.encode(errors="replace") for text in column]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        parts = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
        values = pa.Array.from_buffers(pa.large_string(), len(column), parts)
    else:
        kind = pa.from_numpy_dtype(column.dtype)
        values = pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(np.ascontiguousarray(column))])
    batch = pa.record_batch([values], names=["values"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return path.stat().st_size


def _column(path: Path) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column(0)


def _numbers(path: Path) -> NDArray[Any]:
    column = _column(path)
    buffer = column.buffers()[1]
    # Not `to_numpy`, for the same reason as above.
    return (
        np.frombuffer(buffer, dtype=_DTYPES[str(column.type)], count=len(column))
        if len(column)
        else _EMPTY[str(column.type)]
    )


_DTYPES = {"int64": np.int64, "int32": np.int32, "int16": np.int16, "double": np.float64}
_EMPTY = {name: np.empty(0, dtype=dtype) for name, dtype in _DTYPES.items()}


def _timeline(folder: Path, described: dict[str, Any]) -> TimelineColumns:
    """The timeline in `folder`; raises all sorts of errors where the entry is not whole."""
    if described["version"] != STORE_VERSION:
        raise ValueError("made by another version")
    if any((folder / name).stat().st_size != size for name, size in described["sizes"].items()):
        raise ValueError("not whole")
    parts: dict[str, dict[str, Any]] = {
        group: {name: _numbers(folder / f"{group}.{name}.arrow") for name in names} for group, names in _COLUMNS.items()
    }
    tracks = [
        Track(number, TrackKind(kind), process, thread, count)
        for number, (kind, process, thread, count) in enumerate(described["tracks"])
    ]
    return TimelineColumns(
        tracks,
        Texts(_column(folder / _STRINGS)),
        SliceColumns(**parts["slices"]),
        CounterColumns(**parts["counters"], series=[(track, name, unit) for track, name, unit in described["series"]]),
        FlowColumns(**parts["flows"]),
    )


def _plain(told: Sentence | None) -> tuple[object, ...]:
    """A note's template and its values as JSON has them; nothing where a value is a sentence or another object."""
    if told is None or not all(isinstance(value, str | int | float) for value in told.values):
        return ()
    return told.text, *told.values


def _told(plain: Sequence[Any]) -> Sentence | None:
    """The note's sentence again; none of an entry that has only its text."""
    return Sentence(plain[0], tuple(plain[1:])) if plain else None
