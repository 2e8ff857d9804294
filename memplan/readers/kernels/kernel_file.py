"""A file that tells of one kernel's buffers, told apart by its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memplan.core.errors import InputError, reason
from memplan.readers.kernels.compile_log import memory_in_log
from memplan.readers.kernels.kernel_memory import KernelMemory
from memplan.readers.kernels.memory_info import memory_info

_MOST_BYTES = 256 << 20
_LONGEST_LINE = 1 << 20
_REMEDY = (
    "name a memory_info*.json (bishengir-compile --enable-memory-display=true), a compile log with 'ub overflow', or "
    "the log of TileLang's planner (TVM_LOG_DEBUG=DEFAULT=2)"
)


def read_kernel_memory(path: Path) -> KernelMemory:
    """The buffers that `path` tells of; raises `InputError` for a file that tells of none or is damaged."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("larger than 256 MiB", path=path, remedy="cut the log down to the kernel's compilation")
        with path.open("rb") as file:
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
                file.seek(0)
                return memory_info(file.read(), path)
        found = memory_in_log(_lines(path))
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path) from None
    if found is None:
        raise InputError("tells of no buffers on chip", path=path, remedy=_REMEDY)
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line
