"""Finds the ranks of a profile directory and the files of each, without reading more than small JSON files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memplan.errors import InputError
from memplan.traces.files import FileKind, kind_of, natural_key, sorted_by_kind
from memplan.traces.notes import Notebook

OUTPUT = "ASCEND_PROFILER_OUTPUT"
_MSPROF = re.compile(r"PROF_\d+_\d+_[0-9a-zA-Z]+")
_RANK_IN_NAME = re.compile(r"(?:^|[^a-z])rank[_-]?(\d{1,6})(?!\d)", re.IGNORECASE)
_NUMBERED_FILE = re.compile(r"_(\d{1,6})\.(?:json|db)$")
_MOST_FOLDERS = 200_000
_MOST_JSON_BYTES = 64 * 1024 * 1024
_PROFILE_KINDS = frozenset(
    {
        FileKind.TRACE, FileKind.PARTIAL_TRACE, FileKind.KERNELS, FileKind.TASK_TIME, FileKind.MEMORY_RECORD,
        FileKind.OPERATOR_MEMORY, FileKind.MODULE_MEMORY, FileKind.PROCESS_MEMORY, FileKind.STEPS,
        FileKind.COMMUNICATION, FileKind.COMMUNICATION_MATRIX, FileKind.DATABASE, FileKind.ANALYSIS_DATABASE,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RankSource:
    """Where the files of one rank are. `info` and `metadata` are the parsed small JSON files, empty where absent."""

    rank: int
    folder: Path
    producer: str
    files: Mapping[FileKind, Sequence[Path]]
    info: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)

    def of(self, kind: FileKind) -> Sequence[Path]:
        """The rank's files of one kind."""
        return self.files.get(kind, ())


def find_ranks(path: Path, notes: Notebook) -> list[RankSource]:
    """
    The ranks of the profile at `path`, in order of rank.

    `path` is an `ASCEND_PROFILER_OUTPUT` folder, a `*_ascend_pt`, `*_ascend_ms` or `PROF_*` folder, a folder that
    holds several of these at any depth, or one file of a profile. Raises `InputError` where there is nothing to read
    or where two profiles claim the same rank.
    """
    if not path.exists():
        raise InputError("no such file or folder", path=path, remedy="give a folder that a CANN profiler wrote")
    if path.is_file():
        if kind_of(path.name) not in _PROFILE_KINDS:
            raise InputError(
                "is not a file of a CANN profile", path=path, remedy="give the folder that the profiler wrote"
            )
        return _ranked([_described(path.parent, [path], notes)], path)
    sources = [_described(folder, files, notes) for folder, files in _profile_folders(_top_of(path), notes)]
    if not sources:
        raise InputError(
            "no CANN profile here",
            path=path,
            remedy="give a folder with kernel_details.csv, trace_view.json or a profiler database "
            "(ASCEND_PROFILER_OUTPUT, *_ascend_pt, *_ascend_ms or PROF_*)",
        )
    return _ranked(sources, path)


def _top_of(path: Path) -> Path:
    """The folder around an `ASCEND_PROFILER_OUTPUT`: the rank's number is in files beside it."""
    resolved = path if path.name else path.resolve()
    if resolved.name == OUTPUT and resolved.parent.is_dir() and not _ranked_siblings(resolved):
        return resolved.parent
    return path


def _ranked_siblings(output: Path) -> bool:
    try:
        return any(
            entry.is_dir() and entry.name.endswith(("_ascend_pt", "_ascend_ms")) for entry in output.parent.iterdir()
        )
    except OSError:
        return True


def _profile_folders(path: Path, notes: Notebook) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder at or below `path` that is one rank's profile, with all its files."""
    visited = 0
    pending = [path]
    while pending:
        folder = pending.pop()
        visited += 1
        if visited > _MOST_FOLDERS:
            notes.add(path, f"more than {_MOST_FOLDERS} folders: the rest was not searched")
            return
        files, folders = _entries(folder, notes)
        output = next((entry for entry in folders if entry.name == OUTPUT), None)
        if output is not None:
            yield folder, [*files, *_entries(output, notes)[0], *_framework(folders, notes)]
            continue
        if _MSPROF.fullmatch(folder.name):
            inner = _msprof_files(folder, notes)
            if any(kind_of(file.name) in _PROFILE_KINDS for file in inner):
                yield folder, inner
            continue
        if any(kind_of(file.name) in _PROFILE_KINDS for file in files):
            yield folder, files
        pending.extend(reversed(folders))


def _framework(folders: Sequence[Path], notes: Notebook) -> list[Path]:
    """Files of the FRAMEWORK folder that hold what the output folder may lack."""
    found = [entry for entry in folders if entry.name == "FRAMEWORK"]
    return [
        file for folder in found for file in _entries(folder, notes)[0] if kind_of(file.name) is FileKind.MEMORY_RECORD
    ]


def _msprof_files(folder: Path, notes: Notebook) -> list[Path]:
    """All files of a `PROF_*` folder save the raw binary data."""
    found: list[Path] = []
    pending = [folder]
    while pending:
        files, folders = _entries(pending.pop(), notes)
        found.extend(files)
        pending.extend(entry for entry in folders if entry.name not in ("data", "sqlite", "log"))
    return found


def _entries(folder: Path, notes: Notebook) -> tuple[list[Path], list[Path]]:
    """Files and folders in `folder` in natural order; links to folders are not followed, so that none is endless."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    files.append(Path(entry.path))
    except OSError as error:
        notes.add(folder, f"can't be listed: {error.strerror}")
    return sorted(files, key=natural_key), sorted(folders, key=natural_key)


def _described(folder: Path, files: Sequence[Path], notes: Notebook) -> RankSource:
    by_kind = sorted_by_kind(files)
    for file in files:
        if kind_of(file.name) is None:
            notes.add(file, "not read: unknown name")
    info = _small_json(by_kind.get(FileKind.INFO, ()), notes)
    metadata = _small_json(by_kind.get(FileKind.METADATA, ()), notes)
    return RankSource(_rank(folder, by_kind, info), folder, _producer(folder, by_kind, info), by_kind, info, metadata)


def _rank(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object]) -> int:
    """The rank, -1 where nothing tells it. The device number says nothing: rank 2 may run on device 4."""
    told = str(info.get("rank_id", ""))
    if told.isascii() and told.isdigit() and len(told) < 8:
        return int(told)
    for file in (*files.get(FileKind.INFO, ()), *files.get(FileKind.DATABASE, ())):
        if not file.name.startswith("msprof") and (match := _NUMBERED_FILE.search(file.name)):
            return int(match.group(1))
    for name in (folder.name, folder.parent.name):
        if match := _RANK_IN_NAME.search(name):
            return int(match.group(1))
    return -1


def _producer(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object]) -> str:
    databases = [file.name for file in files.get(FileKind.DATABASE, ())]
    if "_ascend_ms" in folder.name or "ms_profiler_info" in info or any("mindspore" in name for name in databases):
        return "MindSpore"
    if _MSPROF.fullmatch(folder.name):
        return "msprof"
    if "_ascend_pt" in folder.name or "torch_npu_version" in info or any("pytorch" in name for name in databases):
        return "torch_npu"
    return "torch_npu" if "config" in info else "CANN"


def _small_json(paths: Sequence[Path], notes: Notebook) -> Mapping[str, object]:
    """The object in the first of `paths`; empty, with a note, where it is not readable."""
    for path in paths[:1]:
        try:
            if path.stat().st_size > _MOST_JSON_BYTES:
                notes.add(path, "skipped: far larger than such a file is")
                return {}
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            notes.add(path, f"skipped: not readable as JSON ({type(error).__name__})")
            return {}
        if isinstance(value, dict):
            return value
        notes.add(path, "skipped: not a JSON object")
    return {}


def _ranked(sources: Sequence[RankSource], path: Path) -> list[RankSource]:
    """Sources with a rank each: unknown ones take the lowest free numbers in order of folder."""
    taken: dict[int, RankSource] = {}
    for source in sources:
        if source.rank >= 0:
            other = taken.setdefault(source.rank, source)
            if other is not source:
                raise InputError(
                    f"holds two profiles of rank {source.rank}: {_below(other.folder, path)} and "
                    f"{_below(source.folder, path)}",
                    path=path,
                    remedy="open the folder of one run",
                )
    free = (rank for rank in range(len(sources)) if rank not in taken)
    for source in sources:
        if source.rank < 0:
            rank = next(free)
            taken[rank] = RankSource(rank, source.folder, source.producer, source.files, source.info, source.metadata)
    return [taken[rank] for rank in sorted(taken)]


def _below(folder: Path, path: Path) -> str:
    return os.path.relpath(folder, path)
