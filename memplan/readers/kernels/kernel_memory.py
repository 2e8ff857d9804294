"""Buffers of one kernel in the memories of a core, as its compiler placed them or failed to."""

from __future__ import annotations

import re
from dataclasses import dataclass

TIER_OF_SCOPE = {
    "ub": "UB", "cbuf": "L1", "ca": "L0A", "cb": "L0B", "cc": "L0C",
    "shared": "UB", "shared.dyn": "L1", "wmma.matrix_a": "L0A", "wmma.matrix_b": "L0B", "wmma.accumulator": "L0C",
}  # fmt: skip
"""Memories as BiShengIR (Triton-Ascend) and TVM (TileLang-Ascend) call them."""

_OVERFLOW = re.compile(r"\b(\w+) overflow, requires (\d{1,18}) bits while (\d{1,18}) bits ava\w*")


@dataclass(frozen=True, slots=True)
class KernelBuffer:
    """
    `copies` buffers of `size` bytes, alive from tick `start` to tick `end`, both included.

    Ticks are places in the compiler's program, not lines. `offsets` are the addresses of the copies, empty where none
    were given. `source` is the line that asks for it, as `file:line`; `temporary` ones were added by the compiler.
    `shape` is empty where it is unknown.
    """

    name: str
    size: int
    start: int
    end: int
    copies: int = 1
    offsets: tuple[int, ...] = ()
    source: str | None = None
    temporary: bool = False
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelScope:
    """One memory: what the compiler `needed` of the `available` bytes, where it says so, and the buffers in it."""

    name: str
    buffers: tuple[KernelBuffer, ...]
    failed: bool = False
    needed: int | None = None
    available: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """What one file says of a kernel; `kernel` is its name where the file has one."""

    producer: str
    kernel: str | None
    scopes: tuple[KernelScope, ...]
    notes: tuple[str, ...] = ()


def overflow_in(text: str) -> tuple[str, int, int] | None:
    """Memory, bytes needed and bytes available, where `text` is BiShengIR's message of an overflow (which has bits)."""
    match = _OVERFLOW.search(text)
    if match is None:
        return None
    return scope_name(match[1]), -(-int(match[2]) // 8), int(match[3]) // 8


def scope_name(told: str) -> str:
    """The memory that a compiler calls `told`; unknown ones keep their name."""
    return TIER_OF_SCOPE.get(told.casefold(), told)
