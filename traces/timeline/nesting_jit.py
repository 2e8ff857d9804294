"""The loop of `memplan.traces.timeline.nesting`, compiled; importing this brings Numba with it."""

from __future__ import annotations

from memplan.core.jit import jit_numpy_division
from memplan.traces.timeline import nesting

fill_nesting_jit = jit_numpy_division(nesting.fill_nesting)
