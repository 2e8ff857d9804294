"""Planned time beside measured time, rolled up by part and by layer of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from memplan.align.alignment import Alignment
from memplan.core.arrays import Int64s
from memplan.schema import Plan

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class ScopeTime:
    """Ops planned and kernels measured of one part or layer in one phase, with their times in nanoseconds."""

    ops: int
    kernels: int
    planned: int
    measured: int


@dataclass(frozen=True, slots=True)
class ScopeTimes:
    """
    One step by `(phase, part)` and by `(phase, layer)`, the longest first and in order; empty texts where none applies.

    What no plan has stands in `parts` under what it is.
    """

    parts: Mapping[tuple[str, str], ScopeTime]
    layers: Mapping[tuple[str, int], ScopeTime]


def scope_times(plan: Plan, alignment: Alignment, duration_ns: Int64s, rows: Int64s) -> ScopeTimes:
    """Roll up the kernels `rows` of one step; `duration_ns` is that of all kernels."""
    parts, layers = _Times[tuple[str, str]](), _Times[tuple[str, int]]()
    for op in plan.ops:
        if op.launches:
            phase = op.phase or ""
            parts.plan((phase, op.part or op.type), op.duration_ns)
            if op.layer is not None:
                layers.plan((phase, op.layer), op.duration_ns)
    scopes = alignment.scopes
    owner = alignment.op_of_kernel()
    for row in rows.tolist():
        took = int(duration_ns[row])
        phase = scopes.phases[scopes.phase[row]] if scopes.phase[row] >= 0 else ""
        named, op_index = scopes.named(row), int(owner[row])
        if named or op_index < 0:
            part = named or "unknown"
        else:
            op = plan.ops[op_index]
            part, phase = op.part or op.type, op.phase or phase
        parts.measure((phase, part), took)
        if scopes.layer[row] >= 0:
            layers.measure((phase, int(scopes.layer[row])), took)
    by_time = sorted(parts.found().items(), key=lambda entry: (-max(entry[1].measured, entry[1].planned), entry[0]))
    return ScopeTimes(dict(by_time), dict(sorted(layers.found().items())))


def mean_probability(alignment: Alignment, duration_ns: Int64s, rows: Int64s) -> float:
    """How much of the time of kernels `rows` is expected to be matched rightly."""
    weights = duration_ns[rows].astype(np.float64)
    return float((alignment.scopes.probability[rows] * weights).sum() / (weights.sum() or 1.0))


class _Times(Generic[_Key]):
    """Counts and times by key."""

    def __init__(self) -> None:
        self.counts: dict[_Key, Counter[str]] = {}

    def plan(self, key: _Key, time_ns: int) -> None:
        self.counts.setdefault(key, Counter()).update(ops=1, planned=time_ns)

    def measure(self, key: _Key, time_ns: int) -> None:
        self.counts.setdefault(key, Counter()).update(kernels=1, measured=time_ns)

    def found(self) -> dict[_Key, ScopeTime]:
        return {
            key: ScopeTime(count["ops"], count["kernels"], count["planned"], count["measured"])
            for key, count in self.counts.items()
        }
