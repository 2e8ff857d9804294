"""How many processes or threads work at a time."""

from __future__ import annotations

import os

JOBS_VARIABLE = "MEMPLAN_JOBS"
"""The variable of the environment that says so, for processes that are started as well."""


def most_workers() -> int:
    """What `MEMPLAN_JOBS` says (`memplan -j` sets it), else one for each processor that this process may run on."""
    said = os.environ.get(JOBS_VARIABLE, "")
    if said.isascii() and said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
