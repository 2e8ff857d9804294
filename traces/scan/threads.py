"""
Reads a large trace file with the compiled scanner, in pieces, on several threads and in bounded memory.

Where a piece's first event begins is guessed: at a `{` that follows `}` and a comma. The guess is checked: the
scanner of the piece before must stop exactly there, else the piece is read again from where that one stopped. By
induction every event is read once, whatever strings or nested lists look like.
"""

from __future__ import annotations

import json
import os
import queue
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int32s
from memplan.core.errors import InputError, reason
from memplan.core.progress import Progress
from memplan.core.workers import most_workers
from memplan.traces.notes import Notebook
from memplan.traces.scan import event_tables, json_text, scanner
from memplan.traces.scan.growable_array import GrowableArray
from memplan.traces.scan.state import ScanState
from memplan.traces.timeline.events import (
    Events,
    FlowRows,
    SampleRows,
    SliceRows,
    damaged_note,
    unknown_note,
    unusable_note,
    with_joined_slices,
)
from memplan.traces.timeline.text_damage import CUT_NOTE, TAIL, is_cut

_PIECE = 1024 * 1024
_BEFORE = 4096  # read before a piece, to see what its first `{` follows
_BEYOND = 64 * 1024  # read after a piece, to finish its last event
_LONGEST_EVENT = 64 * 1024 * 1024
_HEAD = 1024 * 1024
_MARGIN = 32  # readable bytes before and after the text
_LIST = re.compile(rb'"traceEvents"\s*:\s*\[')

# Where `trouble` arrays hold what they count; they begin at the state's `N_DAMAGED`.
_DAMAGED, _FIRST, _UNUSABLE = (
    0,
    event_tables.FIRST_DAMAGED - event_tables.N_DAMAGED,
    event_tables.N_UNUSABLE - event_tables.N_DAMAGED,
)

_WIDE = ("start_ns", "duration_ns", "arguments_at", "time_ns", "instance", "id")
_NARROW = ("thread", "name", "category", "arguments_size", "key", "phase")
_DTYPES: dict[str, type[np.generic]] = {
    **dict.fromkeys(_WIDE, np.int64),
    **dict.fromkeys(_NARROW, np.int32),
    "value": np.float64,
}
_NUMBERED = {"thread", "name", "category", "key"}


@dataclass(slots=True)
class _Piece:
    """What one piece gave: which state's strings it uses, its first and next event, and its rows."""

    state: int
    begin: int
    end: int
    list_end: bool = False
    rows: list[tuple[SliceRows, SampleRows, FlowRows, NDArray[np.int64]]] = field(default_factory=list)
    trouble: NDArray[np.int64] | None = None


class _Text:
    """A buffer with a part of the file and the quotes in it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._grow(_BEFORE + _PIECE + _BEYOND)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _grow(self, size: int) -> None:
        self._bytes = np.empty(size + 64, dtype=np.uint8)
        self._quotes = np.empty(size + 64, dtype=np.int32)  # pages that stay untouched cost nothing

    def read(self, at: int, size: int) -> None:
        """Read `size` bytes from offset `at`, or as many as the file has."""
        if size > len(self._bytes) - 64:
            self._grow(size)
        view = memoryview(self._bytes.data)[_MARGIN : _MARGIN + size]
        self._file.seek(at)
        done = 0
        while done < size and (count := self._file.readinto(view[done:])):
            done += count
        self.size = done
        self._bytes[_MARGIN + done : _MARGIN + done + 16] = 0
        json_text.find_quotes(self.address, done, self.quotes)

    @property
    def address(self) -> int:
        return int(self._bytes.ctypes.data) + _MARGIN

    @property
    def quotes(self) -> int:
        return int(self._quotes.ctypes.data)


class _Scan:
    """One file being read."""

    def __init__(self, path: Path, size: int, start: int, workers: int) -> None:
        self.size = size
        self.start = start
        self.states = [ScanState(_PIECE // 40) for _ in range(workers + 1)]
        self.texts = [_Text(path) for _ in range(workers + 1)]
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(1, workers + 1):
            self.free.put(number)
        self.stopped = False
        self.slices, self.samples, self.flows = _Columns(SliceRows), _Columns(SampleRows), _Columns(FlowRows)
        self.metadata: list[tuple[int, int]] = []
        self.trouble = np.zeros(event_tables.STATE - event_tables.N_DAMAGED, dtype=np.int64)

    def accept(self, piece: _Piece) -> None:
        """Keep what `piece` gave."""
        for slices, samples, flows, metadata in piece.rows:
            self.slices.append(piece.state, slices)
            self.samples.append(piece.state, samples)
            self.flows.append(piece.state, flows)
            self.metadata.extend((at, size) for at, size in metadata.tolist())
        if piece.trouble is not None:
            first = self.trouble[_FIRST] if self.trouble[_DAMAGED] else piece.trouble[_FIRST]
            self.trouble += piece.trouble
            self.trouble[_FIRST] = first

    def piece(self, at: int, stop: int) -> _Piece:
        """Events that begin from about `at` up to `stop`, on whichever state is free."""
        number = self.free.get()
        try:
            if self.stopped:
                return _Piece(number, at, at)
            return self.read(number, at, stop, exact=at == self.start)
        finally:
            self.free.put(number)

    def read(self, number: int, at: int, stop: int, *, exact: bool) -> _Piece:
        """Events that begin from `at`, or after it from the first likely place, up to `stop`."""
        state, text = self.states[number], self.texts[number]
        base = at if exact else max(self.start, at - _BEFORE)
        text.read(base, stop + _BEYOND - base)
        begin = 0 if exact else json_text.find_start(text.address, at - base, text.size)
        if begin < 0:
            return _Piece(number, -1, stop)
        piece = _Piece(number, base + begin, base + begin)
        state.clear()
        position, length = begin, stop + _BEYOND - base
        while not self.stopped:
            last = base + text.size >= self.size
            result, position = scanner.scan(
                text.address, text.quotes, position, stop - base, text.size, last, base, state.address
            )
            if result == scanner.MORE_ROWS:
                self._take(state, piece)
            elif result == scanner.MORE_STRINGS:
                state.grow()
            elif result == scanner.MORE_INPUT:
                base, length = base + position, max(length * 2, 4 * _BEYOND)
                position = 0
                if length > 2 * _LONGEST_EVENT:
                    self._skip_giant(piece, base)
                    piece.end = min(base + text.size, self.size)
                    break
                text.read(base, length)
            else:
                piece.end = base + position
                piece.list_end = result == scanner.LIST_END
                break
        self._take(state, piece)
        trouble = state.trouble()
        piece.trouble = trouble if piece.trouble is None else piece.trouble + trouble
        return piece

    @staticmethod
    def _skip_giant(piece: _Piece, base: int) -> None:
        """Note an event that is longer than any real one; its piece ends where the text does."""
        piece.trouble = np.zeros(event_tables.STATE - event_tables.N_DAMAGED, dtype=np.int64)
        piece.trouble[_DAMAGED] = 1
        piece.trouble[_FIRST] = base

    @staticmethod
    def _take(state: ScanState, piece: _Piece) -> None:
        piece.rows.append(state.take())


def scan_events(
    path: Path, notes: Notebook, progress: Progress, *, shown: Path | None = None, workers: int | None = None
) -> Events:
    """
    Events of the trace file at `path`, which is plain text; see `memplan.traces.timeline.events.read_events`.

    The `args` of slices are given by place and size in the file. Uses `most_workers` threads by default, at most 8, and
    memory for the events' columns plus some 20 MB for each thread. `shown` is the file's name in notes and progress.
    Raises `InputError` where the file can't be read.
    """
    workers = workers or min(most_workers(), 8)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            scan = _Scan(path, size, _list_start(head), workers)
            try:
                _read_all(scan, shown or path, progress, workers)
            finally:
                for text in scan.texts:
                    text.close()
            _report(shown or path, scan.trouble, notes)
            file.seek(max(size - TAIL, 0))
            if is_cut(head, file.read(TAIL)):
                notes.add(shown or path, CUT_NOTE)
            return with_joined_slices(_assembled(scan, file), shown or path, notes)
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None


def _list_start(head: bytes) -> int:
    """Where the events begin: after the bracket of the list, which may lie in an object or behind a plain line."""
    if match := _LIST.search(head):
        return match.end()
    bracket = head.find(b"[")
    brace = head.find(b"{")
    return bracket + 1 if bracket >= 0 and (brace < 0 or bracket < brace) else max(brace, 0)


def _read_all(scan: _Scan, path: Path, progress: Progress, workers: int) -> None:
    """Read and accept all pieces in order, each beginning where the one before it ended."""
    bounds = [*range(scan.start, scan.size, _PIECE), scan.size]
    expected = scan.start
    progress(0, scan.size, f"bytes of {path.name}")
    with ThreadPoolExecutor(workers) as pool:
        waiting: queue.SimpleQueue[tuple[int, Future[_Piece]]] = queue.SimpleQueue()
        following = iter(pairwise(bounds))

        def submit() -> None:
            span = next(following, None)
            if span is not None:
                waiting.put((span[1], pool.submit(scan.piece, *span)))

        try:
            for _ in range(workers + 1):
                submit()
            while not waiting.empty():
                stop, future = waiting.get()
                piece = future.result()
                submit()
                progress(min(stop, scan.size), scan.size, f"bytes of {path.name}")
                if expected >= stop:
                    continue
                if piece.begin != expected:
                    piece = scan.read(0, expected, stop, exact=True)
                scan.accept(piece)
                expected = piece.end
                if piece.list_end:
                    break
        finally:
            scan.stopped = True


def _report(path: Path, trouble: NDArray[np.int64], notes: Notebook) -> None:
    if trouble[_DAMAGED]:
        notes.add(path, damaged_note(int(trouble[_DAMAGED]), int(trouble[_FIRST])))
    if trouble[_UNUSABLE]:
        notes.add(path, unusable_note(int(trouble[_UNUSABLE])))
    others = trouble[event_tables.N_OTHER - event_tables.N_DAMAGED :]
    for phase in np.flatnonzero(others).tolist():
        notes.add(path, unknown_note(chr(phase) if phase else "", int(others[phase])))


class _Columns:
    """Rows of one sort, of all accepted pieces; remembers which state's numbers each stretch of them uses."""

    def __init__(self, kind: type[SliceRows] | type[SampleRows] | type[FlowRows]) -> None:
        self._columns = {field.name: GrowableArray(_DTYPES[field.name]) for field in fields(kind)}
        self._stretches: list[tuple[int, int]] = []

    def append(self, state: int, rows: SliceRows | SampleRows | FlowRows) -> None:
        """Add rows whose strings and threads are numbered by `state`."""
        for name, column in self._columns.items():
            column.append(getattr(rows, name))
        self._stretches.append((state, len(self._columns["thread"])))

    def finished(self, strings: Sequence[Int32s], threads: Sequence[Int32s]) -> dict[str, NDArray[Any]]:
        """The columns, with each state's numbers of strings and threads replaced by those of the lists given."""
        arrays = {name: column.array() for name, column in self._columns.items()}
        first = 0
        for state, last in self._stretches:
            for name in _NUMBERED & arrays.keys() if last > first else ():
                part = arrays[name][first:last]
                np.take(threads[state] if name == "thread" else strings[state], part, out=part, mode="clip")
            first = last
        return arrays


def _assembled(scan: _Scan, file: BinaryIO) -> Events:
    """The rows of all pieces, with strings and threads numbered alike."""
    strings: dict[str, int] = {"": 0}
    threads: dict[tuple[str, str], int] = {}
    string_maps, thread_maps = [], []
    for state in scan.states:
        own = state.strings()
        string_maps.append(np.array([strings.setdefault(text, len(strings)) for text in own], dtype=np.int32))
        keys = [(own[pid], own[tid]) for pid, tid in state.threads()]
        thread_maps.append(np.array([threads.setdefault(key, len(threads)) for key in keys], dtype=np.int32))
    scan.states.clear()
    scan.texts.clear()
    metadata = [event for where in scan.metadata if (event := _metadata(file, *where))]
    return Events(
        list(strings),
        list(threads),
        SliceRows(**scan.slices.finished(string_maps, thread_maps)),
        SampleRows(**scan.samples.finished(string_maps, thread_maps)),
        FlowRows(**scan.flows.finished(string_maps, thread_maps)),
        metadata,
    )


def _metadata(file: BinaryIO, at: int, size: int) -> Mapping[str, object]:
    """A metadata event, empty where it is not valid JSON or far too long."""
    if size > _BEYOND:
        return {}
    try:
        file.seek(at)
        value = json.loads(file.read(size).decode("utf-8", errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
