"""The tables that the compiled reader of traces fills: rows of events, strings and threads, at addresses of a state."""

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

import numpy as np

from memplan.core.jit import jit_numpy_division
from memplan.traces.scan.addresses import i32, i64, put_i32, put_i64, put_u64, u64

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


@jit_numpy_division
def hash_of(at: int, size: int) -> np.uint64:
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
def string_number(at: int, size: int, st: int) -> int:
    """Number of the string of `size` bytes at address `at`, new or known; -1 where the tables are full."""
    h = hash_of(at, size)
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
def same_bytes(a: int, size: int, b: int, other: int) -> bool:
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
        thread_number(i32(i64(st + 8 * THREAD_PIDS) + 4 * number), i32(i64(st + 8 * THREAD_TIDS) + 4 * number), st)


@jit_numpy_division
def thread_number(pid: int, tid: int, st: int) -> int:
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
def put_meta(st: int, at: int, size: int) -> bool:
    """Add where an event of metadata stands in the file; false where rows are full."""
    row = i64(st + 8 * N_META)
    if row >= i64(st + 8 * META_ROWS):
        return False
    put_i64(i64(st + 8 * META_AT) + 8 * row, at)
    put_i64(i64(st + 8 * META_SIZE) + 8 * row, size)
    put_i64(st + 8 * N_META, row + 1)
    return True


@jit_numpy_division
def put_slice(st: int, ts: int, dur: int, at: int, size: int, thread: int, title: int, kind: int) -> bool:
    """Add a slice, whose arguments are `size` bytes at `at` in the file; false where rows are full."""
    row = i64(st + 8 * N_SLICES)
    if row >= i64(st + 8 * ROWS):
        return False
    put_i64(i64(st + 8 * SLICE_TS) + 8 * row, ts)
    put_i64(i64(st + 8 * SLICE_DUR) + 8 * row, dur)
    put_i64(i64(st + 8 * SLICE_AT) + 8 * row, at)
    put_i32(i64(st + 8 * SLICE_THREAD) + 4 * row, thread)
    put_i32(i64(st + 8 * SLICE_NAME) + 4 * row, title)
    put_i32(i64(st + 8 * SLICE_CAT) + 4 * row, kind)
    put_i32(i64(st + 8 * SLICE_SIZE) + 4 * row, np.int32(size))
    put_i64(st + 8 * N_SLICES, row + 1)
    return True


@jit_numpy_division
def put_flow(st: int, ts: int, flow: int, thread: int, part: int, kind: int) -> bool:
    """Add an end (0), a step (1) or the other end (2) of a flow; false where rows are full."""
    row = i64(st + 8 * N_FLOWS)
    if row >= i64(st + 8 * ROWS):
        return False
    put_i64(i64(st + 8 * FLOW_TS) + 8 * row, ts)
    put_i64(i64(st + 8 * FLOW_ID) + 8 * row, flow)
    put_i32(i64(st + 8 * FLOW_THREAD) + 4 * row, thread)
    put_i32(i64(st + 8 * FLOW_PHASE) + 4 * row, part)
    put_i32(i64(st + 8 * FLOW_CAT) + 4 * row, kind)
    put_i64(st + 8 * N_FLOWS, row + 1)
    return True


@jit_numpy_division
def count_one(st: int, entry: int) -> None:
    """Add one to an entry of the state."""
    put_i64(st + 8 * entry, i64(st + 8 * entry) + 1)
