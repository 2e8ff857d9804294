"""Where one thread's scanner puts what it reads: row columns for one piece of a file, strings for the whole of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.traces.scan import event_tables as tables
from memplan.traces.timeline.events import FlowRows, SampleRows, SliceRows

_WIDE = (
    tables.SLICE_TS, tables.SLICE_DUR, tables.SLICE_AT, tables.SAMPLE_TS, tables.SAMPLE_INSTANCE,
    tables.SAMPLE_VALUE, tables.FLOW_TS, tables.FLOW_ID,
)  # fmt: skip
_NARROW = (
    tables.SLICE_THREAD, tables.SLICE_NAME, tables.SLICE_CAT, tables.SLICE_SIZE, tables.SAMPLE_THREAD,
    tables.SAMPLE_NAME, tables.SAMPLE_KEY, tables.FLOW_THREAD, tables.FLOW_PHASE, tables.FLOW_CAT,
)  # fmt: skip
_PADDING = 8


class ScanState:
    """
    The arrays behind one `memplan.traces.scan.scanner` state.

    String 0 is empty. Strings and threads stay from piece to piece; rows are taken out with `take` after each.
    """

    def __init__(self, rows: int) -> None:
        self._state = np.zeros(tables.STATE, dtype=np.int64)
        self._columns: dict[int, NDArray[Any]] = {}
        self.grow_rows(rows)
        self._slots = np.empty(0, dtype=np.int32)
        self._hashes = np.empty(0, dtype=np.uint64)
        self._string_at = np.empty(0, dtype=np.int64)
        self._string_sizes = np.empty(0, dtype=np.int32)
        self._pool = np.empty(0, dtype=np.uint64)
        self._thread_slots = np.empty(0, dtype=np.int32)
        self._pids = np.empty(0, dtype=np.int32)
        self._tids = np.empty(0, dtype=np.int32)
        self.grow_tables(1 << 14, 1 << 17, 1 << 10)
        self._hashes[0], self._string_sizes[0], self._string_at[0] = 0, 0, 0
        self._state[tables.N_STRINGS] = 1

    @property
    def address(self) -> int:
        """What `scanner.scan` takes as `st`."""
        return int(self._state.ctypes.data)

    def grow_rows(self, rows: int) -> None:
        """Make room for `rows` of each sort; those that are there are dropped."""
        for entry in _WIDE:
            dtype = np.float64 if entry == tables.SAMPLE_VALUE else np.int64
            self._columns[entry] = np.empty(rows, dtype=dtype)
        for entry in _NARROW:
            self._columns[entry] = np.empty(rows, dtype=np.int32)
        for entry in (tables.META_AT, tables.META_SIZE):
            self._columns[entry] = np.empty(rows, dtype=np.int64)
        for entry, column in self._columns.items():
            self._state[entry] = column.ctypes.data
        self._state[tables.ROWS] = self._state[tables.META_ROWS] = rows

    @property
    def rows(self) -> int:
        """How many rows of each sort there is room for."""
        return int(self._state[tables.ROWS])

    def grow(self) -> None:
        """Double the tables of strings and threads."""
        self.grow_tables(len(self._string_at) * 2, len(self._pool) * 2, len(self._pids) * 2)

    def grow_tables(self, strings: int, words: int, threads: int) -> None:
        """Make room for so many strings of so many 64-bit words in all, and so many threads; keep what is there."""
        state = self._state
        self._hashes = _extended(self._hashes, strings)
        self._string_at = _extended(self._string_at, strings)
        self._string_sizes = _extended(self._string_sizes, strings)
        self._pool = _extended(self._pool, words + _PADDING)
        self._pids, self._tids = _extended(self._pids, threads), _extended(self._tids, threads)
        self._slots = np.full(strings * 2, -1, dtype=np.int32)
        self._thread_slots = np.full(threads * 2, -1, dtype=np.int32)
        for entry, array in (
            (tables.STRING_SLOTS, self._slots),
            (tables.STRING_HASHES, self._hashes),
            (tables.STRING_AT, self._string_at),
            (tables.STRING_SIZES, self._string_sizes),
            (tables.STRING_POOL, self._pool),
            (tables.THREAD_SLOTS, self._thread_slots),
            (tables.THREAD_PIDS, self._pids),
            (tables.THREAD_TIDS, self._tids),
        ):
            state[entry] = array.ctypes.data
        state[tables.STRING_MASK], state[tables.THREAD_MASK] = strings * 2 - 1, threads * 2 - 1
        state[tables.STRING_ROWS], state[tables.POOL_WORDS], state[tables.THREAD_ROWS] = (
            strings,
            words,
            threads,
        )
        tables.rebuild(self.address)

    def take(self) -> tuple[SliceRows, SampleRows, FlowRows, NDArray[np.int64]]:
        """The rows so far, as copies, and where metadata events are; makes room for the next ones."""
        state = self._state
        slices = slice(int(state[tables.N_SLICES]))
        samples = slice(int(state[tables.N_SAMPLES]))
        flows = slice(int(state[tables.N_FLOWS]))
        metas = slice(int(state[tables.N_META]))

        def wide(entry: int, rows: slice) -> NDArray[np.int64]:
            return self._columns[entry][rows].copy()

        def narrow(entry: int, rows: slice) -> NDArray[np.int32]:
            return self._columns[entry][rows].copy()

        taken = (
            SliceRows(
                wide(tables.SLICE_TS, slices),
                wide(tables.SLICE_DUR, slices),
                narrow(tables.SLICE_THREAD, slices),
                narrow(tables.SLICE_NAME, slices),
                narrow(tables.SLICE_CAT, slices),
                wide(tables.SLICE_AT, slices),
                narrow(tables.SLICE_SIZE, slices),
            ),
            SampleRows(
                wide(tables.SAMPLE_TS, samples),
                narrow(tables.SAMPLE_THREAD, samples),
                narrow(tables.SAMPLE_NAME, samples),
                narrow(tables.SAMPLE_KEY, samples),
                wide(tables.SAMPLE_INSTANCE, samples),
                self._columns[tables.SAMPLE_VALUE][samples].copy(),
            ),
            FlowRows(
                wide(tables.FLOW_TS, flows),
                narrow(tables.FLOW_THREAD, flows),
                narrow(tables.FLOW_PHASE, flows),
                narrow(tables.FLOW_CAT, flows),
                wide(tables.FLOW_ID, flows),
            ),
            np.stack([wide(tables.META_AT, metas), wide(tables.META_SIZE, metas)], axis=1),
        )
        self.clear()
        return taken

    def clear(self) -> None:
        """Drop the rows so far."""
        for entry in (tables.N_SLICES, tables.N_SAMPLES, tables.N_FLOWS, tables.N_META):
            self._state[entry] = 0

    def trouble(self) -> NDArray[np.int64]:
        """Counts from `N_DAMAGED` on since the last call."""
        counts = self._state[tables.N_DAMAGED :].copy()
        self._state[tables.N_DAMAGED :] = 0
        return counts

    def strings(self) -> list[str]:
        """All strings, decoded."""
        pool = self._pool.view(np.uint8)
        count = int(self._state[tables.N_STRINGS])
        texts = []
        for at, size in zip(self._string_at[:count].tolist(), self._string_sizes[:count].tolist(), strict=True):
            texts.append(decoded(pool[at * 8 : at * 8 + size].tobytes()))
        return texts

    def threads(self) -> list[tuple[int, int]]:
        """String numbers of pid and tid of each thread."""
        count = int(self._state[tables.N_THREADS])
        return list(zip(self._pids[:count].tolist(), self._tids[:count].tolist(), strict=True))


def decoded(raw: bytes) -> str:
    """The text of a JSON string's content."""
    text = raw.decode("utf-8", errors="replace")
    if "\\" in text:
        try:
            value = json.loads(f'"{text}"', strict=False)
        except ValueError:
            return text
        return str(value)
    return text


def _extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    longer = np.zeros(size, dtype=array.dtype)
    longer[: len(array)] = array
    return longer
