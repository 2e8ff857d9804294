"""Arrays that grow at their end without ever being held twice."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIRST_BYTES = 1 << 20


class GrowableArray:
    """
    A column that is appended to.

    Its memory is mapped, so that it can move without being copied where the system allows that, pages beyond the end
    cost nothing, and all of it goes back to the system when the array is dropped.
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._memory = _mapped(_FIRST_BYTES)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, values: NDArray[Any]) -> None:
        """Put `values` at the end."""
        needed = (self._count + len(values)) * self._dtype.itemsize
        if needed > len(self._memory):
            self._enlarge(max(needed, 2 * len(self._memory)))
        end = self._count * self._dtype.itemsize
        np.frombuffer(self._memory, dtype=self._dtype, count=len(values), offset=end)[:] = values
        self._count += len(values)

    def array(self) -> NDArray[Any]:
        """The column so far; nothing may be appended while it is in use."""
        return np.frombuffer(self._memory, dtype=self._dtype, count=self._count)

    def _enlarge(self, size: int) -> None:
        try:
            self._memory.resize(size)
        except (SystemError, OSError, ValueError):
            larger = _mapped(size)
            larger.write(self._memory[: self._count * self._dtype.itemsize])
            self._memory = larger


def _mapped(size: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE") and hasattr(mmap, "MAP_ANONYMOUS"):
        # Shared memory, the default, can't be used beyond its first size.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
