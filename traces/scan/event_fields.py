"""
The fields of one event of a trace, in compiled loops: where the text of each stands, and numbers where they are read.

Addresses and positions are as in `memplan.traces.scan.json_text`.
"""

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memplan.core.jit import jit_inlined, jit_numpy_division
from memplan.traces.scan.addresses import i32, u8
from memplan.traces.scan.json_text import closing_quote, quote_from, scaled_ns, skip, skip_object, space
from memplan.traces.timeline.begin_end import BEGIN_MARK, END_MARK

WHOLE, CUT, BAD = 0, 1, 2
"""How reading an event ended: behind it, at the end of the text, or at what no event has."""

SLICE_PHASE = ord("X")
"""The phase of a slice; one end of a slice is read as a slice whose duration says which end it is."""
_BEGIN, _END = ord("B"), ord("E")

_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = (ord(mark) for mark in '",:{}')
_A, _C, _D, _G, _H, _I, _N, _P, _R, _S, _T, _U = (ord(letter) for letter in "acdghinprstu")
_OTHER, _PH, _TS, _DUR, _NAME, _PID, _TID, _CAT, _ID, _ARGS = range(10)


class EventFields(NamedTuple):
    """
    What an event says. `name` to `name_end` is the text of its name, without quotes, and so with all texts.

    Those of the category and the task are -1 where an event has none, all others 0.
    """

    phase: int
    """The character that says what kind of event it is, 0 where it is none."""
    ts: int
    """Nanoseconds."""
    has_ts: bool
    dur: int
    """Nanoseconds."""
    has_dur: bool
    is_end: bool
    """Whether it is one end of a slice, and `dur` a mark that says which."""
    name: int
    name_end: int
    pid: int
    pid_end: int
    tid: int
    tid_end: int
    cat: int
    cat_end: int
    flow: int
    flow_end: int
    arguments: int
    """Where the object of arguments begins, with its brace."""
    arguments_size: int
    arguments_quote: int
    """Index of the first quote from which those of the arguments are found."""
    task: int
    task_end: int
    """The `Task Type` among the arguments."""


@jit_numpy_division
def _field(buf: int, key: int, size: int) -> int:
    """Which field of an event the key of `size` bytes at `key` is, by its first letters."""
    first, second = u8(buf + key), u8(buf + key + 1)
    if size == 2:
        if first == _P and second == _H:
            return _PH
        if first == _T and second == _S:
            return _TS
        if first == _I and second == _D:
            return _ID
    elif size == 3:
        if first == _P and second == _I:
            return _PID
        if first == _T and second == _I:
            return _TID
        if first == _D and second == _U:
            return _DUR
        if first == _C and second == _A:
            return _CAT
    elif size == 4:
        if first == _N and second == _A:
            return _NAME
        if first == _A and second == _R and u8(buf + key + 2) == _G:
            return _ARGS
    return _OTHER


@jit_inlined
def read_event(buf: int, quotes: int, q: int, i: int, n: int) -> tuple[int, int, int, EventFields]:
    """
    Read the event that begins at `i`: how that ended, where, the index of the next quote, and what it says.

    `q` is the index of a quote before it.
    """
    ts, dur, arguments, size = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    has_ts, has_dur = False, False
    phase = np.int64(0)
    name, name_end, cat, cat_end, flow, flow_end = 0, 0, -1, -1, 0, 0
    pid, pid_end, tid, tid_end, task, task_end = 0, 0, 0, 0, -1, -1
    k = i + 1
    q = quote_from(quotes, q, i)
    arguments_quote = q
    ended = CUT if u8(buf + i) == _OPEN else BAD
    while ended == CUT:
        k = space(buf, k, n)
        if k >= n:
            break
        if u8(buf + k) == _CLOSE:
            k += 1
            ended = WHOLE
            break
        if u8(buf + k) != _QUOTE:
            ended = BAD
            break
        key = k + 1
        q = closing_quote(buf, quotes, q, n)
        k = np.int64(i32(quotes + 4 * q))
        q += 1
        key_size = k - key
        k = space(buf, k + 1, n)
        if k >= n:
            break
        if u8(buf + k) != _COLON:
            ended = BAD
            break
        k = space(buf, k + 1, n)
        if k >= n:
            break
        value = k
        field = _field(buf, key, key_size)
        if field == _ARGS and u8(buf + k) == _OPEN:
            arguments_quote = q
            k, q, task, task_end = skip_object(buf, quotes, q, k, n)
            arguments, size = value, k - value
        else:
            k, q = skip(buf, quotes, q, k, n)
            if k < 0:
                ended = BAD
                break
            text = np.int64(u8(buf + value) == _QUOTE)
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
        if u8(buf + k) == _COMMA:
            k += 1
        elif u8(buf + k) != _CLOSE:
            ended = BAD
    is_end = phase in (_BEGIN, _END)
    if is_end:
        dur, has_dur = np.int64(BEGIN_MARK if phase == _BEGIN else END_MARK), True
        phase = np.int64(SLICE_PHASE)
    fields = EventFields(
        phase, ts, has_ts, dur, has_dur, is_end, name, name_end, pid, pid_end, tid, tid_end, cat, cat_end,
        flow, flow_end, arguments, size, arguments_quote, task, task_end,
    )  # fmt: skip
    return ended, k, q, fields
