"""Layers that run again on the way back, and whether memory makes that necessary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.core.units import GIB
from memplan.findings import Finding, diagnose
from memplan.hardware import chip
from memplan.schema import Plan, Tier
from memplan.simulator import ChosenFault, simulate_job
from memplan.simulator.faults.fault import Fault
from memplan.simulator.job_settings import FaultyJob
from tests.findings.planted_runs import PLAN, kernels

LAYERS, OP_NS = 6, 60_000
_FORWARD = ("RmsNorm", "MatMul", "FlashAttentionScore", "MatMul", "Add")
_BACK = ("MatMul", "MatMul", "FlashAttentionScoreGrad", "MatMul", "RmsNormGrad")


def _found(folder: Path, again: tuple[str, ...], plan: Plan = PLAN, name: str | None = "910B3") -> list[Finding]:
    """A step of six layers whose way back first runs the kernels `again` of each."""
    step = kernels((*_FORWARD * LAYERS, "Loss", *(*again, *_BACK) * LAYERS), OP_NS)

    def plant(job: FaultyJob, _: float) -> FaultyJob:
        return replace(job, programs=tuple(step for _ in job.programs))

    fault = ChosenFault("of a test", Fault("of a test", (), plant), 1.0)
    simulate_job(plan, folder, fault=fault, ranks=1, steps=2, seed=3)
    found = diagnose(memplan.open_profile(folder), chip=name).findings
    return [one for one in found if one.kind == "recompute.layers"]


def test_layers_that_run_again_cost_their_time_where_there_is_room(tmp_path: Path) -> None:
    (found,) = _found(tmp_path / "run", _FORWARD)
    # Of each step the first layer on the way back can't be told from the last one on the way forward.
    assert found.cost_ns == pytest.approx(2 * (LAYERS - 1) * len(_FORWARD) * OP_NS, rel=0.05)
    assert "free" in str(found.title)
    assert found.remedies


def test_a_way_back_that_runs_nothing_again_is_left_in_peace(tmp_path: Path) -> None:
    assert _found(tmp_path / "run", ()) == []


def test_where_memory_is_full_it_is_needed_and_costs_nothing(tmp_path: Path) -> None:
    target = chip("910B3")
    assert target.hbm_bytes is not None
    full = target.hbm_bytes - (target.hbm_reserved_bytes or 0) - 2 * GIB
    tiers = tuple(replace(use, peak=full) if use.tier is Tier.HBM else use for use in PLAN.tiers)
    (found,) = _found(tmp_path / "run", _FORWARD, replace(PLAN, tiers=tiers))
    assert found.cost_ns is None
    assert "memory needs that" in str(found.title)


def test_without_a_chip_nobody_says_that_it_is_in_vain(tmp_path: Path) -> None:
    (found,) = _found(tmp_path / "run", _FORWARD, name=None)
    assert found.cost_ns is None


def test_a_real_run_that_keeps_its_activations_runs_nothing_again(shared_data: Path) -> None:
    profile = memplan.open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank")
    assert "recompute.layers" not in {one.kind for one in diagnose(profile, ranks=[0], chip="910B3").findings}
