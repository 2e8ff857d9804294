"""Chooses the reader for the files of a rank."""

from __future__ import annotations

from pathlib import Path

from memplan.core.progress import Progress
from memplan.traces.discover import RankSource
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.rank import RankReader
from memplan.traces.readers.text import TextReader

_TEXT = (FileKind.TRACE, FileKind.PARTIAL_TRACE, FileKind.KERNELS, FileKind.TASK_TIME, FileKind.MEMORY_RECORD)


def open_reader(
    source: RankSource, notes: Notebook, progress: Progress, cache: Path | None, threads: int | None = None
) -> RankReader:
    """
    The reader for the files of a rank.

    `progress` is that of whoever asks for the reader; each part is told its own. Text is read where there is a trace
    or kernels in it, else the database; a note tells of the choice.
    """
    databases = source.of(FileKind.DATABASE)
    has_text = any(source.of(kind) for kind in _TEXT)
    for path in databases if has_text else ():
        notes.add(path, "not read: the text files beside it hold the same, and are")
    if databases and not has_text:
        from memplan.traces.readers.database_rank import DatabaseReader

        return DatabaseReader(source, notes)
    return _special(source, notes, progress) or TextReader(source, notes, cache, threads)


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
    if paths := source.of(FileKind.CLUSTER_STEPS):
        from memplan.traces.readers.cluster_reader import ClusterReader
        from memplan.traces.tables.cluster_steps import steps_by_rank

        return ClusterReader(steps_by_rank(paths, notes, progress)[source.rank], notes)
    if paths := source.of(FileKind.MINDIE):
        from memplan.traces.readers.mindie import MindieReader

        return MindieReader(paths, notes)
    return None
