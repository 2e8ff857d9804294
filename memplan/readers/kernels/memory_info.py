"""
`memory_info*.json` of BiShengIR, the compiler behind Triton-Ascend, written with `--enable-memory-display=true`.

A record for every memory, with its buffers: extents in bits, addresses in bytes, lifetimes in ticks of the compiler's
program. Older files list the buffers without memories. The format follows from `MemoryDisplay.cpp` of AscendNPU-IR.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.readers.kernels.kernel_memory import KernelBuffer, KernelMemory, KernelScope, overflow_in, scope_name

_TYPE = re.compile(r"memref<((?:\d{1,18}x)*)([a-z]+\d{1,9}\w*)\b")
_SPACE = re.compile(r"address_space<(\w+)>")
_NAME = re.compile(r"\s*(%[\w.\-]+)\s*=")
_LOCATION = re.compile(r'"([^"]+)":(\d+)(?::\d+)?')
_BITS = re.compile(r"\d+")
_REMEDY = "let bishengir-compile write it again with --enable-memory-display=true"
_LARGEST = 1 << 48


def memory_info(data: bytes, path: str | Path) -> KernelMemory:
    """The kernel that the bytes of a `memory_info*.json` tell of; raises `InputError` where it is damaged."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON: {error}", path=path, remedy=_REMEDY) from None
    records = document.get("Record") if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise InputError("has no list of records", path=path, remedy=_REMEDY)
    header = document.get("Header")
    kernel = header.get("KernelName") if isinstance(header, dict) else None
    flat = [record for record in records if isinstance(record, dict) and "memory_info_array" not in record]
    scopes = [_scope(record, f"record {place}", path) for place, record in enumerate(records) if record not in flat]
    scopes += _scopes_of_buffers(flat, path)
    notes = []
    if repeated := sum(len(scope.buffers) - len(_once(scope.buffers)) for scope in scopes):
        notes.append(f"{repeated} buffers are listed more than once and count once")
    whole = tuple(
        KernelScope(scope.name, _once(scope.buffers), scope.failed, scope.needed, scope.available, scope.source)
        for scope in scopes
    )
    return KernelMemory("BiShengIR", kernel if isinstance(kernel, str) else None, whole, tuple(notes))


def _once(buffers: tuple[KernelBuffer, ...]) -> tuple[KernelBuffer, ...]:
    return tuple(dict.fromkeys(buffers))


def _scope(record: Any, place: str, path: str | Path) -> KernelScope:
    if not isinstance(record, dict) or not isinstance(record.get("memory_info_array"), list):
        raise InputError("is no record of a memory", path=path, place=place, remedy=_REMEDY)
    buffers = tuple(_buffers(record["memory_info_array"], place, path))
    told = overflow_in(str(record.get("error_info", "")))
    failed = str(record.get("status", "")).casefold() == "fail"
    name = scope_name(str(record.get("scope", "")))
    return KernelScope(name, buffers, failed, *(told[1:] if told and told[0] == name else (None, None)))


def _scopes_of_buffers(records: list[dict[str, Any]], path: str | Path) -> Iterator[KernelScope]:
    """Buffers that are listed without their memories, which their types name."""
    by_scope: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        space = _SPACE.search(str(record.get("buffer", "")))
        by_scope.setdefault(scope_name(space[1]) if space else "", []).append(record)
    for name, listed in by_scope.items():
        yield KernelScope(name, tuple(_buffers(listed, "buffer", path)))


def _buffers(listed: list[Any], place: str, path: str | Path) -> Iterator[KernelBuffer]:
    for number, entry in enumerate(listed):
        where = f"{place}, buffer {number}"
        if not isinstance(entry, dict):
            raise InputError("is no buffer", path=path, place=where, remedy=_REMEDY)
        text = str(entry.get("buffer", ""))
        extent = _whole(entry.get("extent"), "extent", where, path)
        life = entry.get("life_time_in_ir")
        if not isinstance(life, list) or len(life) != 2:
            raise InputError("has no lifetime of two ticks", path=path, place=where, remedy=_REMEDY)
        start, end = (_whole(tick, "life_time_in_ir", where, path) for tick in life)
        if end < start:
            raise InputError(f"ends at tick {end}, before its start {start}", path=path, place=where, remedy=_REMEDY)
        offsets = entry.get("offset")
        given = offsets if isinstance(offsets, list) else []
        shape, bits = _type_of(text)
        name = _NAME.match(text)
        yield KernelBuffer(
            name[1] if name else text[:40] or f"buffer {number}",
            # Extents are bits; older files have bytes, which the buffer's own type tells.
            extent if bits and extent * 8 == bits else -(-extent // 8),
            start,
            end,
            max(len(given), 1),
            tuple(_whole(item, "offset", where, path) for item in given),
            _source_of(entry),
            entry.get("is_tmpbuf") is True,
            shape,
        )


def _whole(value: object, name: str, place: str, path: str | Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise InputError(f"{name} {str(value)[:40]} is no size or tick", path=path, place=place, remedy=_REMEDY)
    return value


def _type_of(text: str) -> tuple[tuple[int, ...], int | None]:
    """Shape and bits of the `memref` in `text`; nothing where it has open dimensions."""
    match = _TYPE.search(text)
    if match is None:
        return (), None
    shape = tuple(int(size) for size in match[1].split("x") if size)
    width = _BITS.search(match[2])
    return shape, None if width is None else math.prod(shape) * int(width[0])


def _source_of(entry: Mapping[str, Any]) -> str | None:
    """`file:line` of the location; of a call, the place in the Python source where one is named."""
    found = _LOCATION.findall(str(entry.get("source_location", "")))
    if not found:
        return None
    name, line = next((item for item in found if item[0].endswith(".py")), found[0])
    return f"{name}:{line}"
