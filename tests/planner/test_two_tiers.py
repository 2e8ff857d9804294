"""Plans over the host's own memory and pooled memory at once: each tensor on one of them, none over its size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

import memplan
from memplan.graph import Graph
from memplan.hardware import HostTier, chip, host_tier
from memplan.hardware.host import pooled_tier
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.reports.plan_moves import move_actions
from memplan.requests.plan_request import PlanRequest
from memplan.schema import Plan, Tier, plan_headline
from memplan.schema.check import violations
from memplan.schema.contents import content_violations
from memplan.schema.decode import load_plan
from tests.planner.graphs import forward_and_back

MIB = 1 << 20
CHIP = chip("910C")
GRAPH = forward_and_back(12, MIB)


def tiers(host: int | None, pool: int | None) -> HostTier:
    return replace(host_tier(CHIP, capacity=host), beside=pooled_tier(CHIP, capacity=pool))


def plan_with(host: HostTier, part: float = 0.6, graph: Graph = GRAPH, recompute: bool = False) -> Plan:
    use = memplan.plan(graph, chip=CHIP).tier(Tier.HBM)
    assert use is not None
    policy = RecomputePolicy.AUTO if recompute else RecomputePolicy.NEVER
    return memplan.plan(graph, chip=CHIP, hbm=int(use.peak * part), host=host, recompute=policy)


def checked(plan: Plan) -> Plan:
    """`plan`, whose tensors are each on one tier behind HBM, within its size, and moved over its links."""
    assert violations(plan) == ()
    assert not content_violations(plan)
    where: dict[int, set[Tier]] = {}
    for move in plan.transfers:
        tier = move.target if move.source is Tier.HBM else move.source
        where.setdefault(move.tensor, set()).add(tier)
        assert move.link.startswith("pool") == (tier is Tier.REMOTE)
    assert all(len(found) == 1 for found in where.values())
    for use in plan.tiers:
        assert use.capacity is None or not plan.fits or use.peak <= use.capacity
    return plan


def test_where_the_host_is_too_small_the_rest_goes_to_pooled_memory() -> None:
    alone = plan_with(host_tier(CHIP, capacity=4 * MIB))
    both = checked(plan_with(tiers(4 * MIB, 1 << 30)))
    assert not alone.fits
    assert both.fits
    assert both.tier(Tier.REMOTE) is not None
    assert {link.name for link in both.links} >= {"pool_out", "pool_in"}


def test_where_both_have_room_the_step_is_no_longer_than_with_either() -> None:
    both = checked(plan_with(tiers(1 << 30, 1 << 30)))
    either = [plan_with(host_tier(CHIP, capacity=1 << 30)), plan_with(pooled_tier(CHIP, capacity=1 << 30))]
    assert both.makespan_ns < min(plan.makespan_ns for plan in either)
    assert both.makespan_bound_ns is not None
    assert both.makespan_bound_ns <= both.makespan_ns
    assert {use.tier for use in both.tiers} == {Tier.HBM, Tier.HOST, Tier.REMOTE}
    assert "moved to the host and pooled memory and back" in plan_headline(both)
    told = " ".join(item.action for item in move_actions(both))
    assert "the host" in told
    assert "pooled memory" in told
    assert "the host and pooled" not in told


def test_what_neither_has_room_for_is_missing() -> None:
    plan = checked(plan_with(tiers(2 * MIB, 2 * MIB)))
    assert not plan.fits
    assert plan.missing_bytes > 0
    alone = plan_with(host_tier(CHIP, capacity=2 * MIB))
    assert plan.missing_bytes <= alone.missing_bytes


@pytest.mark.parametrize("seed", range(6))
def test_no_tier_is_overfilled_and_nothing_is_lost(seed: int) -> None:
    random = Random(seed)
    graph = forward_and_back(random.randint(4, 14), MIB)
    host, pool = (random.randint(1, 12) * MIB for _ in range(2))
    part, recompute = random.choice((0.5, 0.6, 0.8)), seed % 2 == 0
    plan = checked(plan_with(tiers(host, pool), part, graph, recompute))
    alone = plan_with(host_tier(CHIP, capacity=host), part, graph, recompute)
    assert plan.fits or not alone.fits
    assert not alone.fits or plan.makespan_ns <= alone.makespan_ns


@pytest.fixture(scope="module")
def sound() -> Plan:
    """A plan that needs both tiers behind HBM, and moves tensors over every link there is."""
    plan = checked(plan_with(tiers(4 * MIB, 1 << 30), part=0.3))
    assert {move.link for move in plan.transfers} == {link.name for link in plan.links}
    return plan


def test_a_plan_over_both_is_the_same_when_it_is_loaded(sound: Plan, tmp_path: Path) -> None:
    path = tmp_path / "two.plan.json"
    sound.save(path)
    assert load_plan(path) == sound


@pytest.mark.parametrize("tier", [Tier.HOST, Tier.REMOTE])
def test_a_tier_that_is_overfull_or_not_told_of_is_refused(sound: Plan, tier: Tier) -> None:
    use = sound.tier(tier)
    assert use is not None
    others = tuple(other for other in sound.tiers if other.tier is not tier)
    small = replace(sound, tiers=(*others, replace(use, capacity=use.peak - 1)))
    assert any(f"{tier.value} is to hold {use.peak} of" in text for text in violations(small))
    assert any("says nothing of it" in text for text in violations(replace(sound, tiers=others)))
    assert any("the plan says 1" in text for text in violations(replace(sound, tiers=(*others, replace(use, peak=1)))))


@pytest.mark.parametrize(("tier", "other"), [(Tier.HOST, Tier.REMOTE), (Tier.REMOTE, Tier.HOST)])
def test_a_tensor_that_is_in_both_or_comes_back_from_the_other_is_refused(sound: Plan, tier: Tier, other: Tier) -> None:
    kept = next(place for place in sound.placements if place.tier is tier and place.size)
    doubled = replace(sound, placements=(*sound.placements, replace(kept, tier=other, start=0, end=len(sound.ops))))
    assert any(f"{other.value} is to hold" in text for text in violations(doubled))
    row, move = next((row, move) for row, move in enumerate(sound.transfers) if move.source is tier)
    strayed = (*sound.transfers[:row], replace(move, source=other), *sound.transfers[row + 1 :])
    assert any(f"comes from {other.value}" in text for text in violations(replace(sound, transfers=strayed)))


def test_a_link_that_both_share_at_once_is_refused(sound: Plan) -> None:
    over = {"pool_out": "d2h", "pool_in": "h2d"}
    shared = tuple(replace(move, link=over.get(move.link, move.link)) for move in sound.transfers)
    assert any("carries two transfers" in text for text in violations(replace(sound, transfers=shared)))


@pytest.mark.parametrize("told", [True, False], ids=["ends told", "ends not told"])
@pytest.mark.parametrize(("link", "stray"), [("h2d", "pool_in"), ("pool_out", "d2h"), ("d2h", "h2d")])
def test_a_transfer_over_a_link_between_other_tiers_is_refused(sound: Plan, link: str, stray: str, told: bool) -> None:
    """However idle that link is; where links do not say what they join, two pairs of tiers over one are refused."""
    ends = {one.name: (one.from_tier, one.to_tier) for one in sound.links}
    row = next(row for row, move in enumerate(sound.transfers) if move.link == link)
    length = max(move.end_ns for move in sound.transfers)
    move = replace(sound.transfers[row], link=stray, start_ns=2 * length, end_ns=4 * length)
    links = sound.links if told else tuple(replace(one, from_tier=None, to_tier=None) for one in sound.links)
    assert not violations(replace(sound, links=links))
    strayed = (*sound.transfers[:row], *sound.transfers[row + 1 :], move)
    found = violations(replace(sound, links=links, transfers=strayed))
    assert any(f"over link {stray}, which leads from {ends[stray][0].value}" in text for text in found)


def test_both_are_asked_for_by_their_sizes() -> None:
    asked = PlanRequest(Path("x"), host="64GiB", remote="2TiB", h2d="40GB/s").host_tier(CHIP)
    assert [tier.name for tier in asked.tiers] == ["HOST", "REMOTE"]
    assert [tier.capacity for tier in asked.tiers] == [64 << 30, 2 << 40]
    assert asked.tiers[0].in_link.bytes_per_second == 40e9
    joined = asked.joined
    assert joined.capacity == (64 << 30) + (2 << 40)
    assert joined.in_link.bytes_per_second == sum(tier.in_link.bytes_per_second or 0 for tier in asked.tiers)
