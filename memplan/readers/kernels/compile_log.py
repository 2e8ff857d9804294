"""
What a log of a kernel's compilation says of buffers.

BiShengIR names the memory that overflowed, with bits needed and available. TileLang-Ascend's planner tells, in TVM's
debug log (`TVM_LOG_DEBUG=DEFAULT=2`), every buffer with its memory, lifetime, size and address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from memplan.readers.kernels.kernel_memory import KernelBuffer, KernelMemory, KernelScope, overflow_in, scope_name

_PLACE = re.compile(r'loc\("([^"]+)":(\d+)')
_SCOPE = re.compile(r"Planning memory for scope: (\S+)")
_FOUND = re.compile(r"Found NPU memory allocation: (\S+) scope=(\S+) size=(\d{1,15}) bytes")
_LIFE = re.compile(r"Buffer (\S+): \[(\d{1,9}), (\d{1,9})\], size=(\d{1,15})")
_ADDRESS = re.compile(r"Allocated buffer (\S+) at offset (\d{1,15}) \(size=(\d{1,15})\)")
_USAGE = re.compile(r"Scope (\S+) memory usage: (\d{1,15})/(\d{1,15}) bytes")
_FAILED = re.compile(r"Memory allocation failed for: (\S+) required: (\d{1,15}), new memory available: (\d{1,15})")


@dataclass(slots=True)
class _TileLangScope:
    lives: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    limit: int | None = None
    needed: int | None = None
    failed: bool = False


def memory_in_log(lines: Iterable[str]) -> KernelMemory | None:
    """What `lines` tell of a kernel's buffers; `None` where they tell nothing."""
    overflows: dict[str, tuple[int, int, str | None]] = {}
    scopes: dict[str, _TileLangScope] = {}
    current: _TileLangScope | None = None
    for line in lines:
        if (told := overflow_in(line)) is not None:
            place = _PLACE.search(line)
            source = f"{place[1]}:{place[2]}" if place else None
            if told[0] not in overflows or told[1] < overflows[told[0]][0]:  # the compiler tries again with less
                overflows[told[0]] = (told[1], told[2], source)
            continue
        if match := _FOUND.search(line):
            # Without its planner TileLang lays all buffers side by side, as if all were alive all the time.
            scopes.setdefault(match[2], _TileLangScope()).lives.setdefault(match[1], (0, 0, int(match[3])))
        elif match := _SCOPE.search(line):
            current = scopes.setdefault(match[1], _TileLangScope())
        elif match := _USAGE.search(line):
            used = scopes.setdefault(match[1], _TileLangScope())
            used.needed, used.limit = int(match[2]), int(match[3])
            used.failed = used.needed > used.limit
        elif current is not None:
            _take(current, line)
    if scopes:
        return KernelMemory("TileLang", None, tuple(_tilelang_scope(name, scope) for name, scope in scopes.items()))
    if not overflows:
        return None
    found = (KernelScope(name, (), True, *told) for name, told in overflows.items())
    return KernelMemory("BiShengIR", None, tuple(found), ("the log names no buffers: " + _MORE,))


_MORE = "bishengir-compile --enable-memory-display=true writes them to memory_info*.json"


def _take(scope: _TileLangScope, line: str) -> None:
    if match := _LIFE.search(line):
        scope.lives[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
    elif match := _ADDRESS.search(line):
        scope.offsets[match[1]] = int(match[2])
    elif _FAILED.search(line):
        scope.failed = True


def _tilelang_scope(name: str, scope: _TileLangScope) -> KernelScope:
    buffers = tuple(
        KernelBuffer(buffer, size, start, end, 1, _at(scope, buffer))
        for buffer, (start, end, size) in scope.lives.items()
    )
    return KernelScope(scope_name(name), buffers, scope.failed, scope.needed, scope.limit)


def _at(scope: _TileLangScope, buffer: str) -> tuple[int, ...]:
    return () if scope.failed or buffer not in scope.offsets else (scope.offsets[buffer],)
