"""How many processes or threads work at a time, and pieces of work on so many threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

JOBS_VARIABLE = "MEMPLAN_JOBS"
"""The variable of the environment that says so, for processes that are started as well."""
_MOST_THREADS = 4
"""As many pieces as are in memory at a time."""

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


def most_workers() -> int:
    """What `MEMPLAN_JOBS` says (`memplan -j` sets it), else one for each processor that this process may run on."""
    said = os.environ.get(JOBS_VARIABLE, "")
    if said.isascii() and said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[_Piece], _Result], pieces: Sequence[_Piece]) -> Iterator[_Result]:
    """What `work`, which mostly holds no interpreter's lock, makes of each piece, in their order."""
    threads = min(most_workers(), len(pieces), _MOST_THREADS)
    if threads < 2:
        yield from map(work, pieces)
        return
    from concurrent.futures import ThreadPoolExecutor  # which most runs don't need

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, pieces)
