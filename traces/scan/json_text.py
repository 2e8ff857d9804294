"""
Walking through JSON text in compiled loops: strings, values to skip, decimal numbers.

Text is `buf`, an address; positions are offsets from it, `n` is where the text ends. `quotes` is the address of the
positions of all quotes (32-bit numbers, made by `find_quotes`): a string is skipped by looking up where it ends.
"""

# mypy: ignore-errors
# The types here are those of compiled code (Numba infers them); an `int` may be of 32 or 64 bits.

from __future__ import annotations

import numpy as np

from memplan.core.jit import jit_numpy_division
from memplan.traces.scan.addresses import i32, put_i32, put_u64, u8, u64

_LONGEST_NUMBER = 64


# For each pattern of eight bits, the places of those that are set: pairs of 32-bit numbers, four to a pattern.
_PLACES = np.array(
    [([bit for bit in range(8) if pattern >> bit & 1] + [0] * 8)[:8] for pattern in range(256)], dtype="<i4"
).view("<u8").reshape(-1)  # fmt: skip


@jit_numpy_division
def find_quotes(buf: int, n: int, quotes: int) -> int:
    """
    Put the positions of all quotes in `buf[:n]` at `quotes`, then `n` twice, and return how many there are.

    Eight bytes at a time: after the exclusive or, a zero byte is a quote, and the top bit of each byte of `mask`
    says which are. One product gathers these into a pattern of eight bits, another counts them. `buf` is readable to
    the next multiple of eight, `quotes` has room for eight numbers more.
    """
    low = np.uint64(0x7F7F7F7F7F7F7F7F)
    sought = np.uint64(0x2222222222222222)
    at = quotes
    for k in range(0, n, 8):
        x = u64(buf + k) ^ sought
        mask = (~(((x & low) + low) | x | low)) >> np.uint64(7)
        pattern = (mask * np.uint64(0x0102040810204080)) >> np.uint64(56)
        count = np.int64((mask * np.uint64(0x0101010101010101)) >> np.uint64(56))
        both = np.uint64(k) * np.uint64(0x100000001)
        entry = pattern << np.uint64(2)
        put_u64(at, _PLACES[entry] + both)
        put_u64(at + 8, _PLACES[entry + np.uint64(1)] + both)
        if count > 4:
            put_u64(at + 16, _PLACES[entry + np.uint64(2)] + both)
            put_u64(at + 24, _PLACES[entry + np.uint64(3)] + both)
        at += 4 * count
    while at > quotes and i32(at - 4) >= n:
        at -= 4
    put_i32(at, np.int32(n))
    put_i32(at + 4, np.int32(n))
    return (at - quotes) // 4


@jit_numpy_division
def space(buf: int, i: int, n: int) -> int:
    """First position from `i` that is no white space."""
    while i < n and (u8(buf + i) == 32 or u8(buf + i) == 10 or u8(buf + i) == 13 or u8(buf + i) == 9):
        i += 1
    return i


@jit_numpy_division
def closing_quote(buf: int, quotes: int, q: int, n: int) -> int:
    """Index in `quotes` of the quote that closes the string opened by quote number `q`; its position is `n` if none."""
    q += 1
    while True:
        end = np.int64(i32(quotes + 4 * q))
        if end >= n or u8(buf + end - 1) != 92:
            return q
        k = end - 2
        while u8(buf + k) == 92:
            k -= 1
        if (end - k) & 1:
            return q
        q += 1


@jit_numpy_division
def quote_from(quotes: int, q: int, i: int) -> int:
    """Index of the first quote at or after position `i`, searching from `q`."""
    while i32(quotes + 4 * q) < i:
        q += 1
    return q


@jit_numpy_division
def skip(buf: int, quotes: int, q: int, i: int, n: int) -> tuple[int, int]:
    """
    End of the JSON value at `i` and the first quote after it; `n` where the buffer ends first, -1 if no value is there.

    Brackets are counted, not matched by kind: what is inside is only looked at when somebody asks for it.
    """
    c = u8(buf + i)
    if c == 34:
        q = closing_quote(buf, quotes, q, n)
        end = np.int64(i32(quotes + 4 * q))
        return min(end + 1, n), q + 1
    if c == 123 or c == 91:
        i, q, _, _ = skip_object(buf, quotes, q, i, n)
        return i, q
    start = i
    while i < n:
        c = u8(buf + i)
        if c <= 32 or c == 44 or c == 125 or c == 93 or c == 34 or c == 58 or c == 123 or c == 91:
            break
        i += 1
    return (i if i > start else -1), q


@jit_numpy_division
def skip_object(buf: int, quotes: int, q: int, i: int, n: int) -> tuple[int, int, int, int]:
    """
    End of the object or list at `i` (`n` where the buffer ends first), the first quote after it, `Task Type`'s bounds.

    The bounds are those of the text under that key at the object's top level, -1 where there is none.
    """
    depth = 0
    task, task_end = -1, -1
    while True:
        stop = np.int64(i32(quotes + 4 * q))
        while i < stop:
            c = u8(buf + i)
            i += 1
            if c >= 91:
                if c == 123 or c == 91:
                    depth += 1
                elif c == 125 or c == 93:
                    depth -= 1
                    if depth == 0:
                        return i, q, task, task_end
        if stop >= n:
            return n, q, -1, -1
        closing = closing_quote(buf, quotes, q, n)
        end = np.int64(i32(quotes + 4 * closing))
        if end >= n:
            return n, q, -1, -1
        if (
            end - i == 10 and depth == 1 and u8(buf + i + 1) == 84 and u8(buf + i + 2) == 97
            and u8(buf + i + 6) == 84 and u8(buf + i + 9) == 101
        ):  # fmt: skip
            k = space(buf, end + 1, n)
            if k < n and u8(buf + k) == 58:
                k = space(buf, k + 1, n)
                if k < n and u8(buf + k) == 34:
                    closing = closing_quote(buf, quotes, closing + 1, n)
                    end = np.int64(i32(quotes + 4 * closing))
                    task, task_end = k + 1, end
        i = end + 1
        q = closing + 1


@jit_numpy_division
def next_event(buf: int, i: int, n: int) -> int:
    """Start of the next object that follows another after `i` (`}`, comma, `{`), `n` where there is none."""
    while i < n:
        if u8(buf + i) == 125:
            k = i + 1
            while k < n and (
                u8(buf + k) == 32 or u8(buf + k) == 44 or u8(buf + k) == 10 or u8(buf + k) == 13 or u8(buf + k) == 9
            ):
                k += 1
            if k < n and u8(buf + k) == 123:
                return k
            if k >= n:
                return n
        i += 1
    return n


@jit_numpy_division
def find_start(buf: int, i: int, n: int) -> int:
    """First position from `i` that looks like the start of an event: `{` after `}` and a comma; -1 if none."""
    while i < n:
        if u8(buf + i) == 123:
            k = i - 1
            while k >= 0 and (u8(buf + k) == 32 or u8(buf + k) == 10 or u8(buf + k) == 13 or u8(buf + k) == 9):
                k -= 1
            if k >= 0 and u8(buf + k) == 44:
                k -= 1
                while k >= 0 and (u8(buf + k) == 32 or u8(buf + k) == 10 or u8(buf + k) == 13 or u8(buf + k) == 9):
                    k -= 1
                if k >= 0 and u8(buf + k) == 125:
                    return i
        i += 1
    return -1


@jit_numpy_division
def scaled_ns(buf: int, a: int, b: int) -> tuple[int, bool]:
    """
    Nanoseconds of the decimal microseconds in `buf[a:b]` and whether they are a number of 64 bits.

    Rounded half away from zero, as `memplan.traces.decimals.scaled`.
    """
    while a < b and (u8(buf + a) == 32 or u8(buf + a) == 9 or u8(buf + a) == 10 or u8(buf + a) == 13):
        a += 1
    while b > a and (u8(buf + b - 1) == 32 or u8(buf + b - 1) == 9 or u8(buf + b - 1) == 10 or u8(buf + b - 1) == 13):
        b -= 1
    if b - a > _LONGEST_NUMBER or a >= b:
        return np.int64(0), False
    negative = u8(buf + a) == 45
    if negative or u8(buf + a) == 43:
        a += 1
    limit = np.int64(9_000_000_000_000_000)
    value = np.int64(0)
    digits = 0
    i = a
    while i < b and 48 <= u8(buf + i) <= 57:
        if value > limit // 10:
            return np.int64(0), False
        value = value * 10 + (u8(buf + i) - 48)
        digits += 1
        i += 1
    if value > limit:
        return np.int64(0), False
    places = 0
    round_up = False
    if i < b and u8(buf + i) == 46:
        i += 1
        while i < b and 48 <= u8(buf + i) <= 57:
            digits += 1
            if places < 3:
                value = value * 10 + (u8(buf + i) - 48)
            elif places == 3:
                round_up = u8(buf + i) >= 53
            places += 1
            i += 1
    if digits == 0:
        return np.int64(0), False
    if i < b:
        if u8(buf + i) != 101 and u8(buf + i) != 69:
            return np.int64(0), False
        return _with_exponent(buf, a, b, negative)
    while places < 3:
        value *= 10
        places += 1
    if round_up:
        value += 1
    return (-value if negative else value), True


@jit_numpy_division
def _with_exponent(buf: int, a: int, b: int, negative: bool) -> tuple[int, bool]:
    """`scaled_ns` of an unsigned number with an exponent, to 18 significant digits."""
    value = np.int64(0)
    kept = 0
    shift = 3
    i = a
    point = False
    while i < b and (48 <= u8(buf + i) <= 57 or u8(buf + i) == 46):
        if u8(buf + i) == 46:
            if point:
                return np.int64(0), False
            point = True
        else:
            if kept < 18:
                value = value * 10 + (u8(buf + i) - 48)
                kept += value > 0
                if point:
                    shift -= 1
            elif not point:
                shift += 1
        i += 1
    i += 1
    minus = i < b and u8(buf + i) == 45
    if i < b and (u8(buf + i) == 45 or u8(buf + i) == 43):
        i += 1
    exponent = 0
    if i >= b or b - i > 4:
        return np.int64(0), False
    while i < b:
        if not 48 <= u8(buf + i) <= 57:
            return np.int64(0), False
        exponent = exponent * 10 + (u8(buf + i) - 48)
        i += 1
    shift += -exponent if minus else exponent
    if value == 0:
        return np.int64(0), True
    while shift > 0:
        if value > np.int64(922_337_203_685_477_580):
            return np.int64(0), False
        value *= 10
        shift -= 1
    while shift < -1 and value > 0:
        value //= 10
        shift += 1
    if shift == -1:
        value = (value + 5) // 10
    return (-value if negative else value), True


@jit_numpy_division
def decimal_float(buf: int, a: int, b: int) -> tuple[float, bool]:
    """The number in `buf[a:b]` as a float and whether it is one; exact to the last bit or two."""
    while a < b and (u8(buf + a) == 32 or u8(buf + a) == 9):
        a += 1
    while b > a and (u8(buf + b - 1) == 32 or u8(buf + b - 1) == 9):
        b -= 1
    if b - a > _LONGEST_NUMBER or a >= b:
        return 0.0, False
    negative = u8(buf + a) == 45
    if negative or u8(buf + a) == 43:
        a += 1
    value = np.int64(0)
    kept = 0
    digits = 0
    exponent = 0
    point = False
    i = a
    while i < b:
        c = u8(buf + i)
        if 48 <= c <= 57:
            digits += 1
            if kept < 18:
                value = value * 10 + (c - 48)
                kept += value > 0
                exponent -= point
            elif not point:
                exponent += 1
        elif c == 46 and not point:
            point = True
        else:
            break
        i += 1
    if digits == 0:
        return 0.0, False
    if i < b:
        if u8(buf + i) != 101 and u8(buf + i) != 69:
            return 0.0, False
        i += 1
        minus = i < b and u8(buf + i) == 45
        if i < b and (u8(buf + i) == 45 or u8(buf + i) == 43):
            i += 1
        if i >= b or b - i > 4:
            return 0.0, False
        told = 0
        while i < b:
            if not 48 <= u8(buf + i) <= 57:
                return 0.0, False
            told = told * 10 + (u8(buf + i) - 48)
            i += 1
        exponent += -told if minus else told
    result = float(value)
    if exponent < 0:
        result = result / 10.0 ** min(-exponent, 300) if exponent >= -300 else 0.0
    elif exponent > 0 and value > 0:
        result = result * 10.0 ** min(exponent, 309)
    return (-result if negative else result), True
