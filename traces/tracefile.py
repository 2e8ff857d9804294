"""From the trace files of a rank to its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memplan.errors import InputError
from memplan.progress import Progress
from memplan.traces.discover import RankSource
from memplan.traces.events import Events, plain, read_events
from memplan.traces.files import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.queries import TimelineView
from memplan.traces.tables import open_source
from memplan.traces.timeline import build

_MOST_BYTES = 256 * 1024 * 1024


def load_timeline(
    source: RankSource, types: Mapping[str, str], notes: Notebook, progress: Progress
) -> TimelineView | None:
    """
    The timeline of a rank, or `None` where it has no trace file.

    `types` gives op types by kernel name (see `memplan.traces.timeline.build`).
    """
    paths = source.of(FileKind.TRACE)
    for path in source.of(FileKind.PARTIAL_TRACE) if paths else ():
        notes.add(path, "not read: its events are in the full trace too")
    paths = paths or source.of(FileKind.PARTIAL_TRACE)
    if not paths:
        return None
    events = _read(paths[0], notes, progress)
    arguments = events.arguments or ()

    def read_arguments(at: int, size: int) -> Mapping[str, object]:
        found = plain(arguments[at]) if size else {}
        return found if isinstance(found, dict) else {}

    return TimelineView(build(events, types), read_arguments)


def _read(path: Path, notes: Notebook, progress: Progress) -> Events:
    with open_source(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError("is too large", path=path)
    return read_events(path, data, notes, progress)
