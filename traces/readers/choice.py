"""Chooses the reader for the files of a rank."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.progress import Progress
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.rank import RankReader
from memplan.traces.rank_source import RankSource
from memplan.traces.readers.text import TextReader
from memplan.traces.tables.csv_table import open_source
from memplan.traces.tables.gzip_files import is_gzip

_logger = logging.getLogger(__name__)

_TIMELINES = (FileKind.TRACE, FileKind.PARTIAL_TRACE)
_KERNELS = (FileKind.KERNELS, FileKind.TASK_TIME)
_TEXT = (*_TIMELINES, *_KERNELS, FileKind.MEMORY_RECORD)
_MEASURED = ("TASK", "COMPUTE_TASK_INFO", "COMMUNICATION_OP", "PYTORCH_API", "CANN_API")
"""Tables of a database of which one at least has rows, if it has a timeline."""
_HEAD = 1 << 16  # bytes of a file that tell whether it holds anything


def open_reader(
    source: RankSource, notes: Notebook, progress: Progress, cache: Path | None, threads: int | None = None
) -> RankReader:
    """
    The reader for the files of a rank.

    `progress` is that of whoever asks for the reader; each part is told its own. Text is read where it holds kernels
    and a whole timeline or there is no database with any; a note tells of the choice.
    """
    reader = _chosen(source, notes, progress, cache, threads)
    _logger.info("rank %d is read by %s", source.rank, type(reader).__name__)
    for kind, paths in source.files.items():
        _logger.debug("rank %d: %s: %s", source.rank, kind.name, ", ".join(map(str, paths)))
    return reader


def _chosen(
    source: RankSource, notes: Notebook, progress: Progress, cache: Path | None, threads: int | None
) -> RankReader:
    databases = source.of(FileKind.DATABASE)
    texts = [path for kind in _TEXT for path in source.of(kind)]
    whole = all(
        any(_holds_rows(path) for kind in kinds for path in source.of(kind)) for kinds in (_TIMELINES, _KERNELS)
    )
    if databases and (not texts or not (whole or _is_empty(databases[0], notes))):
        from memplan.traces.readers.database_rank import DatabaseReader

        for path in (*texts, *(path for kind in _BESIDE for path in source.of(kind))):
            notes.tell(path, "not read: the database beside it holds more of the profile, and is")
        return DatabaseReader(source, notes)
    for path in databases:
        notes.tell(path, "not read: the text files beside it are")
    if source.of(FileKind.ANALYSIS_DATABASE) and not any(source.of(kind) for kind in (*_TEXT, *_SUMMARIES)):
        from memplan.traces.readers.database_rank import DatabaseReader

        return DatabaseReader(source, notes)
    return _special(source, notes, progress) or TextReader(source, notes, cache, threads)


_BESIDE = (FileKind.OPERATOR_MEMORY, FileKind.MODULE_MEMORY, FileKind.PROCESS_MEMORY, FileKind.STEPS)
"""Tables of which a database holds the rows too, if it is of the same run."""
_SUMMARIES = (FileKind.STEPS, FileKind.COMMUNICATION_MATRIX, FileKind.COMMUNICATION)


def _holds_rows(path: Path) -> bool:
    """Whether a table has a row, or a trace an event and the bracket that ends it."""
    try:
        with open_source(path) as file:
            head = file.read(_HEAD)
        if path.suffix == ".csv":
            return bool(head.partition(b"\n")[2].strip())
        if is_gzip(path):
            return b'"ph"' in head
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _HEAD, 0))
            return b'"ph"' in head and file.read().rstrip()[-1:] in (b"]", b"}")
    except (OSError, EOFError, zlib.error):
        return False


def _is_empty(path: Path, notes: Notebook) -> bool:
    """Whether a database beside text files holds nothing that was measured, or can't be read."""
    from memplan.traces.tables.sqlite import Database

    try:
        data = Database(path, notes)
    except InputError:
        return True
    return not any(data.has(table) and data.row(table, 1) for table in _MEASURED)


def _special(source: RankSource, notes: Notebook, progress: Progress) -> RankReader | None:
    """The reader for files that hold a part of a profile only; imported when needed, being many."""
    if paths := source.of(FileKind.MEMSCOPE):
        from memplan.traces.readers.memscope import MemscopeReader

        return MemscopeReader(paths[0], notes)
    if paths := source.of(FileKind.SNAPSHOT):
        from memplan.traces.readers.snapshot import SnapshotReader

        return SnapshotReader(paths[0], notes, source.of(FileKind.LOG))
    if paths := source.of(FileKind.MEMORY_BLOCKS):
        from memplan.traces.readers.mindspore_memory import MemoryBlockReader

        return MemoryBlockReader(paths[0], notes)
    if source.of_cluster:
        from memplan.traces.cluster_files import read_cluster
        from memplan.traces.readers.cluster_reader import ClusterReader

        return ClusterReader(read_cluster(source.files, notes, progress), source.rank, notes)
    if paths := source.of(FileKind.MINDIE):
        from memplan.traces.readers.mindie import MindieReader

        return MindieReader(paths, notes)
    return None
