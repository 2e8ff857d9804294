"""
The compiled reader of trace JSON: bytes to event columns, without a Python object per event.

One call of `scan` reads the events that begin in one piece of a file; `memplan.traces.scan.threads` cuts files into
pieces and runs the calls on threads. `memplan.traces.timeline.events.read_events` does the same in plain Python and is
what the tests hold this against.
"""

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memplan.core.jit import jit_inlined, jit_numpy_division
from memplan.traces.scan.addresses import i32, i64, put_f64, put_i32, put_i64, u8
from memplan.traces.scan.event_fields import CUT, SLICE_PHASE, WHOLE, EventFields, read_event
from memplan.traces.scan.event_tables import (
    FIRST_DAMAGED,
    N_DAMAGED,
    N_OTHER,
    N_SAMPLES,
    N_UNUSABLE,
    ROWS,
    SAMPLE_INSTANCE,
    SAMPLE_KEY,
    SAMPLE_NAME,
    SAMPLE_THREAD,
    SAMPLE_TS,
    SAMPLE_VALUE,
    count_one,
    hash_of,
    put_flow,
    put_meta,
    put_slice,
    same_bytes,
    string_number,
    thread_number,
)
from memplan.traces.scan.json_text import (
    closing_quote,
    decimal_float,
    next_event,
    skip,
    space,
)

# Results of `scan`.
DONE, MORE_INPUT, MORE_ROWS, MORE_STRINGS, LIST_END = 0, 1, 2, 3, 4

# Phases of events that are read.
_COUNTER, _META = (ord(phase) for phase in "CM")
_FLOW_START, _FLOW_STEP, _FLOW_END = (ord(phase) for phase in "stf")

_MOST_NUMBERS = 64  # in one counter sample
_MOST_OVERRUNS = 64  # events that never end: each is looked for to the end of the text


class _Numbers(NamedTuple):
    """
    Of an event the numbers of its strings and thread, -1 where the tables are full, and where the strings stand.

    Events of one thread, process or category come in runs: what the last one was called is looked at first.
    """

    pid_at: int
    pid_size: int
    pid: int
    tid_at: int
    tid_size: int
    tid: int
    thread: int
    cat_at: int
    cat_size: int
    kind: int
    """Of the category."""


@jit_numpy_division
def _flow_id(buf: int, a: int, b: int) -> int:
    """See `memplan.traces.timeline.events.flow_id`; the hash differs, but ids are only compared within a file."""
    if b - a <= 18 and b > a:
        value = np.int64(0)
        for i in range(a, b):
            digit = np.int64(u8(buf + i)) - 48
            if digit < 0 or digit > 9:
                value = np.int64(-1)
                break
            value = value * 10 + digit
        if value >= 0:
            return value
    return np.int64(hash_of(buf + a, b - a) >> np.uint64(2)) | np.int64(1 << 62)


@jit_numpy_division
def _samples(buf: int, quotes: int, q: int, a: int, b: int, ts: int, thread: int, name: int, st: int) -> bool:
    """
    Append the numbers of the counter arguments `buf[a:b]`; false where the strings are full.

    Numbers beyond `_MOST_NUMBERS` are hostile and left out; there is room for that many.
    """
    row = i64(st + 8 * N_SAMPLES)
    first = row
    instance = np.int64(-1)
    i = space(buf, a + 1, b)
    while i < b and u8(buf + i) == 34 and row - first < _MOST_NUMBERS:
        key = i + 1
        q = closing_quote(buf, quotes, q, b)
        key_end = min(np.int64(i32(quotes + 4 * q)), b)
        q += 1
        i = space(buf, key_end + 1, b)
        if i >= b or u8(buf + i) != 58:
            break
        i = space(buf, i + 1, b)
        if i >= b:
            break
        at = i
        i, q = skip(buf, quotes, q, i, b)
        if i < 0:
            break
        text = np.int64(u8(buf + at) == 34)
        value, valid = decimal_float(buf, at + text, i - text)
        if valid:
            if (
                key_end - key >= 3 and u8(buf + key_end - 3) == 95
                and u8(buf + key_end - 2) == 105 and u8(buf + key_end - 1) == 100
            ):  # fmt: skip
                instance = np.int64(value) if abs(value) < 9e15 else np.int64(-1)
            else:
                number = string_number(buf + key, key_end - key, st)
                if number < 0:
                    return False
                put_i64(i64(st + 8 * SAMPLE_TS) + 8 * row, ts)
                put_i32(i64(st + 8 * SAMPLE_THREAD) + 4 * row, thread)
                put_i32(i64(st + 8 * SAMPLE_NAME) + 4 * row, name)
                put_i32(i64(st + 8 * SAMPLE_KEY) + 4 * row, number)
                put_f64(i64(st + 8 * SAMPLE_VALUE) + 8 * row, value)
                row += 1
        i = space(buf, i, b)
        if i < b and u8(buf + i) == 44:
            i = space(buf, i + 1, b)
    for k in range(first, row):
        put_i64(i64(st + 8 * SAMPLE_INSTANCE) + 8 * k, instance)
    put_i64(st + 8 * N_SAMPLES, row)
    return True


@jit_numpy_division
def _event_from(buf: int, i: int, n: int) -> tuple[int, bool]:
    """Where the next event begins at `i` or behind what separates events, and whether a list ended before it."""
    closed = False
    while i < n:
        c = u8(buf + i)
        if c == 93:
            closed = True
        elif c != 32 and c != 44 and c != 10 and c != 13 and c != 91 and c != 9:
            break
        i += 1
    return i, closed


@jit_inlined
def _numbered(buf: int, event: EventFields, last: _Numbers, st: int) -> _Numbers:
    """The numbers of the event's thread and category, those of the `last` one where they are called the same."""
    pid_at, pid_size, pid, tid_at, tid_size, tid, thread, cat_at, cat_size, kind = last
    other = False
    if not same_bytes(buf + event.pid, event.pid_end - event.pid, buf + pid_at, pid_size):
        pid = string_number(buf + event.pid, event.pid_end - event.pid, st)
        pid_at, pid_size = event.pid, event.pid_end - event.pid
        other = True
    if not same_bytes(buf + event.tid, event.tid_end - event.tid, buf + tid_at, tid_size):
        tid = string_number(buf + event.tid, event.tid_end - event.tid, st)
        tid_at, tid_size = event.tid, event.tid_end - event.tid
        other = True
    if pid < 0 or tid < 0:
        thread = np.int32(-1)
    elif other or thread < 0:
        thread = thread_number(pid, tid, st)
    cat, cat_end = event.cat, event.cat_end
    if event.phase == SLICE_PHASE and cat < 0 and event.task >= 0:
        cat, cat_end = event.task, event.task_end
    if cat_end <= cat or event.phase == _COUNTER:
        kind = np.int32(0)
        cat_size = -1
    elif thread >= 0 and not same_bytes(buf + cat, cat_end - cat, buf + cat_at, cat_size):
        kind = string_number(buf + cat, cat_end - cat, st)
        cat_at, cat_size = cat, cat_end - cat
    return _Numbers(pid_at, pid_size, pid, tid_at, tid_size, tid, thread, cat_at, cat_size, kind)


@jit_inlined
def _put(buf: int, quotes: int, event: EventFields, numbers: _Numbers, base: int, st: int) -> int:
    """Add the row of a slice, the samples of a counter or the end of a flow: `DONE`, or what was full."""
    phase = event.phase
    title = np.int32(0)
    if phase in (SLICE_PHASE, _COUNTER):
        title = string_number(buf + event.name, event.name_end - event.name, st)
    if numbers.kind < 0 or title < 0:
        return MORE_STRINGS
    if phase == SLICE_PHASE:
        size = event.arguments_size if event.arguments_size > 2 else 0
        at = base + event.arguments if size else 0
        if not put_slice(st, event.ts, event.dur, at, size, numbers.thread, title, numbers.kind):
            return MORE_ROWS
    elif phase == _COUNTER:
        row = i64(st + 8 * N_SAMPLES)
        if row + _MOST_NUMBERS > i64(st + 8 * ROWS):
            return MORE_ROWS
        begin, end = event.arguments, event.arguments + event.arguments_size
        if not _samples(buf, quotes, event.arguments_quote, begin, end, event.ts, numbers.thread, title, st):
            return MORE_STRINGS
        if i64(st + 8 * N_SAMPLES) == row:
            count_one(st, N_UNUSABLE)
    else:
        part = np.int32(0 if phase == _FLOW_START else (1 if phase == _FLOW_STEP else 2))
        if not put_flow(st, event.ts, _flow_id(buf, event.flow, event.flow_end), numbers.thread, part, numbers.kind):
            return MORE_ROWS
    return DONE


@jit_numpy_division
def scan(buf: int, quotes: int, i: int, stop: int, n: int, last: bool, base: int, st: int) -> tuple[int, int]:
    """
    Read the events of `buf` that begin from `i` up to `stop`, and return a result and where it stopped.

    `buf[:n]` is text and holds the file's bytes from offset `base`, `quotes` is as `find_quotes` makes it; `last`
    says that the file ends at `n`. Rows go where the state at address `st` says and are counted there. `DONE`: the
    position is that of the next event. `LIST_END`: the list is over. `MORE_INPUT`, `MORE_ROWS`, `MORE_STRINGS`: call
    again from the position with more text, emptied columns or larger string and thread tables.
    """
    q = np.int64(0)
    overruns = 0
    last_numbers = _Numbers(0, -1, np.int32(0), 0, -1, np.int32(0), np.int32(-1), 0, -1, np.int32(0))
    while True:
        i, closed = _event_from(buf, i, n)
        if i >= n:
            return (DONE if last else MORE_INPUT), i
        if i >= stop:
            return DONE, i
        if closed and u8(buf + i) != 123:
            return LIST_END, i
        ended, k, q, event = read_event(buf, quotes, q, i, n)
        if ended != WHOLE:
            if ended == CUT and not last:
                return MORE_INPUT, i
            following = next_event(buf, i + 1, n)
            if following >= n and not last:
                return MORE_INPUT, i
            if i64(st + 8 * N_DAMAGED) == 0:
                put_i64(st + 8 * FIRST_DAMAGED, base + i)
            count_one(st, N_DAMAGED)
            overruns += ended == CUT
            if overruns > _MOST_OVERRUNS:
                return DONE, n
            i = following
            q = np.int64(0) if i < n and i32(quotes + 4 * q) > i else q
            continue
        phase = event.phase
        if phase == _META:
            if not put_meta(st, base + i, k - i):
                return MORE_ROWS, i
        elif phase not in (SLICE_PHASE, _COUNTER, _FLOW_START, _FLOW_STEP, _FLOW_END):
            count_one(st, N_OTHER + phase)
        elif (
            not event.has_ts
            or (phase == SLICE_PHASE and not event.is_end and (not event.has_dur or event.dur < 0))
            or (phase == _COUNTER and event.arguments_size == 0)
        ):
            count_one(st, N_UNUSABLE)
        else:
            last_numbers = _numbered(buf, event, last_numbers, st)
            if last_numbers.thread < 0:
                return MORE_STRINGS, i
            full = _put(buf, quotes, event, last_numbers, base, st)
            if full != DONE:
                return full, i
        i = k
