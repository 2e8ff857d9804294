"""
Protobuf wire format, as far as it takes to leave out what a planner doesn't need.

A MindIR file holds up to a gigabyte of weights. They are skipped while the file is read, so that memory is bounded by
the graph, not by its weights. Protobuf's own library can't do that: it takes a message as one run of bytes and keeps
each field of it, also those that its description leaves out. To pass over a field takes its number and its length
only, so this stays as small as the wire format is, which has not changed since 2008; the messages themselves are the
library's.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _PARAMETER, _RAW_DATA = 7, 3, 9
"""ModelProto.graph, GraphProto.parameter and TensorProto.raw_data of MindIR."""

ByteBuffer = mmap.mmap | bytes


class BrokenWireError(ValueError):
    """The bytes are no protobuf message."""


def _varint(data: ByteBuffer, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise BrokenWireError("a number has no end")


def fields(data: ByteBuffer, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """
    `(number, begin, body, stop)` of every field in `data[start:end]`.

    `begin` is where its key starts, `body` where its value does (for length-delimited ones, behind the length). Raises
    `BrokenWireError`.
    """
    place = start
    while place < end:
        begin = place
        key, place = _varint(data, place, end)
        kind = key & 7
        if kind == _VARINT:
            body = place
            _, place = _varint(data, place, end)
        elif kind == _BYTES:
            length, place = _varint(data, place, end)
            body = place
            place += length
        elif kind in (_FIXED64, _FIXED32):
            body = place
            place += 8 if kind == _FIXED64 else 4
        else:
            raise BrokenWireError(f"wire type {kind}")
        if place > end:
            raise BrokenWireError("a field is longer than the file")
        yield key >> 3, begin, body, place


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(number: int, body: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(body)) + body


def without_weights(path: Path) -> bytes:
    """The MindIR file at `path` without the values of its parameters; raises `BrokenWireError` for what is none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kept = bytearray()
        for number, begin, body, stop in fields(data, 0, len(data)):
            if number == _GRAPH:
                kept += _delimited(_GRAPH, _graph(data, body, stop))
            else:
                kept += data[begin:stop]
        return bytes(kept)


def _graph(data: ByteBuffer, start: int, end: int) -> bytes:
    kept = bytearray()
    for number, begin, body, stop in fields(data, start, end):
        if number == _PARAMETER:
            small = b"".join(
                data[inner:after] for field, inner, _, after in fields(data, body, stop) if field != _RAW_DATA
            )
            kept += _delimited(_PARAMETER, small)
        else:
            kept += data[begin:stop]
    return bytes(kept)
