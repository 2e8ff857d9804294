"""
The compiled reader of trace JSON: bytes to event columns, without a Python object per event.

One call of `scan` reads the events that begin in one piece of a file; `memplan.traces.scan.threads` cuts files into
pieces and runs the calls on threads. `memplan.traces.timeline.events.read_events` does the same in plain Python and is
what the tests hold this against.
"""

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

import numpy as np

from memplan.core.jit import jit_numpy_division
from memplan.traces.scan.addresses import i32, i64, put_f64, put_i32, put_i64, u8
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
    quote_from,
    scaled_ns,
    skip,
    skip_object,
    space,
)
from memplan.traces.timeline.begin_end import BEGIN_MARK, END_MARK

# Results of `scan`.
DONE, MORE_INPUT, MORE_ROWS, MORE_STRINGS, LIST_END = 0, 1, 2, 3, 4

# Fields of an event that are read.
_PH, _TS, _DUR, _NAME, _PID, _TID, _CAT, _ID, _ARGS = range(1, 10)

_MOST_NUMBERS = 64  # in one counter sample
_MOST_OVERRUNS = 64  # events that never end: each is looked for to the end of the text


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


@jit_numpy_division
def _field(buf: int, key: int, size: int) -> int:
    """Which field of an event the key of `size` bytes at `key` is, by its first letters."""
    c0, c1 = u8(buf + key), u8(buf + key + 1)
    if size == 2:
        if c0 == 112 and c1 == 104:
            return _PH
        if c0 == 116 and c1 == 115:
            return _TS
        if c0 == 105 and c1 == 100:
            return _ID
    elif size == 3:
        if c0 == 112 and c1 == 105:
            return _PID
        if c0 == 116 and c1 == 105:
            return _TID
        if c0 == 100 and c1 == 117:
            return _DUR
        if c0 == 99 and c1 == 97:
            return _CAT
    elif size == 4:
        if c0 == 110 and c1 == 97:
            return _NAME
        if c0 == 97 and c1 == 114 and u8(buf + key + 2) == 103:
            return _ARGS
    return 0


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
    # Events of one thread, process or category come in runs: what the last one was called is looked at first.
    pid_at, pid_size, tid_at, tid_size, cat_at, cat_size = 0, -1, 0, -1, 0, -1
    p, t, thread, kind = np.int32(0), np.int32(0), np.int32(-1), np.int32(0)
    while True:
        i, closed = _event_from(buf, i, n)
        if i >= n:
            return (DONE if last else MORE_INPUT), i
        if i >= stop:
            return DONE, i
        if closed and u8(buf + i) != 123:
            return LIST_END, i
        ts, dur, at, size = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        has_ts, has_dur = False, False
        phase = np.int64(0)
        name, name_end, cat, cat_end, flow, flow_end = 0, 0, -1, -1, 0, 0
        pid, pid_end, tid, tid_end, task, task_end = 0, 0, 0, 0, -1, -1
        k = i + 1
        q = quote_from(quotes, q, i)
        arguments_quote = q
        bad = u8(buf + i) != 123
        complete = False
        while not bad:
            k = space(buf, k, n)
            if k >= n:
                break
            if u8(buf + k) == 125:
                k += 1
                complete = True
                break
            if u8(buf + k) != 34:
                bad = True
                break
            key = k + 1
            q = closing_quote(buf, quotes, q, n)
            k = np.int64(i32(quotes + 4 * q))
            q += 1
            key_size = k - key
            k = space(buf, k + 1, n)
            if k >= n:
                break
            if u8(buf + k) != 58:
                bad = True
                break
            k = space(buf, k + 1, n)
            if k >= n:
                break
            value = k
            field = _field(buf, key, key_size)
            if field == _ARGS and u8(buf + k) == 123:
                arguments_quote = q
                k, q, task, task_end = skip_object(buf, quotes, q, k, n)
                at, size = value, k - value
            else:
                k, q = skip(buf, quotes, q, k, n)
                if k < 0:
                    bad = True
                    break
                text = np.int64(u8(buf + value) == 34)
                a, b = value + text, k - text
                if k >= n:
                    break
                if field == _PH:
                    phase = np.int64(u8(buf + a)) if b - a == 1 else np.int64(0)
                elif field == _TS:
                    ts, has_ts = scaled_ns(buf, a, b)
                elif field == _DUR:
                    dur, has_dur = scaled_ns(buf, a, b)
                elif field == _NAME:
                    name, name_end = a, b
                elif field == _PID:
                    pid, pid_end = a, b
                elif field == _TID:
                    tid, tid_end = a, b
                elif field == _CAT:
                    cat, cat_end = a, b
                elif field == _ID:
                    flow, flow_end = a, b
            k = space(buf, k, n)
            if k >= n:
                break
            if u8(buf + k) == 44:
                k += 1
            elif u8(buf + k) != 125:
                bad = True
        if not complete:
            if not bad and not last:
                return MORE_INPUT, i
            following = next_event(buf, i + 1, n)
            if following >= n and not last:
                return MORE_INPUT, i
            if i64(st + 8 * N_DAMAGED) == 0:
                put_i64(st + 8 * FIRST_DAMAGED, base + i)
            count_one(st, N_DAMAGED)
            overruns += not bad
            if overruns > _MOST_OVERRUNS:
                return DONE, n
            i = following
            q = np.int64(0) if i < n and i32(quotes + 4 * q) > i else q
            continue
        half = phase == 66 or phase == 69
        if half:  # one end of a slice, as a row whose duration says which
            dur, has_dur = np.int64(BEGIN_MARK if phase == 66 else END_MARK), True
            phase = np.int64(88)
        if phase == 77:
            if not put_meta(st, base + i, k - i):
                return MORE_ROWS, i
        elif phase != 88 and phase != 67 and phase != 115 and phase != 102 and phase != 116:
            count_one(st, N_OTHER + phase)
        elif not has_ts or (phase == 88 and not half and (not has_dur or dur < 0)) or (phase == 67 and size == 0):
            count_one(st, N_UNUSABLE)
        else:
            other = False
            if not same_bytes(buf + pid, pid_end - pid, buf + pid_at, pid_size):
                p = string_number(buf + pid, pid_end - pid, st)
                pid_at, pid_size = pid, pid_end - pid
                other = True
            if not same_bytes(buf + tid, tid_end - tid, buf + tid_at, tid_size):
                t = string_number(buf + tid, tid_end - tid, st)
                tid_at, tid_size = tid, tid_end - tid
                other = True
            if p < 0 or t < 0:
                return MORE_STRINGS, i
            if other or thread < 0:
                thread = thread_number(p, t, st)
                if thread < 0:
                    return MORE_STRINGS, i
            if phase == 88 and cat < 0 and task >= 0:
                cat, cat_end = task, task_end
            if cat_end <= cat or phase == 67:
                kind = np.int32(0)
                cat_size = -1
            elif not same_bytes(buf + cat, cat_end - cat, buf + cat_at, cat_size):
                kind = string_number(buf + cat, cat_end - cat, st)
                cat_at, cat_size = cat, cat_end - cat
            title = np.int32(0)
            if phase == 88 or phase == 67:
                title = string_number(buf + name, name_end - name, st)
            if kind < 0 or title < 0:
                return MORE_STRINGS, i
            if phase == 88:
                size = size if size > 2 else 0
                if not put_slice(st, ts, dur, base + at if size else 0, size, thread, title, kind):
                    return MORE_ROWS, i
            elif phase == 67:
                row = i64(st + 8 * N_SAMPLES)
                if row + _MOST_NUMBERS > i64(st + 8 * ROWS):
                    return MORE_ROWS, i
                if not _samples(buf, quotes, arguments_quote, at, at + size, ts, thread, title, st):
                    return MORE_STRINGS, i
                if i64(st + 8 * N_SAMPLES) == row:
                    count_one(st, N_UNUSABLE)
            else:
                part = np.int32(0 if phase == 115 else (1 if phase == 116 else 2))
                if not put_flow(st, ts, _flow_id(buf, flow, flow_end), thread, part, kind):
                    return MORE_ROWS, i
        i = k
