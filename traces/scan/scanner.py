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
from memplan.traces.scan.addresses import i32, i64, put_f64, put_i32, put_i64, put_u64, u8, u64
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

# Entries of the state: addresses of columns, sizes of tables, then what has been counted so far.
(
    SLICE_TS, SLICE_DUR, SLICE_AT, SLICE_THREAD, SLICE_NAME, SLICE_CAT, SLICE_SIZE,
    SAMPLE_TS, SAMPLE_INSTANCE, SAMPLE_THREAD, SAMPLE_NAME, SAMPLE_KEY, SAMPLE_VALUE,
    FLOW_TS, FLOW_ID, FLOW_THREAD, FLOW_PHASE, FLOW_CAT,
    META_AT, META_SIZE,
    STRING_SLOTS, STRING_HASHES, STRING_AT, STRING_SIZES, STRING_POOL,
    THREAD_SLOTS, THREAD_PIDS, THREAD_TIDS,
    ROWS, META_ROWS, STRING_MASK, STRING_ROWS, POOL_WORDS, THREAD_MASK, THREAD_ROWS,
    N_SLICES, N_SAMPLES, N_FLOWS, N_META, N_STRINGS, N_POOL, N_THREADS,
    N_DAMAGED, FIRST_DAMAGED, N_UNUSABLE, N_OTHER,
) = range(46)  # fmt: skip
STATE = N_OTHER + 256  # from N_OTHER on: events of unknown phase, by its letter

_MOST_NUMBERS = 64  # in one counter sample
_MOST_OVERRUNS = 64  # events that never end: each is looked for to the end of the text


@jit_numpy_division
def _hash(at: int, size: int) -> np.uint64:
    """A hash of `size` bytes at address `at`, eight at a time."""
    prime = np.uint64(0x9E3779B97F4A7C15)
    h = np.uint64(size) * prime
    whole = at + (size & -8)
    while at < whole:
        h = (h ^ u64(at)) * prime
        h ^= h >> np.uint64(32)
        at += 8
    if size & 7:
        h = (h ^ (u64(at) & _mask(size & 7))) * prime
        h ^= h >> np.uint64(32)
    return h


@jit_numpy_division
def _mask(size: int) -> np.uint64:
    """Ones over the lowest `size` (under eight) bytes."""
    return (np.uint64(1) << np.uint64(size * 8)) - np.uint64(1)


@jit_numpy_division
def _intern(at: int, size: int, st: int) -> int:
    """Number of the string of `size` bytes at address `at`, new or known; -1 where the tables are full."""
    h = _hash(at, size)
    mask = i64(st + 8 * STRING_MASK)
    slots = i64(st + 8 * STRING_SLOTS)
    slot = np.int64(h >> np.uint64(1)) & mask
    whole = size & -8
    rest = size & 7
    number = i32(slots + 4 * slot)
    while number >= 0:
        if u64(i64(st + 8 * STRING_HASHES) + 8 * number) == h and i32(i64(st + 8 * STRING_SIZES) + 4 * number) == size:
            pool = i64(st + 8 * STRING_POOL) + 8 * i64(i64(st + 8 * STRING_AT) + 8 * number)
            odd = np.uint64(0)
            for k in range(0, whole, 8):
                odd |= u64(pool + k) ^ u64(at + k)
            if rest:
                odd |= u64(pool + whole) ^ (u64(at + whole) & _mask(rest))
            if odd == np.uint64(0):
                return number
        slot = (slot + 1) & mask
        number = i32(slots + 4 * slot)
    return _new_string(at, size, st, h, slots + 4 * slot)


@jit_numpy_division
def _same(a: int, size: int, b: int, other: int) -> bool:
    """Whether the `size` bytes at address `a` are the `other` bytes at address `b`; false for more than sixteen."""
    if size != other or size > 16 or size <= 0:
        return False
    if size < 8:
        return ((u64(a) ^ u64(b)) & _mask(size)) == np.uint64(0)
    return u64(a) == u64(b) and u64(a + size - 8) == u64(b + size - 8)


@jit_numpy_division
def _new_string(at: int, size: int, st: int, h: np.uint64, slot: int) -> int:
    """Append a string to the pool (each padded to eight bytes) and put its number at `slot`; -1 where it is full."""
    number = i64(st + 8 * N_STRINGS)
    first = i64(st + 8 * N_POOL)
    words = (size + 7) >> 3
    if number >= i64(st + 8 * STRING_ROWS) or first + words > i64(st + 8 * POOL_WORDS):
        return np.int32(-1)
    put_i32(slot, np.int32(number))
    put_u64(i64(st + 8 * STRING_HASHES) + 8 * number, h)
    put_i64(i64(st + 8 * STRING_AT) + 8 * number, first)
    put_i32(i64(st + 8 * STRING_SIZES) + 4 * number, np.int32(size))
    pool = i64(st + 8 * STRING_POOL) + 8 * first
    for k in range(0, size & -8, 8):
        put_u64(pool + k, u64(at + k))
    if size & 7:
        put_u64(pool + (size & -8), u64(at + (size & -8)) & _mask(size & 7))
    put_i64(st + 8 * N_STRINGS, number + 1)
    put_i64(st + 8 * N_POOL, first + words)
    return np.int32(number)


@jit_numpy_division
def rebuild(st: int) -> None:
    """Enter all strings and threads of the state into its slot tables, which are empty."""
    mask = i64(st + 8 * STRING_MASK)
    slots = i64(st + 8 * STRING_SLOTS)
    for number in range(i64(st + 8 * N_STRINGS)):
        slot = np.int64(u64(i64(st + 8 * STRING_HASHES) + 8 * number) >> np.uint64(1)) & mask
        while i32(slots + 4 * slot) >= 0:
            slot = (slot + 1) & mask
        put_i32(slots + 4 * slot, np.int32(number))
    count = i64(st + 8 * N_THREADS)
    put_i64(st + 8 * N_THREADS, np.int64(0))
    for number in range(count):
        _thread(i32(i64(st + 8 * THREAD_PIDS) + 4 * number), i32(i64(st + 8 * THREAD_TIDS) + 4 * number), st)


@jit_numpy_division
def _thread(pid: int, tid: int, st: int) -> int:
    """Number of the thread whose pid and tid are these strings, new or known; -1 where the table is full."""
    mask = i64(st + 8 * THREAD_MASK)
    slots = i64(st + 8 * THREAD_SLOTS)
    h = (np.uint64(pid) * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(tid) * np.uint64(0xC2B2AE3D27D4EB4F))
    slot = np.int64(h >> np.uint64(24)) & mask
    number = i32(slots + 4 * slot)
    while number >= 0:
        if (
            i32(i64(st + 8 * THREAD_PIDS) + 4 * number) == pid
            and i32(i64(st + 8 * THREAD_TIDS) + 4 * number) == tid
        ):  # fmt: skip
            return number
        slot = (slot + 1) & mask
        number = i32(slots + 4 * slot)
    count = i64(st + 8 * N_THREADS)
    if count >= i64(st + 8 * THREAD_ROWS):
        return np.int32(-1)
    put_i32(slots + 4 * slot, np.int32(count))
    put_i32(i64(st + 8 * THREAD_PIDS) + 4 * count, pid)
    put_i32(i64(st + 8 * THREAD_TIDS) + 4 * count, tid)
    put_i64(st + 8 * N_THREADS, count + 1)
    return np.int32(count)


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
    return np.int64(_hash(buf + a, b - a) >> np.uint64(2)) | np.int64(1 << 62)


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
                number = _intern(buf + key, key_end - key, st)
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
        closed = False
        while i < n:
            c = u8(buf + i)
            if c == 93:
                closed = True
            elif c != 32 and c != 44 and c != 10 and c != 13 and c != 91 and c != 9:
                break
            i += 1
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
            c0, c1 = u8(buf + key), u8(buf + key + 1)
            if key_size == 4 and c0 == 97 and c1 == 114 and u8(buf + key + 2) == 103 and u8(buf + k) == 123:
                arguments_quote = q
                k, q, task, task_end = skip_object(buf, quotes, q, k, n)
                at = value
                size = k - value
            else:
                k, q = skip(buf, quotes, q, k, n)
                if k < 0:
                    bad = True
                    break
                a, b = value, k
                if u8(buf + value) == 34:
                    a += 1
                    b -= 1
                if k >= n:
                    break
                if key_size == 2:
                    if c0 == 112 and c1 == 104:
                        phase = np.int64(u8(buf + a)) if b - a == 1 else np.int64(0)
                    elif c0 == 116 and c1 == 115:
                        ts, has_ts = scaled_ns(buf, a, b)
                    elif c0 == 105 and c1 == 100:
                        flow, flow_end = a, b
                elif key_size == 3:
                    if c0 == 112 and c1 == 105:
                        pid, pid_end = a, b
                    elif c0 == 116 and c1 == 105:
                        tid, tid_end = a, b
                    elif c0 == 100 and c1 == 117:
                        dur, has_dur = scaled_ns(buf, a, b)
                    elif c0 == 99 and c1 == 97:
                        cat, cat_end = a, b
                elif key_size == 4 and c0 == 110 and c1 == 97:
                    name, name_end = a, b
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
            _count(st, N_DAMAGED)
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
            row = i64(st + 8 * N_META)
            if row >= i64(st + 8 * META_ROWS):
                return MORE_ROWS, i
            put_i64(i64(st + 8 * META_AT) + 8 * row, base + i)
            put_i64(i64(st + 8 * META_SIZE) + 8 * row, k - i)
            _count(st, N_META)
        elif phase != 88 and phase != 67 and phase != 115 and phase != 102 and phase != 116:
            _count(st, N_OTHER + phase)
        elif not has_ts or (phase == 88 and not half and (not has_dur or dur < 0)) or (phase == 67 and size == 0):
            _count(st, N_UNUSABLE)
        else:
            rows = i64(st + 8 * ROWS)
            other = False
            if not _same(buf + pid, pid_end - pid, buf + pid_at, pid_size):
                p = _intern(buf + pid, pid_end - pid, st)
                pid_at, pid_size = pid, pid_end - pid
                other = True
            if not _same(buf + tid, tid_end - tid, buf + tid_at, tid_size):
                t = _intern(buf + tid, tid_end - tid, st)
                tid_at, tid_size = tid, tid_end - tid
                other = True
            if p < 0 or t < 0:
                return MORE_STRINGS, i
            if other or thread < 0:
                thread = _thread(p, t, st)
                if thread < 0:
                    return MORE_STRINGS, i
            if phase == 88 and cat < 0 and task >= 0:
                cat, cat_end = task, task_end
            if cat_end <= cat or phase == 67:
                kind = np.int32(0)
                cat_size = -1
            elif not _same(buf + cat, cat_end - cat, buf + cat_at, cat_size):
                kind = _intern(buf + cat, cat_end - cat, st)
                cat_at, cat_size = cat, cat_end - cat
            title = np.int32(0)
            if phase == 88 or phase == 67:
                title = _intern(buf + name, name_end - name, st)
            if kind < 0 or title < 0:
                return MORE_STRINGS, i
            if phase == 88:
                row = i64(st + 8 * N_SLICES)
                if row >= rows:
                    return MORE_ROWS, i
                size = size if size > 2 else 0
                put_i64(i64(st + 8 * SLICE_TS) + 8 * row, ts)
                put_i64(i64(st + 8 * SLICE_DUR) + 8 * row, dur)
                put_i64(i64(st + 8 * SLICE_AT) + 8 * row, base + at if size else 0)
                put_i32(i64(st + 8 * SLICE_THREAD) + 4 * row, thread)
                put_i32(i64(st + 8 * SLICE_NAME) + 4 * row, title)
                put_i32(i64(st + 8 * SLICE_CAT) + 4 * row, kind)
                put_i32(i64(st + 8 * SLICE_SIZE) + 4 * row, np.int32(size))
                put_i64(st + 8 * N_SLICES, row + 1)
            elif phase == 67:
                row = i64(st + 8 * N_SAMPLES)
                if row + _MOST_NUMBERS > rows:
                    return MORE_ROWS, i
                if not _samples(buf, quotes, arguments_quote, at, at + size, ts, thread, title, st):
                    return MORE_STRINGS, i
                if i64(st + 8 * N_SAMPLES) == row:
                    _count(st, N_UNUSABLE)
            else:
                row = i64(st + 8 * N_FLOWS)
                if row >= rows:
                    return MORE_ROWS, i
                put_i64(i64(st + 8 * FLOW_TS) + 8 * row, ts)
                put_i64(i64(st + 8 * FLOW_ID) + 8 * row, _flow_id(buf, flow, flow_end))
                put_i32(i64(st + 8 * FLOW_THREAD) + 4 * row, thread)
                put_i32(i64(st + 8 * FLOW_PHASE) + 4 * row, np.int32(0 if phase == 115 else (1 if phase == 116 else 2)))
                put_i32(i64(st + 8 * FLOW_CAT) + 4 * row, kind)
                put_i64(st + 8 * N_FLOWS, row + 1)
        i = k


@jit_numpy_division
def _count(st: int, entry: int) -> None:
    """Add one to an entry of the state."""
    put_i64(st + 8 * entry, i64(st + 8 * entry) + 1)
