"""Pieces of work that mostly run without the interpreter's lock, on threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")

_THREADS = 2
"""As few as keep a machine of two cores busy: each piece in work takes memory."""


def in_threads(work: Callable[[_Piece], _Result], pieces: Sequence[_Piece]) -> Iterator[_Result]:
    """What `work` makes of each piece, in their order; a single piece is done right here."""
    if len(pieces) < 2:
        yield from map(work, pieces)
        return
    from concurrent.futures import ThreadPoolExecutor  # which most runs don't need

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(work, pieces)
