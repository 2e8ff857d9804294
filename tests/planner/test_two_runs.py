"""However little HBM there is, a plan loses no byte and can be run again; a plan that does not is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import memplan
from memplan.graph import Graph
from memplan.schema import Placement, Plan, Tier, Transfer
from memplan.schema.check import violations
from tests.planner.byte_memory import ByteMemory
from tests.planner.graphs import graphs

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
SMALL = graphs(largest=3000, most_ops=14)


def tight(graph: Graph, share: float) -> Plan:
    """The plan of `graph` in `share` of the HBM that it would take."""
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    assume(use.peak)
    return memplan.plan(graph, chip="910B3", hbm=max(1, int(use.peak * share)))


@pytest.mark.parametrize("share", SHARES)
@settings(max_examples=15)
@given(graph=SMALL)
def test_no_byte_is_lost(graph: Graph, share: float) -> None:
    plan = tight(graph, share)
    assert violations(plan) == ()
    assert ByteMemory(graph, plan).run() == []


@pytest.mark.slow
@settings(max_examples=1500)
@given(graph=graphs(largest=6000, most_ops=30), share=st.sampled_from(SHARES))
def test_no_byte_of_many_graphs_is_lost(graph: Graph, share: float) -> None:
    plan = tight(graph, share)
    assert violations(plan) == ()
    assert ByteMemory(graph, plan).run() == []


def dropped(plan: Plan, data: st.DataObject) -> Plan:
    """A transfer never happens."""
    gone = data.draw(st.integers(0, len(plan.transfers) - 1))
    return replace(plan, transfers=plan.transfers[:gone] + plan.transfers[gone + 1 :])


def shifted(plan: Plan, data: st.DataObject) -> Plan:
    """One stay in HBM is at another address."""
    row = data.draw(st.sampled_from([i for i, p in enumerate(plan.placements) if p.tier is Tier.HBM]))
    place = plan.placements[row]
    top = max((p.offset or 0) + p.size for p in plan.placements)
    offset = data.draw(st.integers(0, max(0, top - place.size) // 512)) * 512
    return with_placement(plan, row, replace(place, offset=offset))


def early(plan: Plan, data: st.DataObject) -> Plan:
    """A copy is made before the last step that changes it, and is stale."""
    return with_transfer(plan, data, lambda move, by: at_time(move, max(0, move.start_ns - by)))


def late(plan: Plan, data: st.DataObject) -> Plan:
    """A transfer takes place later than planned."""
    return with_transfer(plan, data, lambda move, by: at_time(move, move.start_ns + by))


def cut_short(plan: Plan, data: st.DataObject) -> Plan:
    """A stay in HBM ends a step early."""
    row = data.draw(st.sampled_from([i for i, p in enumerate(plan.placements) if p.tier is Tier.HBM]))
    place = plan.placements[row]
    return with_placement(plan, row, replace(place, end=max(place.start, place.end - 1)))


def without_copy(plan: Plan, data: st.DataObject) -> Plan:
    """The host keeps no place for something."""
    rows = [i for i, p in enumerate(plan.placements) if p.tier is Tier.HOST]
    row = data.draw(st.sampled_from(rows))
    return replace(plan, placements=plan.placements[:row] + plan.placements[row + 1 :])


def at_time(move: Transfer, start_ns: int) -> Transfer:
    return replace(move, start_ns=start_ns, end_ns=start_ns + move.end_ns - move.start_ns)


def with_placement(plan: Plan, row: int, place: Placement) -> Plan:
    return replace(plan, placements=(*plan.placements[:row], place, *plan.placements[row + 1 :]))


def with_transfer(plan: Plan, data: st.DataObject, change: Callable[[Transfer, int], Transfer]) -> Plan:
    row = data.draw(st.integers(0, len(plan.transfers) - 1))
    by = data.draw(st.integers(1, max(1, plan.makespan_ns)))
    moved = change(plan.transfers[row], by)
    return replace(plan, transfers=(*plan.transfers[:row], moved, *plan.transfers[row + 1 :]))


@pytest.mark.parametrize("damage", [dropped, shifted, early, late, cut_short, without_copy])
@settings(max_examples=15)
@given(graph=SMALL, share=st.sampled_from([0.75, 0.6, 0.45]), data=st.data())
def test_whatever_loses_a_byte_is_refused(
    damage: Callable[[Plan, st.DataObject], Plan], graph: Graph, share: float, data: st.DataObject
) -> None:
    plan = tight(graph, share)
    assume(plan.transfers)
    damaged = damage(plan, data)
    if ByteMemory(graph, damaged).run():
        assert violations(damaged)
