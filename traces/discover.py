"""Finds the ranks of a profile directory and the files of each, without reading more than small JSON files."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.core.sentence import Sentence
from memplan.traces.file_kinds import (
    CLUSTER_KINDS,
    PROFILE_KINDS,
    UNPACK_BY_HAND,
    FileKind,
    is_archive,
    kind_by_name,
    natural_key,
    sorted_by_kind,
)
from memplan.traces.logs.cache_use import use_in_log
from memplan.traces.logs.failure_log import failures_in_log
from memplan.traces.logs.sleep_log import sleeps_in_log
from memplan.traces.notes import Notebook
from memplan.traces.rank_source import RankSource
from memplan.traces.search.folder_parts import folder_parts
from memplan.traces.search.one_per_rank import MOST_NAMED, RANK_IN_NAME, one_per_rank
from memplan.traces.search.small_json import small_json
from memplan.traces.tables.cluster_steps import steps_by_rank

_MEMSCOPE_HEADER = b"ID,Event,Event Type,Name,Timestamp(ns),"
_MEMSCOPE_DATABASE = re.compile(r"memscope_dump_\w+\.db", re.IGNORECASE)
_NOT_MEMSCOPE_CSV = "is the database form of an msMemScope dump, of which only the CSV form is read"
_PRODUCERS = {
    FileKind.MEMSCOPE: "msMemScope",
    FileKind.SNAPSHOT: "torch_npu snapshot",
    FileKind.MEMORY_BLOCKS: "MindSpore memory tracker",
    FileKind.MINDIE: "msServiceProfiler",
    FileKind.OPERATOR: "msopprof",
}
KINETO = "torch.profiler"
"""The producer of traces that name the schema of Kineto, or end as its handler for TensorBoard names them."""
_TRACE_KEYS = (b'"traceEvents"', b'"ph"')
"""One of which the beginning of a trace has, whatever the file is called."""
_MOST_HEAD = 1 << 20
_KINETO_KEYS = (b'"schemaVersion"', b'"deviceProperties"')
OUTPUT = "ASCEND_PROFILER_OUTPUT"
_UNPARSED = "holds raw data that no profiler has parsed yet"
_MSPROF = re.compile(r"PROF_\d+_\d+_[0-9a-zA-Z]+")
_RUN_ENDS = ("_ascend_pt", "_ascend_ms")
"""How torch_npu and MindSpore end the name of the folder of one rank's run."""
_NO_FOLDER = "is named like the folder of a rank but is a file; was a link to the folder copied as text?"
_NUMBERED_FILE = re.compile(r"_(\d{1,6})\.(?:json|db)$")
_MOST_FOLDERS = 200_000
_IN_FRAMEWORK = frozenset({FileKind.MEMORY_RECORD, FileKind.MEMORY_USAGE, FileKind.HOST_OPS, FileKind.HOST_LAUNCHES})
_ALONE = frozenset({FileKind.MEMSCOPE, FileKind.SNAPSHOT, FileKind.MEMORY_BLOCKS})  # each file is a profile


def find_ranks(path: Path, notes: Notebook) -> list[RankSource]:
    """
    The ranks of the profile at `path`, in order of rank.

    `path` is an `ASCEND_PROFILER_OUTPUT` folder, a `*_ascend_pt`, `*_ascend_ms` or `PROF_*` folder, a folder that
    holds several of these at any depth, an archive of such a folder, or one file of a profile. Raises `InputError`
    where there is nothing to read or where two profiles claim the same rank.
    """
    if not path.exists():
        raise InputError("no such file or folder", path=path, remedy="give a folder that a CANN profiler wrote")
    if is_archive(path):
        from memplan.traces.search.archives import unpacked_archive  # brings what most profiles do without

        return _found(unpacked_archive(path, notes), notes, shown=path)
    return _found(path, notes, shown=path)


def _found(path: Path, notes: Notebook, shown: Path) -> list[RankSource]:
    """The ranks at `path`, which is `shown` to the user under that name."""
    if path.is_file():
        of_cluster = file_kind(path) in CLUSTER_KINDS
        return one_per_rank(_from_cluster([path], notes) if of_cluster else [_single(path, notes)], path, notes)
    sources = []
    clusters: list[Path] = []
    archives: list[Path] = []
    for folder, files in _profile_folders(_top_of(path), notes, archives):
        sources += _of_folder(folder, files, clusters, notes)
    if archives and not sources and not clusters:
        from memplan.traces.search.archives import unpacked_archives

        packed: list[Path] = []
        for level in (archives, packed):  # an archive in an archive, as those who gather results make them
            for inside in unpacked_archives(level, notes):
                for folder, files in _profile_folders(inside, notes, packed if level is archives else []):
                    sources += _of_folder(folder, files, clusters, notes)
    else:
        for archive in archives:
            notes.add(archive, "an archive beside profiles is not unpacked: open it by its own path")
    _say_of_cluster(clusters, sources, notes)
    sources = [*sources, *_only_in_cluster(clusters, sources, notes)] if sources else _from_cluster(clusters, notes)
    if not sources and (raw := next((note for note in notes.notes if _UNPARSED in note.text), None)) is not None:
        raise InputError(_UNPARSED, path=path / raw.file, remedy=raw.text.partition("; ")[2])
    if not sources and archives:
        names = {archive.name for archive in archives}
        told = next((note for note in notes.notes if Path(note.file).name in names), None)
        if told is not None:
            raise InputError("no CANN profile here, and {} {}", told.file, told.text, path=shown, remedy=UNPACK_BY_HAND)
    if not sources:
        raise InputError(
            "no CANN profile here",
            path=shown,
            remedy="give a folder with kernel_details.csv, trace_view.json or a profiler database "
            "(ASCEND_PROFILER_OUTPUT, *_ascend_pt, *_ascend_ms or PROF_*)",
        )
    return one_per_rank(sources, path, notes)


def _of_folder(folder: Path, files: Sequence[Path], clusters: list[Path], notes: Notebook) -> list[RankSource]:
    """The profiles in one folder; files that tell of all ranks of a job go to `clusters`."""
    kinds = {file: file_kind(file) for file in files}
    alone = [file for file in files if kinds[file] in _ALONE]
    of_all = [file for file in files if kinds[file] in CLUSTER_KINDS]
    clusters.extend(of_all)
    found = []
    if any(kind in PROFILE_KINDS for kind in kinds.values()) or _MSPROF.fullmatch(folder.name):
        apart = {*alone, *of_all}
        first, *others = folder_parts([file for file in files if file not in apart], kinds)
        found.append(_described(folder, first, notes))
        # What the folder is called tells the rank of the first only.
        found += [replace(_described(folder, part, notes), rank=_numbered_rank(part)) for part in others]
    elif not alone and (folder / OUTPUT).is_dir():
        notes.add(
            folder, Sentence("its {} holds no profile: parsing did not finish; {}", (OUTPUT, _parse_remedy(folder)))
        )
    return found + [_described(folder, [file], notes) for file in alone]


def _numbered_rank(files: Sequence[Path]) -> int:
    """The rank that the names of files tell, -1 where they tell none."""
    return next((int(match.group(1)) for file in files if (match := _NUMBERED_FILE.search(file.name))), -1)


def _single(path: Path, notes: Notebook) -> RankSource:
    """One file of a profile, told by its name or, failing that, by its form."""
    if _MEMSCOPE_DATABASE.fullmatch(path.name):
        raise InputError(_NOT_MEMSCOPE_CSV, path=path, remedy="let msMemScope write CSV files (--data-format=csv)")
    kind = file_kind(path)
    if kind in (None, FileKind.TABLE, FileKind.IGNORED):
        suffixes = "".join(path.suffixes[-2:]).lower()
        by_suffix = {".json": FileKind.TRACE, ".json.gz": FileKind.TRACE, ".db": FileKind.DATABASE}
        kind = by_suffix.get(suffixes, by_suffix.get(path.suffix.lower(), kind))
        if kind is FileKind.TRACE:
            head = _head(path, _MOST_HEAD)
            kind = kind if any(key in head for key in _TRACE_KEYS) else None
    if kind in (None, FileKind.LOG, FileKind.IGNORED) and _tells(path, notes):
        return RankSource(0, path.parent, "log", {FileKind.LOG: [path]})
    if kind not in PROFILE_KINDS | _ALONE:
        raise InputError("is not a file of a CANN profile", path=path, remedy="give the folder that the profiler wrote")
    described = _described(path.parent, [path], notes)
    files: dict[FileKind, list[Path]] = {kind: [path]} if kind else {}
    producer = KINETO if kind is FileKind.TRACE and _is_kineto(path) else described.producer
    return RankSource(described.rank, path.parent, producer, files) if kind else described


def _tells(log: Path, notes: Notebook) -> bool:
    """Whether a log tells of an allocation that failed, of a KV cache, or of an engine that sleeps."""
    return bool(failures_in_log(log, notes)) or not use_in_log(log).empty or bool(sleeps_in_log(log, notes))


def _say_of_cluster(paths: Sequence[Path], sources: Sequence[RankSource], notes: Notebook) -> None:
    """Note which files that tell of all ranks of a job are not read: one analysis is, where ranks' profiles are not."""
    shown = None if sources or not paths else paths[0].parent
    why = "the ranks' own profiles are" if sources else "another analysis is"
    for path in paths:
        if path.parent != shown:
            notes.tell(path, Sentence("not read: {}; open it by its own path for what it says of all ranks", (why,)))


def _only_in_cluster(paths: Sequence[Path], sources: Sequence[RankSource], notes: Notebook) -> list[RankSource]:
    """Sources for the ranks that an analysis has steps of, and that have no profile of their own beside it."""
    known = {source.rank for source in sources}
    folders = dict.fromkeys(path.parent for path in paths)
    if len(folders) != 1 or -1 in known or any(source.device is not None for source in sources):
        return []
    files = sorted_by_kind(paths)
    steps = list(files.get(FileKind.CLUSTER_STEPS, ()))
    missing = sorted(steps_by_rank(steps, notes).keys() - known) if steps else []
    if missing:
        listed = ", ".join(map(str, missing[:MOST_NAMED])) + (", ..." if len(missing) > MOST_NAMED else "")
        ranks = "rank" if len(missing) == 1 else "ranks"
        notes.tell(
            steps[0],
            Sentence(
                "{} {}: only their steps, links and communications are known, from this analysis", (ranks, listed)
            ),
        )
    return [RankSource(rank, paths[0].parent, "msprof-analyze", files) for rank in missing]


def _from_cluster(paths: Sequence[Path], notes: Notebook) -> list[RankSource]:
    """One source for each rank that a cluster analysis tells of."""
    from memplan.traces.cluster_files import read_cluster

    if not paths:
        return []
    folder = paths[0].parent
    files = sorted_by_kind([path for path in paths if path.parent == folder])
    ranks = read_cluster(files, notes).ranks
    notes.tell(paths[0], "the ranks' own profiles are not here: only their steps, links and communications are known")
    return [RankSource(rank, folder, "msprof-analyze", files) for rank in ranks]


def file_kind(path: Path) -> FileKind | None:
    """What a file holds, by its name and, for tables of no known name, by its first line."""
    kind = kind_by_name(path.name)
    if kind is FileKind.TABLE:
        try:
            with path.open("rb") as file:
                head = file.read(256)
        except OSError:
            return kind
        if head.startswith(_MEMSCOPE_HEADER):
            return FileKind.MEMSCOPE
    return kind


def _top_of(path: Path) -> Path:
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


def _profile_folders(path: Path, notes: Notebook, archives: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
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
        if _MSPROF.fullmatch(folder.name):
            inner = _msprof_files(folder, notes)
            if any(kind_by_name(file.name) in PROFILE_KINDS | {FileKind.TABLE} for file in inner):
                yield folder, inner
            else:
                notes.add(folder, Sentence("{}; {}", (_UNPARSED, _parse_remedy(folder))))
            continue
        if folder.name == "FRAMEWORK":
            continue
        if any(file_kind(file) in PROFILE_KINDS | _ALONE | CLUSTER_KINDS for file in files):
            yield folder, files
        pending.extend(reversed(folders))


def _parse_remedy(folder: Path) -> str:
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
                    if entry.name.endswith(_RUN_ENDS) or _MSPROF.fullmatch(entry.name):
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


def _described(folder: Path, files: Sequence[Path], notes: Notebook) -> RankSource:
    by_kind = sorted_by_kind(files)
    if len(files) == 1 and file_kind(files[0]) is FileKind.MEMSCOPE:
        by_kind = {FileKind.MEMSCOPE: list(files)}
    for file in files:
        if file_kind(file) is None and not is_archive(file):
            _tell_unread(file, notes)
        elif file.suffix.lower() == ".txt" and kind_by_name(file.stem) in PROFILE_KINDS:
            notes.add(file, Sentence("not read: its name ends in .txt; rename it to {}", (file.stem,)))
    info = small_json(by_kind.get(FileKind.INFO, ()), notes)
    metadata = small_json(by_kind.get(FileKind.METADATA, ()), notes)
    several = by_kind.get(FileKind.INFO, ())
    if len(several) > 1:
        listed = ", ".join(path.name for path in several[:MOST_NAMED])
        notes.add(
            folder,
            Sentence("several runs tell of themselves here ({}): its files are shown as of the first", (listed,)),
        )
    return RankSource(
        _rank(folder, by_kind, info, notes), folder, _producer(folder, by_kind, info), by_kind, info, metadata
    )


def _tell_unread(file: Path, notes: Notebook) -> None:
    if _MEMSCOPE_DATABASE.fullmatch(file.name):
        notes.tell(file, Sentence("not read: {}", (_NOT_MEMSCOPE_CSV,)))
    elif file.suffix.lower() in (".xlsx", ".xls", ".ods"):
        notes.add(file, "not read: a spreadsheet's own file; save its sheet as CSV")
    else:
        notes.tell(file, "not read: unknown name")


def _rank(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object], notes: Notebook) -> int:
    """The rank, -1 where nothing tells it. The device number says nothing: rank 2 may run on device 4."""
    told = str(info.get("rank_id", ""))
    if told.isascii() and told.isdigit() and len(told) < 8:
        return int(told)
    for file in (*files.get(FileKind.INFO, ()), *files.get(FileKind.DATABASE, ())):
        if not file.name.startswith("msprof") and (match := _NUMBERED_FILE.search(file.name)):
            return int(match.group(1))
    for device in files.get(FileKind.DEVICE_INFO, ()):
        told = str(small_json([device], notes).get("rank_id", ""))
        if told.isascii() and told.isdigit() and len(told) < 8:
            return int(told)
    if _MSPROF.fullmatch(folder.name):  # a framework's profiler notes the rank beside the data that it hands to msprof
        beside = [file for file in _files_beside(folder) if kind_by_name(file.name) is FileKind.INFO]
        numbers = {match.group(1) for file in beside if (match := _NUMBERED_FILE.search(file.name))}
        if len(numbers) == 1:
            return int(numbers.pop())
    for name in (folder.name, folder.parent.name):
        if match := RANK_IN_NAME.search(name):
            return int(match.group(1))
    return -1


def _files_beside(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.parent.iterdir() if entry.is_file()]
    except OSError:
        return []


def _producer(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object]) -> str:
    databases = [file.name for file in files.get(FileKind.DATABASE, ())]
    if "_ascend_ms" in folder.name or "ms_profiler_info" in info or any("mindspore" in name for name in databases):
        return "MindSpore"
    if _MSPROF.fullmatch(folder.name):
        return "msprof"
    for kind, producer in _PRODUCERS.items():
        if kind in files:
            return producer
    if any(_is_kineto(file) for file in files.get(FileKind.TRACE, ())[:1]):
        return KINETO
    if "_ascend_pt" in folder.name or "torch_npu_version" in info or any("pytorch" in name for name in databases):
        return "torch_npu"
    return "torch_npu" if "config" in info else "CANN"


def _is_kineto(path: Path) -> bool:
    """Whether a trace begins as Kineto writes one."""
    head = _head(path, 4096)
    return any(key in head for key in _KINETO_KEYS) and b"traceEvents" not in head[:16]


def _head(trace: Path, most: int) -> bytes:
    """The first bytes of a trace, unpacked, as far as they can be read."""
    head = b""
    with (
        contextlib.suppress(OSError, EOFError, zlib.error),
        gzip.open(trace) if trace.suffix == ".gz" else trace.open("rb") as file,
    ):
        while len(head) < most and (piece := file.read1(most - len(head))):
            head += piece
    return head
