"""The folders of a profile that are one rank's each, with their files: what a walk through folders finds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from memplan.core.errors import reason
from memplan.core.sentence import Sentence
from memplan.traces.file_kinds import (
    CLUSTER_KINDS,
    PROFILE_KINDS,
    FileKind,
    file_kind,
    is_archive,
    kind_by_name,
    natural_key,
)
from memplan.traces.notes import Notebook

OUTPUT = "ASCEND_PROFILER_OUTPUT"
UNPARSED = "holds raw data that no profiler has parsed yet"
MSPROF_FOLDER = re.compile(r"PROF_\d+_\d+_[0-9a-zA-Z]+")
_RUN_ENDS = ("_ascend_pt", "_ascend_ms")
"""How torch_npu and MindSpore end the name of the folder of one rank's run."""
_NO_FOLDER = "is named like the folder of a rank but is a file; was a link to the folder copied as text?"
_MOST_FOLDERS = 200_000
_IN_FRAMEWORK = frozenset({FileKind.MEMORY_RECORD, FileKind.MEMORY_USAGE, FileKind.HOST_OPS, FileKind.HOST_LAUNCHES})
EACH_A_PROFILE = frozenset({FileKind.MEMSCOPE, FileKind.SNAPSHOT, FileKind.MEMORY_BLOCKS})  # each file is a profile


def top_of(path: Path) -> Path:
    """The folder around an `ASCEND_PROFILER_OUTPUT`: the rank's number is in files beside it."""
    resolved = path if path.name else path.resolve()
    if resolved.name == OUTPUT and resolved.parent.is_dir() and not _ranked_siblings(resolved):
        return resolved.parent
    return path


def _ranked_siblings(output: Path) -> bool:
    try:
        return any(entry.is_dir() and entry.name.endswith(_RUN_ENDS) for entry in output.parent.iterdir())
    except OSError:
        return True


def profile_folders(path: Path, notes: Notebook, archives: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder at or below `path` that is one rank's profile, with all its files; adds `archives` that it saw."""
    visited = 0
    pending = [path]
    while pending:
        folder = pending.pop()
        visited += 1
        if visited > _MOST_FOLDERS:
            notes.add(path, Sentence("more than {} [folder|folders]: the rest was not searched", (_MOST_FOLDERS,)))
            return
        files, folders = _entries(folder, notes)
        archives.extend(file for file in files if is_archive(file))
        output = next((entry for entry in folders if entry.name == OUTPUT), None)
        if output is not None:
            parsed = _entries(output, notes)[0]
            yield folder, [*files, *parsed, *_framework(folders, notes)]
            if parsed:
                continue
        if MSPROF_FOLDER.fullmatch(folder.name):
            inner = _msprof_files(folder, notes)
            if any(kind_by_name(file.name) in PROFILE_KINDS | {FileKind.TABLE} for file in inner):
                yield folder, inner
            else:
                notes.add(folder, Sentence("{}; {}", (UNPARSED, parse_remedy(folder))))
            continue
        if folder.name == "FRAMEWORK":
            continue
        if any(file_kind(file) in PROFILE_KINDS | EACH_A_PROFILE | CLUSTER_KINDS for file in files):
            yield folder, files
        pending.extend(reversed(folders))


def parse_remedy(folder: Path) -> str:
    """How to parse raw data, with the tool that makes the files of `folder`'s framework."""
    for above in (folder, folder.parent):
        if above.name.endswith("_ascend_pt"):
            return f"run torch_npu.profiler.profiler.analyse('{above.name}') on it first"
        if above.name.endswith("_ascend_ms"):
            return f"run mindspore.profiler.profiler.analyse('{above.name}') on it first"
    return "run `msprof --export=on --output=<folder>` on it first"


def _framework(folders: Sequence[Path], notes: Notebook) -> list[Path]:
    """Files of the FRAMEWORK folder that hold what the output folder may lack."""
    found = [entry for entry in folders if entry.name == "FRAMEWORK"]
    return [file for folder in found for file in _entries(folder, notes)[0] if kind_by_name(file.name) in _IN_FRAMEWORK]


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
                elif entry.is_symlink() and (led := _led_astray(entry)):
                    notes.add(Path(entry.path), Sentence("not read: {}: {}", (led, os.path.realpath(entry.path))))
                elif entry.is_file():
                    if entry.name.endswith(_RUN_ENDS) or MSPROF_FOLDER.fullmatch(entry.name):
                        notes.add(Path(entry.path), Sentence("not read: {}", (_NO_FOLDER,)))
                    files.append(Path(entry.path))
    except OSError as error:
        notes.add(folder, Sentence("can't be listed: {}", (reason(error),)))
    return sorted(files, key=_natural_name), sorted(folders, key=_natural_name)


def _led_astray(link: os.DirEntry[str]) -> str:
    """Where a link leads that leads to no file, empty for any other."""
    try:
        if link.is_dir():
            return "a link to a folder, which is not followed"
        return "" if link.is_file() else "a link to nothing"
    except OSError:
        return "a link to itself"


def _natural_name(path: Path) -> list[tuple[int, int, str]]:
    return natural_key(path.name)
