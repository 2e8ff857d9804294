"""From the trace files of a rank to its timeline, through the store where they are large."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence
from memplan.traces.devices import DeviceShare
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.profile import Note
from memplan.traces.rank_source import RankSource
from memplan.traces.tables.gzip_files import is_gzip, unzip
from memplan.traces.timeline.columns import TimelineColumns
from memplan.traces.timeline.events import Events, plain_json, read_events
from memplan.traces.timeline.merge_events import events_of_device, keep_newest_run, merge_events, without_far_slices
from memplan.traces.timeline.query import TimelineQuery
from memplan.traces.timeline.store import EntryKey, Store, cache_directory, key_of
from memplan.traces.timeline.text_damage import UTF_16_MARKS, with_known_escapes
from memplan.traces.timeline.tracks import build

SMALL = 8 * 1024 * 1024  # read by Python's own parser: quicker than loading the compiled one
_FILE_BIT = 48  # places of arguments carry the number of their file above this bit

Types = Callable[[], Mapping[str, str]]


def load_timeline(
    source: RankSource, types: Types, cache: Path | None, notes: Notebook, progress: Progress, threads: int | None
) -> TimelineQuery | None:
    """
    The timeline of a rank, or `None` where it has no trace file.

    `types` gives op types by kernel name when they are needed (see `memplan.traces.timeline.tracks.build`). Traces over
    8 MB, and packed ones, are kept in the store under `cache` (by default the user's) and come from there next time.
    `threads` is how many scan at once, by default one for each processor.
    """
    paths = list(source.of(FileKind.TRACE))
    for path in source.of(FileKind.PARTIAL_TRACE) if paths else ():
        notes.tell(path, "not read: its events are in the full trace too")
    paths = paths or list(source.of(FileKind.PARTIAL_TRACE))
    if not paths:
        return None
    try:
        packed = [is_gzip(path) or _is_utf_16(path) for path in paths]
        size = sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=paths[0]) from None
    if size <= SMALL and not any(map(is_gzip, paths)):
        return _small(paths, types(), source.device, notes, progress)
    store = Store(cache or cache_directory())
    key = key_of([*paths, *source.of(FileKind.KERNELS)], str(source.device or ""))
    found = store.load(key)
    if found is None:
        found = _imported(paths, packed, types(), source.device, store, key, notes, progress, threads)
    timeline, told = found
    for note in told:
        notes.add(note.file, note.sentence, note.severity)
    files = [
        store.path(key, unzipped_name(number)) if gzip else path
        for number, (path, gzip) in enumerate(zip(paths, packed, strict=True))
    ]
    return TimelineQuery(timeline, _reader(files))


def _small(
    paths: list[Path], types: Mapping[str, str], share: DeviceShare | None, notes: Notebook, progress: Progress
) -> TimelineQuery:
    """A timeline that lives in memory only."""
    parts = [read_events(path, path.read_bytes(), notes, progress) for path in paths]
    keep_newest_run(parts, paths, notes)
    events = merge_events(parts, 0, paths, notes)
    events = without_far_slices(events_of_device(events, share), paths[0], notes)
    arguments = events.arguments or ()

    def read(at: int, size: int) -> Mapping[str, object]:
        found = plain_json(arguments[at]) if size else {}
        return found if isinstance(found, dict) else {}

    return TimelineQuery(build(events, types), read)


def _imported(
    paths: list[Path],
    packed: Sequence[bool],
    types: Mapping[str, str],
    share: DeviceShare | None,
    store: Store,
    key: EntryKey,
    notes: Notebook,
    progress: Progress,
    threads: int | None,
) -> tuple[TimelineColumns, list[Note]]:
    """Read large files and put their timeline into the store; it stays in memory where that can't be written."""
    from concurrent.futures import ThreadPoolExecutor  # which profiles without a trace don't need

    own = Notebook(notes.root)
    with (
        tempfile.TemporaryDirectory(prefix="memplan-", dir=store.scratch()) as temporary,
        ThreadPoolExecutor(1) as side,
    ):
        side.submit(_warm)
        texts = [
            _unpacked(path, Path(temporary) / unzipped_name(number), own, progress) if packed[number] else path
            for number, path in enumerate(paths)
        ]
        timeline = build(lambda: _scanned(paths, texts, share, own, progress, threads), types, compiled=True)
        told = list(own.notes)
        try:
            store.save(key, timeline, told, [text for text, gzip in zip(texts, packed, strict=True) if gzip])
        except OSError as error:
            notes.tell("cache", Sentence("the import can't be kept ({}); it is held in memory", (reason(error),)))
            return timeline, told
    return store.load(key) or (timeline, told)


def _scanned(
    paths: list[Path],
    texts: Sequence[Path],
    share: DeviceShare | None,
    notes: Notebook,
    progress: Progress,
    threads: int | None,
) -> Events:
    """The events of `paths`, whose plain text is in `texts`."""
    from memplan.traces.scan.threads import scan_events  # brings Numba, which reopening does without

    parts = [
        scan_events(text, notes, progress, shown=path, workers=threads) for path, text in zip(paths, texts, strict=True)
    ]
    keep_newest_run(parts, paths, notes)
    events = events_of_device(merge_events(parts, _FILE_BIT, paths, notes), share)
    return without_far_slices(events, paths[0], notes)


def _unpacked(path: Path, target: Path, notes: Notebook, progress: Progress) -> Path:
    """Write the plain text of the packed trace at `path` to `target`."""
    (_recode if _is_utf_16(path) else unzip)(path, target, notes, progress)
    return target


def _is_utf_16(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in UTF_16_MARKS


def _recode(path: Path, target: Path, notes: Notebook, progress: Progress) -> None:
    """Write a trace that was saved as UTF-16 into `target` as UTF-8, block by block."""
    notes.tell(path, "written as UTF-16: read so")
    size = path.stat().st_size
    with path.open(encoding="utf-16", errors="replace", newline="") as file, target.open("wb") as sink:
        while text := file.read(1 << 22):
            sink.write(text.encode(errors="replace"))
            progress(sink.tell(), size, f"recoded bytes of {path.name}")


def _warm() -> None:
    """Load what is needed after the scan, while that runs."""
    import pyarrow as pa  # noqa: F401 - to have it loaded


def unzipped_name(number: int) -> str:
    """Name, in the store, of the unpacked trace file with this number."""
    return f"trace.{number}.json"


def _reader(files: Sequence[Path]) -> Callable[[int, int], Mapping[str, object]]:
    """Reads `args` objects where the scanner found them."""

    def read(at: int, size: int) -> Mapping[str, object]:
        try:
            with files[at >> _FILE_BIT].open("rb") as file:
                file.seek(at & ((1 << _FILE_BIT) - 1))
                text = file.read(size).decode("utf-8", errors="replace")
            value = json.loads(with_known_escapes(text), strict=False)
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    return read
