"""Finds the ranks of a profile directory and the files of each, without reading more than small JSON files."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from memplan.core.errors import InputError
from memplan.traces.devices import DeviceShare
from memplan.traces.file_kinds import FileKind, kind_by_name, natural_key, sorted_by_kind
from memplan.traces.logs.cache_use import use_in_log
from memplan.traces.logs.failure_log import failures_in_log
from memplan.traces.notes import Notebook
from memplan.traces.search.archives import is_archive, unpacked_archive
from memplan.traces.search.device_search import devices_told
from memplan.traces.search.kineto_workers import rank_in_trace, traces_by_worker
from memplan.traces.search.metric_sets import metric_sets

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
_KINETO_KEYS = (b'"schemaVersion"', b'"deviceProperties"')
OUTPUT = "ASCEND_PROFILER_OUTPUT"
_UNPARSED = "holds raw data that no profiler has parsed yet"
_STAMP = re.compile(r"(?:^|_)(\d{14,17})(?:_|$)")
"""When a session was recorded, as the folders of torch_npu, MindSpore and msprof have it in their names."""
_MSPROF = re.compile(r"PROF_\d+_\d+_[0-9a-zA-Z]+")
_RUN_ENDS = ("_ascend_pt", "_ascend_ms")
"""How torch_npu and MindSpore end the name of the folder of one rank's run."""
_NO_FOLDER = "is named like the folder of a rank but is a file; was a link to the folder copied as text?"
_RANK_IN_NAME = re.compile(r"(?:^|[^a-z])rank[_-]?(\d{1,6})(?!\d)", re.IGNORECASE)
_NUMBERED_FILE = re.compile(r"_(\d{1,6})\.(?:json|db)$")
_MOST_FOLDERS = 200_000
_MOST_JSON_BYTES = 64 * 1024 * 1024
_PROFILE_KINDS = frozenset(
    {
        FileKind.TRACE, FileKind.PARTIAL_TRACE, FileKind.KERNELS, FileKind.TASK_TIME, FileKind.MEMORY_RECORD,
        FileKind.OPERATOR_MEMORY, FileKind.MODULE_MEMORY, FileKind.PROCESS_MEMORY, FileKind.STEPS,
        FileKind.ITERATIONS,
        FileKind.COMMUNICATION, FileKind.COMMUNICATION_MATRIX, FileKind.DATABASE, FileKind.ANALYSIS_DATABASE,
        FileKind.MINDIE, FileKind.OPERATOR,
    }
)  # fmt: skip
_CLUSTER = frozenset({FileKind.CLUSTER_STEPS, FileKind.CLUSTER_LINKS, FileKind.CLUSTER_COMMUNICATIONS})
_IN_FRAMEWORK = frozenset({FileKind.MEMORY_RECORD, FileKind.MEMORY_USAGE, FileKind.HOST_OPS, FileKind.HOST_LAUNCHES})
_ALONE = frozenset({FileKind.MEMSCOPE, FileKind.SNAPSHOT, FileKind.MEMORY_BLOCKS})  # each file is a profile


@dataclass(frozen=True, slots=True)
class RankSource:
    """Where the files of one rank are. `info` and `metadata` are the parsed small JSON files, empty where absent."""

    rank: int
    folder: Path
    producer: str
    files: Mapping[FileKind, Sequence[Path]]
    info: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)
    device: DeviceShare | None = None
    """The one whose data is this rank's, where the files hold that of several devices."""
    metrics: Sequence[Path] = ()
    """Kernel tables of further runs of the same program, each with other counters."""

    def of(self, kind: FileKind) -> Sequence[Path]:
        """The rank's files of one kind."""
        return self.files.get(kind, ())

    @property
    def of_cluster(self) -> bool:
        """Whether only files that tell of all ranks of a job tell of this one."""
        return not self.files.keys().isdisjoint(_CLUSTER)


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
        folder = unpacked_archive(path, notes)
        notes.name_below(folder, path)
        return _found(folder, notes, shown=path)
    return _found(path, notes, shown=path)


def _found(path: Path, notes: Notebook, shown: Path) -> list[RankSource]:
    """The ranks at `path`, which is `shown` to the user under that name."""
    if path.is_file():
        return _ranked([_single(path, notes)], path, notes)
    sources = []
    clusters: list[Path] = []
    for folder, files in _profile_folders(_top_of(path), notes):
        alone = [file for file in files if file_kind(file) in _ALONE]
        clusters.extend(file for file in files if file_kind(file) in _CLUSTER)
        if any(file_kind(file) in _PROFILE_KINDS for file in files) or _MSPROF.fullmatch(folder.name):
            sources.append(_described(folder, [file for file in files if file not in alone], notes))
        elif not alone and (folder / OUTPUT).is_dir():
            notes.add(folder, f"its {OUTPUT} holds no profile: parsing did not finish; {_parse_remedy(folder)}")
        sources.extend(_described(folder, [file], notes) for file in alone)
    sources = sources or _from_cluster(clusters, notes)
    if not sources and (raw := next((note for note in notes.notes if _UNPARSED in note.text), None)) is not None:
        raise InputError(_UNPARSED, path=path / raw.file, remedy=raw.text.partition("; ")[2])
    if not sources:
        raise InputError(
            "no CANN profile here",
            path=shown,
            remedy="give a folder with kernel_details.csv, trace_view.json or a profiler database "
            "(ASCEND_PROFILER_OUTPUT, *_ascend_pt, *_ascend_ms or PROF_*)",
        )
    return _ranked(sources, path, notes)


def _single(path: Path, notes: Notebook) -> RankSource:
    """One file of a profile, told by its name or, failing that, by its form."""
    if _MEMSCOPE_DATABASE.fullmatch(path.name):
        raise InputError(_NOT_MEMSCOPE_CSV, path=path, remedy="let msMemScope write CSV files (--data-format=csv)")
    kind = file_kind(path)
    if kind in (None, FileKind.TABLE, FileKind.IGNORED):
        suffixes = "".join(path.suffixes[-2:]).lower()
        by_suffix = {".json": FileKind.TRACE, ".json.gz": FileKind.TRACE, ".db": FileKind.DATABASE}
        kind = by_suffix.get(suffixes, by_suffix.get(path.suffix.lower(), kind))
    if kind in (None, FileKind.LOG, FileKind.IGNORED) and (failures_in_log(path, notes) or not use_in_log(path).empty):
        return RankSource(0, path.parent, "log", {FileKind.LOG: [path]})
    if kind in _CLUSTER or kind not in _PROFILE_KINDS | _ALONE:
        raise InputError("is not a file of a CANN profile", path=path, remedy="give the folder that the profiler wrote")
    described = _described(path.parent, [path], notes)
    files: dict[FileKind, list[Path]] = {kind: [path]} if kind else {}
    producer = KINETO if kind is FileKind.TRACE and _is_kineto(path) else described.producer
    return RankSource(described.rank, path.parent, producer, files) if kind else described


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
            parsed = _entries(output, notes)[0]
            yield folder, [*files, *parsed, *_framework(folders, notes)]
            if parsed:
                continue
        if _MSPROF.fullmatch(folder.name):
            inner = _msprof_files(folder, notes)
            if any(kind_by_name(file.name) in _PROFILE_KINDS | {FileKind.TABLE} for file in inner):
                yield folder, inner
            else:
                notes.add(folder, f"{_UNPARSED}; {_parse_remedy(folder)}")
            continue
        if folder.name == "FRAMEWORK":
            continue
        if any(file_kind(file) in _PROFILE_KINDS | _ALONE | _CLUSTER for file in files):
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
                elif entry.is_symlink() and (entry.is_dir() or not entry.is_file()):
                    target = os.path.realpath(entry.path)
                    there = "a link to a folder, which is not followed" if entry.is_dir() else "a link to nothing"
                    notes.add(Path(entry.path), f"not read: {there}: {target}")
                elif entry.is_file():
                    if entry.name.endswith(_RUN_ENDS) or _MSPROF.fullmatch(entry.name):
                        notes.add(Path(entry.path), f"not read: {_NO_FOLDER}")
                    files.append(Path(entry.path))
    except OSError as error:
        notes.add(folder, f"can't be listed: {error.strerror}")
    return sorted(files, key=_natural_name), sorted(folders, key=_natural_name)


def _natural_name(path: Path) -> list[tuple[int, int, str]]:
    return natural_key(path.name)


def _described(folder: Path, files: Sequence[Path], notes: Notebook) -> RankSource:
    by_kind = sorted_by_kind(files)
    if len(files) == 1 and file_kind(files[0]) is FileKind.MEMSCOPE:
        by_kind = {FileKind.MEMSCOPE: list(files)}
    for file in files:
        if file_kind(file) is None:
            other = _MEMSCOPE_DATABASE.fullmatch(file.name)
            notes.tell(file, f"not read: {_NOT_MEMSCOPE_CSV}" if other else "not read: unknown name")
    info = _small_json(by_kind.get(FileKind.INFO, ()), notes)
    metadata = _small_json(by_kind.get(FileKind.METADATA, ()), notes)
    return RankSource(
        _rank(folder, by_kind, info, notes), folder, _producer(folder, by_kind, info), by_kind, info, metadata
    )


def _rank(folder: Path, files: Mapping[FileKind, Sequence[Path]], info: Mapping[str, object], notes: Notebook) -> int:
    """The rank, -1 where nothing tells it. The device number says nothing: rank 2 may run on device 4."""
    told = str(info.get("rank_id", ""))
    if told.isascii() and told.isdigit() and len(told) < 8:
        return int(told)
    for file in (*files.get(FileKind.INFO, ()), *files.get(FileKind.DATABASE, ())):
        if not file.name.startswith("msprof") and (match := _NUMBERED_FILE.search(file.name)):
            return int(match.group(1))
    for device in files.get(FileKind.DEVICE_INFO, ()):
        told = str(_small_json([device], notes).get("rank_id", ""))
        if told.isascii() and told.isdigit() and len(told) < 8:
            return int(told)
    if _MSPROF.fullmatch(folder.name):  # a framework's profiler notes the rank beside the data that it hands to msprof
        beside = [file for file in _files_beside(folder) if kind_by_name(file.name) is FileKind.INFO]
        numbers = {match.group(1) for file in beside if (match := _NUMBERED_FILE.search(file.name))}
        if len(numbers) == 1:
            return int(numbers.pop())
    for name in (folder.name, folder.parent.name):
        if match := _RANK_IN_NAME.search(name):
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
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4096)
    except (OSError, EOFError):
        return False
    return any(key in head for key in _KINETO_KEYS) and b"traceEvents" not in head[:16]


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


def _ranked(sources: Sequence[RankSource], path: Path, notes: Notebook) -> list[RankSource]:
    """
    Sources with a rank each: unknown ones take the lowest free numbers in order of folder.

    Of several sessions of one rank the newest is taken, by the time in the name of its folder.
    """
    sources = [part for source in sources for part in _by_worker(source, notes)]
    sources = _joined_sets(sources, notes)
    sources = [part for source in _newest_sessions(sources, path, notes) for part in _by_device(source, notes)]
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
            if len(sources) > 1 and source.device is None:
                told = next((file for files in source.files.values() for file in files), source.folder)
                notes.tell(told if len(source.files) == 1 else source.folder, f"tells no rank; shown as rank {rank}")
            taken[rank] = replace(source, rank=rank)
    return [taken[rank] for rank in sorted(taken)]


def _by_worker(source: RankSource, notes: Notebook) -> list[RankSource]:
    """One source for each process of which torch.profiler left a trace in one folder, with its newest recording."""
    if len(source.of(FileKind.TRACE)) < 2 or _PROFILE_KINDS.intersection(source.files) != {FileKind.TRACE}:
        return [source]
    workers = traces_by_worker(source.of(FileKind.TRACE))
    found = []
    for traces in workers.values():
        *others, newest = traces
        if others:
            listed = ", ".join(path.name for path in others[:_MOST_NAMED]) + (
                ", ..." if len(others) > _MOST_NAMED else ""
            )
            notes.tell(newest, f"the newest of {len(traces)} recordings of one process is read; not read: {listed}")
        match = _RANK_IN_NAME.search(newest.name)
        rank = rank_in_trace(newest)
        rank = int(match.group(1)) if rank < 0 and match else rank
        alone = len(workers) == 1
        files = {**source.files, FileKind.TRACE: [newest]}
        found.append(replace(source, rank=source.rank if alone and rank < 0 else rank, files=files))
    return found or [source]


def _joined_sets(sources: Sequence[RankSource], notes: Notebook) -> list[RankSource]:
    """One source for each card of which msprof recorded a run for each set of counters: the run that tells most."""
    found = []
    for places in metric_sets([source.folder for source in sources]):
        group = [sources[place] for place in places]
        shown = max(
            group, key=lambda one: (bool(one.of(FileKind.KERNELS)), len(_PROFILE_KINDS.intersection(one.files)))
        )
        others = [one for one in group if one is not shown]
        if others:
            names = [one.folder.parent.name.removeprefix("PROF_") for one in (shown, *others)]
            listed = ", ".join(names[1:])
            told = f"one of {len(group)} runs of one program is shown, {names[0]}"
            notes.tell(shown.folder, f"{told}; only tables and counters of kernels are read of {listed}")
            tables = [path for one in group for path in one.of(FileKind.TABLE)]
            files = {**shown.files, **({FileKind.TABLE: tables} if tables else {})}
            metrics = [path for one in others for path in one.of(FileKind.KERNELS)]
            shown = replace(shown, files=files, metrics=metrics)
        found.append(shown)
    return found


def _by_device(source: RankSource, notes: Notebook) -> list[RankSource]:
    """One source for each device whose data the files hold; of several, only the first keeps the rank of the folder."""
    if not _PROFILE_KINDS.intersection(source.files):
        return [source]
    devices = devices_told(source.folder, source.files)
    if not devices:
        return [source]
    listed = ", ".join(map(str, devices[:16])) + (", ..." if len(devices) > 16 else "")
    notes.tell(source.folder, f"holds {len(devices)} devices ({listed}) of one process: each is shown as a rank")
    found: list[RankSource] = []
    for device in devices:
        share = DeviceShare(device, devices)
        files = {kind: own for kind, paths in source.files.items() if (own := share.files(source.folder, paths))}
        told = str(_small_json(files.get(FileKind.DEVICE_INFO, ()), notes).get("rank_id", ""))
        rank = int(told) if told.isascii() and told.isdigit() and len(told) < 8 else -1
        if rank in (one.rank for one in found):
            rank = -1
        found.append(replace(source, rank=rank, files=files, device=share))
    if source.rank >= 0 and source.rank not in (one.rank for one in found) and found[0].rank < 0:
        found[0] = replace(found[0], rank=source.rank)
    return found


def _newest_sessions(sources: Sequence[RankSource], path: Path, notes: Notebook) -> list[RankSource]:
    """Of sessions of one rank, and of runs of one card, the newest, with a note; all where their names tell no time."""
    groups: dict[tuple[int, int], list[RankSource]] = {}
    for number, source in enumerate(sources):
        one_card = any(file.name == "profiler_info.json" for file in source.of(FileKind.INFO))
        alone = source.rank < 0 and not one_card  # nothing tells whether it is another rank or the same again
        groups.setdefault((source.rank, number if alone else -1), []).append(source)
    kept = []
    for (rank, _), found in groups.items():
        stamps = [(match.group(1).ljust(17, "0") if (match := _STAMP.search(one.folder.name)) else "") for one in found]
        if len(found) > 1 and all(stamps) and len(set(stamps)) == len(stamps):
            newest = found[stamps.index(max(stamps))]
            others = [one for one in found if one is not newest]
            whose = f"sessions of rank {rank}" if rank >= 0 else "runs of one card"
            listed = ", ".join(_below(one.folder, path) for one in others[:_MOST_NAMED])
            notes.tell(
                newest.folder,
                f"the newest of {len(found)} {whose} is read; not read: {listed}"
                + (", ..." if len(others) > _MOST_NAMED else "")
                + "; open such a folder itself to see it",
            )
            found = [newest]
        kept += found
    return kept


_MOST_NAMED = 8  # sessions in one note


def _below(folder: Path, path: Path) -> str:
    return os.path.relpath(folder, path)
