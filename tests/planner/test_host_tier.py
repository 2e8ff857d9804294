"""A plan keeps to the host's size, or says what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.core.errors import InputError
from memplan.graph import TensorKind
from memplan.hardware import LinkRates, chip, host_tier
from memplan.hardware.host import pooled_tier
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.reports.plan_moves import move_actions
from memplan.requests.plan_request import PlanRequest
from memplan.schema import Plan, Tier, plan_headline
from memplan.schema.check import violations
from tests.planner.graphs import forward_and_back

MIB = 1 << 20
GRAPH = forward_and_back(6, MIB)
PEAK = 13 * MIB
SAMPLE = Path(memplan.__file__).parent / "samples/llama_train.mindir"


def plan_with(host: int | None, recompute: RecomputePolicy = RecomputePolicy.NEVER) -> Plan:
    tier = host_tier(chip("910B3"), capacity=host)
    return memplan.plan(GRAPH, chip="910B3", hbm=PEAK * 6 // 10, host=tier, recompute=recompute)


def test_what_moves_fits_the_host() -> None:
    free = plan_with(None).tier(Tier.HOST)
    assert free is not None
    assert free.capacity is None
    for host in (free.peak, free.peak * 9 // 10):
        plan = plan_with(host)
        use = plan.tier(Tier.HOST)
        assert violations(plan) == ()
        assert use is None or use.peak <= host == use.capacity


def test_what_leaves_is_not_said_to_stay() -> None:
    whole = memplan.plan(SAMPLE, chip="910B3", recompute=RecomputePolicy.NEVER).tier(Tier.HBM)
    plan = memplan.plan(SAMPLE, chip="910B3", hbm=4 * MIB, recompute=RecomputePolicy.NEVER, quick=True)
    use = plan.tier(Tier.HBM)
    assert whole is not None
    assert use is not None
    gone = {move.tensor for move in plan.transfers}
    kept = {place.tensor: place.size for place in plan.placements if place.tier is Tier.HBM}
    states = sum(kept[item.index] for item in plan.tensors if item.index in gone and TensorKind(item.kind).persistent)
    assert states > 0
    assert use.persistent == whole.persistent - states <= use.peak


def test_a_host_too_small_leaves_bytes_missing_and_says_how_many() -> None:
    plan = plan_with(MIB)
    assert not plan.fits
    assert plan.missing_bytes > 0
    assert violations(plan) == ()


def test_where_the_host_is_small_more_is_computed_anew() -> None:
    plan = plan_with(4 * MIB, RecomputePolicy.AUTO)
    assert violations(plan) == ()
    assert any(op.repeats is not None for op in plan.ops) or plan.fits


def test_a_plan_that_overfills_the_host_is_refused() -> None:
    plan = plan_with(None)
    host = plan.tier(Tier.HOST)
    assert host is not None
    less = tuple(replace(use, capacity=use.peak - 1) if use is host else use for use in plan.tiers)
    assert any("HOST is to hold" in text for text in violations(replace(plan, tiers=less)))


def test_a_faster_link_makes_no_step_longer() -> None:
    times = []
    for rate in (5e9, 20e9, 80e9):
        tier = host_tier(chip("910B3"), rates=LinkRates(to_host=rate, to_device=rate))
        plan = memplan.plan(GRAPH, chip="910B3", hbm=PEAK * 6 // 10, host=tier, recompute=RecomputePolicy.NEVER)
        times.append(plan.makespan_ns)
        assert {use.bytes_per_second for use in plan.links} == {rate}
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("recompute", list(RecomputePolicy))
def test_never_means_never(recompute: RecomputePolicy) -> None:
    plan = plan_with(None, recompute)
    if recompute is RecomputePolicy.NEVER:
        assert not any(op.repeats is not None for op in plan.ops)
    assert plan.fits


def test_pooled_memory_is_a_tier_of_its_own_with_its_own_link() -> None:
    graph = forward_and_back(6, 1 << 20)
    use = memplan.plan(graph, chip="910C").tier(Tier.HBM)
    assert use is not None
    pool, own = pooled_tier(chip("910C"), capacity=1 << 30), host_tier(chip("910C"))
    assert (pool.in_link.bytes_per_second or 0) > (own.in_link.bytes_per_second or 0)
    assert (pool.in_link.latency_ns or 0) > (own.in_link.latency_ns or 0)
    never = RecomputePolicy.NEVER
    far, near = (
        memplan.plan(graph, chip="910C", hbm=use.peak * 6 // 10, host=tier, recompute=never) for tier in (pool, own)
    )
    assert far.fits
    assert {move.target for move in far.transfers} | {move.source for move in far.transfers} == {Tier.HBM, Tier.REMOTE}
    assert {link.name for link in far.links} == {"pool_out", "pool_in"}
    assert far.tier(Tier.REMOTE) is not None
    assert far.tier(Tier.HOST) is None
    assert far.makespan_ns < near.makespan_ns
    assert violations(far) == ()
    assert "moved to pooled memory and back" in plan_headline(far)
    assert any("pooled memory" in item.action for item in move_actions(far))


def test_a_pool_that_is_too_small_is_kept_to() -> None:
    graph = forward_and_back(6, 1 << 20)
    use = memplan.plan(graph, chip="910C").tier(Tier.HBM)
    assert use is not None
    small = pooled_tier(chip("910C"), capacity=1 << 20)
    plan = memplan.plan(graph, chip="910C", hbm=use.peak * 6 // 10, host=small, recompute=RecomputePolicy.NEVER)
    pool = plan.tier(Tier.REMOTE)
    assert not plan.fits
    assert pool is None or pool.peak <= 1 << 20


def test_a_chip_without_a_known_pool_takes_a_rate_that_is_given() -> None:
    with pytest.raises(InputError, match="no source tells a link"):
        pooled_tier(chip("910B3"))
    assert pooled_tier(chip("910B3"), bytes_per_second=1e11).out_link.bytes_per_second == 1e11
    with pytest.raises(InputError, match="give --host as well"):
        PlanRequest(Path("x"), remote="1TiB", h2d="10GB/s").host_tier(chip("910C"))
    with pytest.raises(InputError, match="give --remote"):
        PlanRequest(Path("x"), remote_rate="1GB/s").host_tier(chip("910C"))
    assert PlanRequest(Path("x"), remote="1TiB").host_tier(chip("910C")).capacity == 1 << 40
