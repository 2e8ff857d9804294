"""Finds the ranks of a profile directory and the files of each, without reading more than small JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.traces.file_kinds import (
    CLUSTER_KINDS,
    PROFILE_KINDS,
    UNPACK_BY_HAND,
    FileKind,
    file_kind,
    is_archive,
    sorted_by_kind,
)
from memplan.traces.logs.cache_use import use_in_log
from memplan.traces.logs.failure_log import failures_in_log
from memplan.traces.logs.sleep_log import sleeps_in_log
from memplan.traces.notes import Notebook
from memplan.traces.rank_source import RankSource
from memplan.traces.search.described_rank import (
    KINETO,
    MEMSCOPE_DATABASE,
    NOT_MEMSCOPE_CSV,
    NUMBERED_FILE,
    described_rank,
    is_kineto,
    trace_head,
)
from memplan.traces.search.folder_parts import folder_parts
from memplan.traces.search.one_per_rank import MOST_NAMED, one_per_rank
from memplan.traces.search.profile_folders import (
    EACH_A_PROFILE,
    MSPROF_FOLDER,
    OUTPUT,
    UNPARSED,
    parse_remedy,
    profile_folders,
    top_of,
)
from memplan.traces.tables.cluster_steps import steps_by_rank

_TRACE_KEYS = (b'"traceEvents"', b'"ph"')
"""One of which the beginning of a trace has, whatever the file is called."""
_MOST_HEAD = 1 << 20


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
    for folder, files in profile_folders(top_of(path), notes, archives):
        sources += _of_folder(folder, files, clusters, notes)
    if archives and not sources and not clusters:
        from memplan.traces.search.archives import unpacked_archives

        packed: list[Path] = []
        for level in (archives, packed):  # an archive in an archive, as those who gather results make them
            for inside in unpacked_archives(level, notes):
                for folder, files in profile_folders(inside, notes, packed if level is archives else []):
                    sources += _of_folder(folder, files, clusters, notes)
    else:
        for archive in archives:
            notes.add(archive, "an archive beside profiles is not unpacked: open it by its own path")
    _say_of_cluster(clusters, sources, notes)
    sources = [*sources, *_only_in_cluster(clusters, sources, notes)] if sources else _from_cluster(clusters, notes)
    if not sources and (raw := next((note for note in notes.notes if UNPARSED in note.text), None)) is not None:
        raise InputError(UNPARSED, path=path / raw.file, remedy=raw.text.partition("; ")[2])
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
    alone = [file for file in files if kinds[file] in EACH_A_PROFILE]
    of_all = [file for file in files if kinds[file] in CLUSTER_KINDS]
    clusters.extend(of_all)
    found = []
    if any(kind in PROFILE_KINDS for kind in kinds.values()) or MSPROF_FOLDER.fullmatch(folder.name):
        apart = {*alone, *of_all}
        first, *others = folder_parts([file for file in files if file not in apart], kinds)
        found.append(described_rank(folder, first, notes))
        # What the folder is called tells the rank of the first only.
        found += [replace(described_rank(folder, part, notes), rank=_numbered_rank(part)) for part in others]
    elif not alone and (folder / OUTPUT).is_dir():
        notes.add(
            folder, Sentence("its {} holds no profile: parsing did not finish; {}", (OUTPUT, parse_remedy(folder)))
        )
    return found + [described_rank(folder, [file], notes) for file in alone]


def _numbered_rank(files: Sequence[Path]) -> int:
    """The rank that the names of files tell, -1 where they tell none."""
    return next((int(match.group(1)) for file in files if (match := NUMBERED_FILE.search(file.name))), -1)


def _single(path: Path, notes: Notebook) -> RankSource:
    """One file of a profile, told by its name or, failing that, by its form."""
    if MEMSCOPE_DATABASE.fullmatch(path.name):
        raise InputError(NOT_MEMSCOPE_CSV, path=path, remedy="let msMemScope write CSV files (--data-format=csv)")
    kind = file_kind(path)
    if kind in (None, FileKind.TABLE, FileKind.IGNORED):
        suffixes = "".join(path.suffixes[-2:]).lower()
        by_suffix = {".json": FileKind.TRACE, ".json.gz": FileKind.TRACE, ".db": FileKind.DATABASE}
        kind = by_suffix.get(suffixes, by_suffix.get(path.suffix.lower(), kind))
        if kind is FileKind.TRACE:
            head = trace_head(path, _MOST_HEAD)
            kind = kind if any(key in head for key in _TRACE_KEYS) else None
    if kind in (None, FileKind.LOG, FileKind.IGNORED) and _tells(path, notes):
        return RankSource(0, path.parent, "log", {FileKind.LOG: [path]})
    if kind not in PROFILE_KINDS | EACH_A_PROFILE:
        raise InputError("is not a file of a CANN profile", path=path, remedy="give the folder that the profiler wrote")
    described = described_rank(path.parent, [path], notes)
    files: dict[FileKind, list[Path]] = {kind: [path]} if kind else {}
    producer = KINETO if kind is FileKind.TRACE and is_kineto(path) else described.producer
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
