"""
How loops over arrays are compiled: by Numba, when first called, and kept on disk for the next process.

The interpreter's lock is not held meanwhile, so that they run on workers while the window is painted. Where no folder
is writable, neither the package's nor the user's cache, they are compiled in every process. Importing this brings
Numba with it, which takes longer than most of what memplan does: import modules of such loops inside functions.

What is kept is found again by the types of the arguments. Columns that belong together are given as a plain tuple and
named inside, `OpColumns(*columns)`: an index that knew the class could not be read once that is renamed or moved.
It counts until the file of the loop itself changes. So the pieces of a loop stand in its module, however long that
gets; where several modules share a piece (`pair_weights.py`, `longer`), `make clean` has the loops made of it
compiled anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def jit(loop: _Loop) -> _Loop:
    """`loop` compiled; a division by zero raises `ZeroDivisionError`, as in Python."""
    return _compiled(loop, "python")


def jit_numpy_division(loop: _Loop) -> _Loop:
    """`loop` compiled; a division by zero gives what NumPy's would, and costs no check."""
    return _compiled(loop, "numpy")


def jit_inner(loop: _Loop) -> _Loop:
    """`loop` compiled for other compiled loops alone, with which it is kept; to call it from Python fails."""
    return cast(_Loop, numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)(loop))


def jit_inlined(loop: _Loop) -> _Loop:
    """`loop` written into the compiled loops that call it, once each: a piece of a loop that is read on its own."""
    return cast(_Loop, numba.njit(inline="always", no_cpython_wrapper=True, no_cfunc_wrapper=True)(loop))


def _compiled(loop: _Loop, error_model: str) -> _Loop:
    try:
        return cast(_Loop, numba.njit(cache=True, nogil=True, error_model=error_model)(loop))
    except RuntimeError:  # Numba found no folder to keep it in
        return cast(_Loop, numba.njit(nogil=True, error_model=error_model)(loop))


@jit_inner
def longer(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same rows, with room for as many more."""
    out = np.empty((2 * len(rows), rows.shape[1]), np.int64)
    for row in range(len(rows)):
        for column in range(rows.shape[1]):
            out[row, column] = rows[row, column]
    return out
