"""The loops of `memplan.traces.timeline.nesting`, compiled; importing this brings Numba with it."""

from __future__ import annotations

from memplan.traces.timeline import nesting
from memplan.traces.scan.addresses import compiled

nest = compiled(nesting.nest)
dominate = compiled(nesting.dominate)
