"""Counters of further runs of one program put beside those of the run that is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels


def with_metrics(kernels: Kernels, other: Kernels, path: Path, notes: Notebook) -> Kernels:
    """
    `kernels` with the counters that only `other` has, which was read from `path`.

    Kernels are the same where types and shapes follow one another alike; else they are left as they are, with a note.
    """
    same = len(kernels) == len(other) and all(
        list(getattr(kernels, column)) == list(getattr(other, column)) for column in ("type", "input_shapes")
    )
    if not same:
        notes.tell(path, "its counters are not shown: it holds other kernels than the run that is shown")
        return kernels
    return replace(kernels, pmu={**other.pmu, **kernels.pmu})
