"""Who holds memory at its fullest, told once for reports, maps and differences."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings

from memplan.schema import Plan, Tier, memory_curve, plan_peak
from tests.small_plans import MIB, layered_plan, plans


def test_the_peak_of_a_pass_is_its_turn() -> None:
    peak = plan_peak(layered_plan(3, size=MIB))
    assert peak is not None
    assert (peak.step, peak.nbytes) == (2, 6 * MIB)
    assert [(share.kind, share.count, share.nbytes) for share in peak.shares] == [
        ("activation", 3, 3 * MIB), ("weight", 3, 3 * MIB)
    ]  # fmt: skip


def test_the_largest_of_a_kind_comes_first() -> None:
    plan = layered_plan(3)
    sizes = {1: 5, 3: 9, 5: 7}
    placements = [dataclasses.replace(place, size=sizes.get(place.tensor, 1)) for place in plan.placements]
    plan = dataclasses.replace(plan, placements=tuple(placements))
    peak = plan_peak(plan)
    assert peak is not None
    assert [plan.placements[row].size for row in peak.shares[0].placements] == [9, 7, 5]


def test_a_tier_that_holds_nothing_has_no_peak() -> None:
    assert plan_peak(layered_plan(3), Tier.L2) is None


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(plans())
def test_it_is_the_highest_point_of_the_curve(plan: Plan) -> None:
    peak = plan_peak(plan)
    if peak is not None:
        curve = memory_curve(plan).values[:-1]
        assert peak.nbytes == curve.max() == curve[peak.step]
        assert sum(share.nbytes for share in peak.shares) == peak.nbytes
