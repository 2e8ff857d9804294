"""Memory that is nearly full."""

from __future__ import annotations

from pathlib import Path

import memplan
from memplan.core.units import GIB
from memplan.findings import diagnose
from memplan.hardware import chip
from memplan.schema import Tier
from memplan.simulator import simulate_job
from tests.small_plans import layered_plan


def test_a_device_that_is_nearly_full_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    target = chip("910B3")
    assert target.hbm_bytes is not None
    plan = layered_plan(30, op_ns=80_000)
    full = target.hbm_bytes - (target.hbm_reserved_bytes or 0) - 2 * GIB
    tiers = tuple(replace(use, peak=full) if use.tier is Tier.HBM else use for use in plan.tiers)
    simulate_job(replace(plan, tiers=tiers), tmp_path / "run", ranks=1, steps=2)
    kinds = {one.kind for one in diagnose(memplan.open_profile(tmp_path / "run"), chip="910B3").findings}
    assert "memory.headroom" in kinds
    simulate_job(plan, tmp_path / "roomy", ranks=1, steps=2)
    kinds = {one.kind for one in diagnose(memplan.open_profile(tmp_path / "roomy"), chip="910B3").findings}
    assert "memory.headroom" not in kinds
