"""How busy a kernel's pipes were, from the hardware counters of its row in a profile."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from memplan.core.arrays import Floats
from memplan.core.resources import table


def measured_pipes(pmu: Mapping[str, Floats], row: int) -> dict[tuple[str, str], float]:
    """
    Nanoseconds by unit (`cube` or `vector` cores) and pipe of kernel `row`, means over the cores; `pmu` as in
    `Kernels`. Pipes that the profile says nothing of are left out.
    """
    found = {}
    for unit, facts in table("memplan.gui", "data/pipe_counters.json")["units"].items():
        total = _first(pmu, row, facts["time"])
        for pipe, stems in facts["pipes"].items():
            time = _first(pmu, row, [f"{stem}_time(us)" for stem in stems])
            if time is None and total is not None:
                share = _first(pmu, row, [f"{stem}_ratio" for stem in stems])
                time = None if share is None else share * total
            if time is not None:
                found[unit, pipe] = time * 1000.0
    return found


def _first(pmu: Mapping[str, Floats], row: int, headers: list[str]) -> float | None:
    """The value of the first of `headers` that the profile has and that is a number in `row`."""
    for header in headers:
        if header in pmu:
            value = float(pmu[header][row])
            if isfinite(value):
                return value
    return None
