"""The memory that a simulated job writes down: its blocks are what its curve is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.simulator import chosen_fault, simulate_job
from tests.small_plans import layered_plan


@pytest.mark.parametrize(("layers", "fault"), [(6, None), (23, None), (11, "slow-rank")])
def test_blocks_rise_and_fall_with_the_curve(tmp_path: Path, layers: int, fault: str | None) -> None:
    """Went wrong once: the curve was a triangle over one block that lasted the whole step."""
    planted = chosen_fault(fault) if fault else None
    folder = simulate_job(layered_plan(layers, op_ns=70_000), tmp_path / "run", fault=planted, ranks=2, steps=3)
    rank = memplan.open_profile(folder).rank(1)
    curve, blocks = rank.memory("PTA"), rank.allocations()
    assert curve is not None
    assert curve.allocated is not None
    assert blocks is not None
    alive = (blocks.allocation_ns[:, None] <= curve.time_ns) & (curve.time_ns < blocks.release_ns[:, None])
    held = (blocks.size[:, None] * alive).sum(axis=0)
    before = curve.allocated - held
    assert held.max() > 0.4 * curve.allocated.max()
    assert np.ptp(before) <= 0.001 * curve.allocated.max()
