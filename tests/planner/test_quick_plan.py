"""The first plan that fits: right as any other, without ops that run twice, and never faster than the best one."""

from __future__ import annotations

import pytest

import memplan
from memplan.schema import Tier
from memplan.schema.contents import content_violations
from tests.planner.graphs import forward_and_back


@pytest.mark.parametrize("share", [85, 60, 45])
def test_the_first_plan_that_fits(share: int) -> None:
    graph = forward_and_back(6, 1 << 20)
    use = memplan.plan(graph, chip="910B3", hbm=2**50).tier(Tier.HBM)
    assert use is not None
    quick, best = (
        memplan.plan(graph, chip="910B3", hbm=use.peak * share // 100, quick=quick) for quick in (True, False)
    )
    assert quick.fits
    assert quick.transfers
    assert not content_violations(quick)
    assert all(op.repeats is None for op in quick.ops)
    assert quick.makespan_bound_ns is not None
    assert quick.makespan_bound_ns <= quick.makespan_ns
    assert best.makespan_ns <= quick.makespan_ns


def test_what_can_not_fit_is_said_with_the_bytes_that_are_missing() -> None:
    graph = forward_and_back(3, 1 << 20)
    quick, best = (memplan.plan(graph, chip="910B3", hbm=1 << 19, quick=quick) for quick in (True, False))
    assert not quick.fits
    assert quick.missing_bytes == best.missing_bytes > 0
