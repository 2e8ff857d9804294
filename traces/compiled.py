"""The loops of `memplan.traces.nesting`, compiled; importing this brings Numba with it."""

from __future__ import annotations

from memplan.traces import nesting
from memplan.traces.addresses import compiled

nest = compiled(nesting.nest)
dominate = compiled(nesting.dominate)
