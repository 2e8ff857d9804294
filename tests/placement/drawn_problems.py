"""Random small problems of what to move, and the best choice of each by trying all."""

from __future__ import annotations

import numpy as np

from memplan.hardware import HostTier, Link
from memplan.placement.move_problem import MoveProblem, move_problem
from memplan.placement.residency import Storage

MIB = 2**20


def drawn_problem(seed: int) -> MoveProblem:
    """A few storages, some written in place, over links with and without latency."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(4, 12))
    storages = []
    for index in range(int(rng.integers(3, 8))):
        uses = tuple(sorted({int(step) for step in rng.integers(0, steps, int(rng.integers(1, 4)))}))
        kept = bool(rng.integers(2))
        writes = {step for step in uses if rng.random() < 0.4} | (set() if kept else {uses[0]})
        span = (0, steps) if kept else (uses[0], uses[-1] + 1)
        size = int(rng.integers(1, 5)) * MIB
        storages.append(Storage(index, size, *span, uses, tuple(sorted(writes)), persistent=kept))
    latency = int(rng.integers(2)) * MIB // 4
    out, back = (Link(name, rate * 1e9, latency, "test", ("*",)) for name, rate in (("out", 1.0), ("in", 2.0)))
    return move_problem(storages, rng.integers(0, 2 * MIB, steps).tolist(), HostTier(None, out, back))
