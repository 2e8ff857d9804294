"""The loops of `memplan.traces.nesting`, compiled; importing this brings Numba with it."""

from __future__ import annotations

import numba

from memplan.traces import nesting

nest = numba.njit(cache=True, nogil=True, error_model="numpy")(nesting.nest)
dominate = numba.njit(cache=True, nogil=True, error_model="numpy")(nesting.dominate)
