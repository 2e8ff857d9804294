"""
Offset problems from files: minimalloc's CSV and the structured JSON (schema version 1) of on-chip problems.

CSV: a header `id,lower,upper,size` in any order with optional `alignment`, `hint`, `gaps` and `offset`, one buffer per
row, lifetimes half-open. The older header names `start`/`begin`, `end` (inclusive) and `buffer`/`buffer_id` are read
as well. A gap `a-b` is a span in which the buffer uses nothing, `a-b@low:high` one in which it uses only `[low, high)`
of its own bytes; several are divided by spaces. `offset` pins a buffer; a `hint` is checked and has no effect.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from memplan.core.errors import InputError
from memplan.placement.offsets.problem import Buffer, Pool, Problem, Term

LARGEST_INTEGER = 2**60
MAX_FILE = 2**30
_COLUMNS = {"begin": "lower", "start": "lower", "end": "upper", "buffer": "id", "buffer_id": "id"}
_KNOWN = {"id", "lower", "upper", "size", "alignment", "hint", "gaps", "offset"}
_TERMS = ("capacity_overflow", "reuse_cost", "total_peak", "max_peak")


def read_problem(path: Path, *, capacity: int | None = None, capacities: Mapping[str, int] | None = None) -> Problem:
    """
    The problem in `path`: JSON when it starts with a brace, otherwise CSV.

    `capacity` (bytes) is that of the only pool, or of every pool of a JSON file; `capacities` gives it by pool name
    where the file leaves it open. Raises `InputError` naming the file, the place and the remedy.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError("larger than 1 GiB", path=path, remedy="split the problem")
        with path.open("rb") as stream:
            head = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head[:1] == b"{":
            return _read_json(path, capacity, capacities or {})
        return _read_csv(path, capacity)
    except OSError as error:
        raise InputError(error.strerror or "can't be read", path=path) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", path=path, place=f"byte {error.start}") from error


def _integer(text: object, path: Path, place: str, least: int = -LARGEST_INTEGER) -> int:
    try:
        value = text if isinstance(text, int) and not isinstance(text, bool) else int(cast(str, text).strip(), 10)
    except (AttributeError, ValueError):
        raise InputError(f"{str(text)[:40]!r} is not an integer", path=path, place=place) from None
    if not least <= value <= LARGEST_INTEGER:
        raise InputError(f"{value} is out of range", path=path, place=place)
    return value


def _read_csv(path: Path, capacity: int | None) -> Problem:
    buffers: list[Buffer] = []
    windows: list[tuple[int, int, int, int, int]] = []  # buffer, span, bytes of it that are used
    names: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream)
        try:
            header = [name.strip().lower() for name in next(rows, [])]
            columns = [_COLUMNS.get(name, name) for name in header]
            inclusive = int("end" in header)
            unknown = [name for name in columns if name not in _KNOWN]
            missing = [name for name in ("id", "lower", "upper", "size") if name not in columns]
            if missing or unknown or len(set(columns)) != len(columns):
                raise InputError(
                    f"header is {','.join(header)[:80]!r}", path=path, place="line 1",
                    remedy="it must be id,lower,upper,size with alignment, hint, gaps and offset as options",
                )  # fmt: skip
            numeric = True
            for row in rows:
                place = f"line {rows.line_num}"
                if not row or not "".join(row).strip():
                    continue
                if len(row) != len(columns):
                    raise InputError(f"{len(row)} fields under {len(columns)} headers", path=path, place=place)
                cell = dict(zip(columns, row, strict=True))
                name = cell["id"].strip()
                if name in names:
                    raise InputError(f"id {name!r} occurs twice", path=path, place=place)
                names[name] = len(buffers)
                numeric = numeric and name.isascii() and name.isdigit() and len(name) < 18
                buffers.append(_row(cell, len(buffers), name, inclusive, windows, path, place))
        except csv.Error as error:
            raise InputError(str(error), path=path, place=f"line {rows.line_num}") from error
    if numeric and len({int(name) for name in names}) == len(names):
        ids = [int(b.name) for b in buffers]
        buffers = [
            Buffer(i, b.size, b.intervals, b.alignment, b.pools, b.pin, b.name)
            for i, b in zip(ids, buffers, strict=True)
        ]
    return _with_windows(buffers, windows, Pool(0, "memory", capacity))


def _row(
    cell: Mapping[str, str], number: int, name: str, inclusive: int,
    windows: list[tuple[int, int, int, int, int]], path: Path, place: str,
) -> Buffer:  # fmt: skip
    lower = _integer(cell["lower"], path, f"{place}, lower")
    upper = _integer(cell["upper"], path, f"{place}, upper") + inclusive
    size = _integer(cell["size"], path, f"{place}, size", 0)
    alignment = _integer(cell.get("alignment", "1"), path, f"{place}, alignment", 1)
    _integer(cell.get("hint", "-1"), path, f"{place}, hint", -1)
    offset = _integer(cell["offset"], path, f"{place}, offset", -1) if "offset" in cell else -1
    if upper < lower:
        raise InputError(f"lifetime ends at {upper} before it starts at {lower}", path=path, place=place)
    intervals: list[tuple[int, int]] = []
    current = lower
    gaps = []
    for text in cell.get("gaps", "").split():
        span, _, window = text.partition("@")
        start, dash, end = span.partition("-")
        low, colon, high = window.partition(":")
        if not dash or (window and not colon):
            raise InputError(f"gap {text[:40]!r} is not a-b or a-b@low:high", path=path, place=f"{place}, gaps")
        used = (0, 0)
        if window:
            used = _integer(low, path, f"{place}, gaps", 0), _integer(high, path, f"{place}, gaps", 0)
            if not used[0] <= used[1] <= size:
                raise InputError(
                    f"window of gap {text[:40]!r} is outside the buffer", path=path, place=f"{place}, gaps"
                )
        gaps.append((_integer(start, path, f"{place}, gaps"), _integer(end, path, f"{place}, gaps") + inclusive, *used))
    for first, last, low_byte, high_byte in sorted(gaps):
        if not current <= first <= last <= upper:
            raise InputError("gaps overlap or lie outside the lifetime", path=path, place=f"{place}, gaps")
        if first > current:
            intervals.append((current, first))
        if high_byte > low_byte and last > first:
            windows.append((number, first, last, low_byte, high_byte))
        current = last
    if current < upper:
        intervals.append((current, upper))
    pin = (0, offset) if offset >= 0 else None
    return Buffer(number, size, tuple(intervals), alignment, pin=pin, name=name)


def _with_windows(buffers: list[Buffer], windows: list[tuple[int, int, int, int, int]], pool: Pool) -> Problem:
    """
    The problem with every window of a gap as a buffer of its own, held in place by a buffer that is never alive.

    The filler starts where the buffer starts and is as long as the window is deep; the window's bytes follow it.
    """
    free = max((b.id for b in buffers), default=-1) + 1
    ids = [b.id for b in buffers]
    extra: list[Buffer] = []
    together: list[tuple[int, ...]] = []
    contiguous: list[tuple[int, ...]] = []
    for number, start, stop, low, high in windows:
        owner = buffers[number]
        filler, window = free, free + 1
        free += 2
        extra.append(Buffer(filler, low, (), name=f"{owner.name} before its window"))
        extra.append(Buffer(window, high - low, ((start, stop),), name=f"{owner.name} at {start}"))
        together.append((ids[number], filler))
        contiguous.append((filler, window))
    return Problem((*buffers, *extra), (pool,), colocations=tuple(together), contiguous=tuple(contiguous))


def _read_json(path: Path, capacity: int | None, capacities: Mapping[str, int]) -> Problem:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise  # `read_problem` says at which byte
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", "?")
        raise InputError("is not JSON", path=path, place=f"line {line}") from error
    if document.get("schema_version") != 1 or not isinstance(document.get("problem"), dict):
        raise InputError("is not a version 1 allocation problem", path=path, place="schema_version")
    try:
        return _from_document(document["problem"], path, capacity, capacities)
    except KeyError as error:
        raise InputError(f"lacks the field {error}", path=path, place="problem") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError("a field has the wrong type", path=path, place="problem") from error


def _from_document(body: dict[str, Any], path: Path, capacity: int | None, capacities: Mapping[str, int]) -> Problem:
    def number(value: object, place: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{str(value)[:40]!r} is not an integer", path=path, place=place)
        return _integer(value, path, place)

    def pair(item: dict[str, Any], place: str) -> tuple[int, int]:
        return number(item["first"], place), number(item["second"], place)

    pools = []
    for item in body["pools"]:
        place = f"pool {item['id']}"
        stated = item.get("capacity")
        limit = capacities.get(item["name"]) if stated is None else number(stated, place)
        spans = tuple((number(r["begin"], place), number(r["end"], place)) for r in item.get("reserved_ranges", ()))
        pools.append(Pool(number(item["id"], place), str(item["name"]), limit if capacity is None else capacity, spans))
    rules = body["constraints"]
    pins: dict[int, tuple[int, int]] = {}
    exclusive: list[int] = []
    for item in rules["pinned_allocations"]:
        buffer = number(item["buffer"], "pinned_allocations")
        pins[buffer] = number(item["pool"], "pinned_allocations"), number(item["offset"], "pinned_allocations")
        if item.get("exclusive_for_all_time"):
            exclusive.append(buffer)
    buffers = []
    for item in body["buffers"]:
        place = f"buffer {item['id']}"
        spans = tuple((number(s["lower"], place), number(s["upper"], place)) for s in item["live_intervals"])
        buffers.append(Buffer(
            number(item["id"], place), number(item["size"], place), tuple(sorted(spans)),
            number(item["alignment"], place), tuple(number(p, place) for p in item["allowed_pools"]),
            pins.get(item["id"]), str(item.get("name", "")),
        ))  # fmt: skip
    separations = [pair(item, "separations") for item in rules["separations"]]
    separations += [(i, b.id) for i in exclusive for b in buffers if b.id != i]
    penalties: dict[tuple[int, int], int] = {}
    for item in body.get("cost_model", {}).get("reuse_penalties", ()):
        first, second = sorted(pair(item, "reuse_penalties"))
        penalties[first, second] = penalties.get((first, second), 0) + number(item["cost"], "reuse_penalties")
    terms = body.get("objective", {}).get("terms") or _TERMS
    unknown = [term for term in terms if term not in _TERMS]
    if unknown:
        raise InputError(f"objective {str(unknown[0])!r} is not known", path=path, place="objective",
                         remedy=f"use {', '.join(_TERMS)}")  # fmt: skip
    return Problem(
        tuple(buffers), tuple(pools),
        colocations=tuple(pair(item, "colocations") for item in rules["colocations"]),
        separations=tuple(separations),
        exclusions=tuple(pair(item, "temporal_exclusions") for item in rules["temporal_exclusions"]),
        reuse_penalties=penalties, objective=tuple(cast(Term, term) for term in terms),
    )  # fmt: skip
