"""Planned time beside measured time, rolled up by part and by layer of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from memplan.align.alignment import Alignment
from memplan.align.kernel_scopes import KernelScopes
from memplan.core.arrays import Int64s
from memplan.schema import Plan, PlannedOp

UNNAMED_PART = "not in the plan"
"""The part of kernels that no plan has and of which nothing more is known."""
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


def scope_times(
    plan: Plan, owner: Int64s, duration_ns: Int64s, scopes: KernelScopes | None = None, rows: Int64s | None = None
) -> ScopeTimes:
    """
    Roll up the kernels of one step: the planned op of each, -1 where it has none, and its duration.

    `scopes` say what kernels without an op are; `rows` are their rows in it, all by default.
    """
    parts, layers = _Times[tuple[str, str]](), _Times[tuple[str, int]]()
    for op in plan.ops:
        if op.launches:
            parts.plan(_part_of(op), op.duration_ns)
            if op.layer is not None:
                layers.plan((op.phase or "", op.layer), op.duration_ns)
    places = np.arange(len(owner)) if rows is None else rows
    for index, took, row in zip(owner.tolist(), duration_ns.tolist(), places.tolist(), strict=True):
        if index >= 0:
            op = plan.ops[index]
            parts.measure(_part_of(op), took)
            if op.layer is not None:
                layers.measure((op.phase or "", op.layer), took)
            continue
        phase = "" if scopes is None or scopes.phase[row] < 0 else scopes.phases[scopes.phase[row]]
        what = "" if scopes is None else scopes.named(row)
        parts.measure((phase, what or UNNAMED_PART), took)
        if scopes is not None and scopes.layer[row] >= 0:
            layers.measure((phase, int(scopes.layer[row])), took)
    by_time = sorted(parts.found().items(), key=lambda entry: (-max(entry[1].measured, entry[1].planned), entry[0]))
    return ScopeTimes(dict(by_time), dict(sorted(layers.found().items())))


def _part_of(op: PlannedOp) -> tuple[str, str]:
    return op.phase or "", op.part or op.type


def mean_probability(alignment: Alignment, duration_ns: Int64s, rows: Int64s) -> float:
    """How much of the time of kernels `rows` is expected to be matched rightly."""
    weights = duration_ns[rows].astype(np.float64)
    sure = np.nan_to_num(alignment.scopes.probability[rows])  # what is not told apart is not matched
    return float((sure * weights).sum() / (weights.sum() or 1.0))


class _Times(Generic[_Key]):
    """Counts and times by key: ops, kernels, planned and measured nanoseconds."""

    def __init__(self) -> None:
        self.sums: defaultdict[_Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def plan(self, key: _Key, time_ns: int) -> None:
        found = self.sums[key]
        found[0] += 1
        found[2] += time_ns

    def measure(self, key: _Key, time_ns: int) -> None:
        found = self.sums[key]
        found[1] += 1
        found[3] += time_ns

    def found(self) -> dict[_Key, ScopeTime]:
        return {key: ScopeTime(*found) for key, found in self.sums.items()}
