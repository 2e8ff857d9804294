"""What is computed anew is what it was: byte for byte, whatever is given up and however little HBM there is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

import memplan
from memplan.graph import Graph
from memplan.graph.repeats import GivenUp, RepeatRules, repeated_ops, with_repeats
from memplan.hardware import chip, host_tier
from memplan.schema import Plan, Tier
from memplan.schema.check import violations
from tests.planner.byte_memory import ByteMemory
from tests.planner.graphs import forward_and_back, graphs

SHARES = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3)
SMALL = graphs(largest=3000, most_ops=18)


def with_given_up(graph: Graph, data: st.DataObject) -> Graph:
    """`graph` with some of its storages given up between two uses and made anew."""
    rules = RepeatRules(graph, [True] * len(graph.ops))
    gaps = [
        GivenUp(storage, before, after)
        for storage, uses in rules.uses.items()
        for before, after in pairwise(uses)
        if storage not in rules.fixed
    ]
    assume(gaps)
    chosen = data.draw(st.lists(st.sampled_from(gaps), min_size=1, max_size=6, unique=True))
    found = repeated_ops(rules, chosen)
    assume(found.repeats)
    return with_repeats(graph, found.repeats)


def tight(graph: Graph, share: float) -> Plan:
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    assume(use.peak)
    return memplan.plan(graph, chip="910B3", hbm=max(1, int(use.peak * share)))


@settings(max_examples=40)
@given(graph=SMALL, share=st.sampled_from(SHARES), data=st.data())
def test_what_runs_again_makes_the_same_bytes(graph: Graph, share: float, data: st.DataObject) -> None:
    again = with_given_up(graph, data)
    plan = tight(again, share)
    assert violations(plan) == ()
    assert ByteMemory(graph, plan).run() == []


def test_a_chain_that_nothing_of_can_move_keeps_some_results_and_makes_the_others_anew() -> None:
    """All made anew would be there together, as all kept are; what is kept between them is where the chains begin."""
    graph = forward_and_back(9, 1 << 20)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    nothing = host_tier(chip("910B3"), capacity=1)
    plan = memplan.plan(graph, chip="910B3", hbm=use.peak * 17 // 20, host=nothing)
    again = [op for op in plan.ops if op.repeats is not None]
    assert plan.fits
    assert not plan.transfers
    assert 0 < len(again) < 8
    assert violations(plan) == ()


def test_results_that_belong_to_no_layer_are_made_anew_one_by_one() -> None:
    graph = forward_and_back(11, 1 << 20)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    plan = memplan.plan(graph, chip="910B3", hbm=use.peak * 9 // 10)
    assert 0 < sum(op.repeats is not None for op in plan.ops) < 9
    assert violations(plan) == ()
