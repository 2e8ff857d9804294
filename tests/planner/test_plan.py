"""A plan holds every tensor where it is needed, within HBM, and says by how much it misses the best possible."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memplan
from memplan.core.errors import InputError
from memplan.graph import Graph, TensorKind
from memplan.schema import Placement, Plan, Tier, memory_curve, plan_from_json, plan_to_json
from memplan.schema.check import violations
from tests.planner.graphs import Builder, forward_and_back, graphs

BLOCK = 512
MIB = 1 << 20


def hbm(plan: Plan) -> list[Placement]:
    return [placement for placement in plan.placements if placement.tier is Tier.HBM]


def test_a_chain_needs_its_fixed_bytes_and_the_fullest_step() -> None:
    plan = memplan.plan(forward_and_back(layers=3, size=MIB - 32), chip="910B3")
    use = plan.tier(Tier.HBM)
    assert use is not None
    # Input and three weights stay; with every activation kept, the last forward step holds three more, and the first
    # backward step the last activation, the two before it and the gradient it makes.
    assert use.persistent == 4 * MIB
    assert use.peak == use.lower_bound == 8 * MIB
    assert plan.fits
    assert use.peak_step == 3


def test_sizes_are_rounded_as_the_chip_s_allocator_does() -> None:
    build = Builder()
    given_value = build.tensor(1, TensorKind.INPUT)
    build.op([given_value], [made := build.tensor(512)])
    sizes = {p.tensor: p.size for p in hbm(memplan.plan(build.graph([made]), chip="910B3"))}
    assert sizes == {given_value: 512, made: 1024}  # 32 bytes of tail push 512 into a second block
    newer = {p.tensor: p.size for p in hbm(memplan.plan(build.graph([made]), chip="950PR_9589"))}
    assert newer == {given_value: 512, made: 512}


def test_workspace_is_placed_for_its_step_alone() -> None:
    build = Builder()
    value = build.tensor(100, TensorKind.INPUT)
    build.op([value], [first := build.tensor(100)], workspace=4000)
    build.op([first], [second := build.tensor(100)])
    plan = memplan.plan(build.graph([second]), chip="910B3")
    (scratch,) = [tensor for tensor in plan.tensors if tensor.kind == "workspace"]
    assert (scratch.start, scratch.end, scratch.nbytes) == (0, 1, 4000)
    assert violations(plan) == ()


def test_in_place_updates_and_views_take_no_bytes_of_their_own() -> None:
    build = Builder()
    weight = build.tensor(MIB, TensorKind.WEIGHT)
    gradient = build.tensor(100, TensorKind.INPUT)
    build.op([weight, gradient], [build.tensor(MIB, storage=weight)])
    build.op([weight], [view := build.tensor(MIB, storage=weight)], launches=False)
    plan = memplan.plan(build.graph([view]), chip="910B3")
    assert {p.tensor for p in hbm(plan)} == {weight, gradient}
    assert plan.ops[1].duration_ns == 0


def test_what_does_not_fit_goes_to_the_host_and_comes_back_in_time() -> None:
    graph = forward_and_back(layers=12, size=8 * MIB - 32)
    whole = memplan.plan(graph, chip="910B3")
    use = whole.tier(Tier.HBM)
    assert use is not None
    tight = memplan.plan(graph, chip="910B3", hbm=use.peak // 2)
    assert tight.fits
    assert tight.transfers
    assert violations(tight) == ()
    assert tight.makespan_ns > whole.makespan_ns
    assert any(op.stalled_ns for op in tight.ops)
    host = tight.tier(Tier.HOST)
    assert host is not None
    assert host.peak >= use.peak - use.peak // 2
    # A weight that nothing writes has its copy on the host already: it only ever comes in.
    weights = {tensor.index for tensor in tight.tensors if tensor.kind == "weight"}
    assert not [t for t in tight.transfers if t.tensor in weights and t.target is Tier.HOST]


def test_a_plan_that_can_not_fit_says_how_many_bytes_are_missing() -> None:
    graph = forward_and_back(layers=4, size=MIB - 32)
    plan = memplan.plan(graph, chip="910B3", hbm=3 * MIB)
    # A backward step touches the value, the weight, the activation and the gradient it makes: four tensors.
    assert not plan.fits
    assert plan.missing_bytes == MIB


def test_the_curve_is_the_sum_of_what_is_placed() -> None:
    plan = memplan.plan(forward_and_back(layers=3, size=MIB - 32), chip="910B3")
    curve = memory_curve(plan)
    assert curve.values.max() == 8 * MIB
    assert curve.values[-1] == 0
    assert memory_curve(plan, persistent=False).values.max() == 4 * MIB
    assert memory_curve(plan, kinds={"weight"}).values[:-1].tolist() == [3 * MIB] * 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chip": "910B9"}, "910B9"),
        ({"chip": "910B"}, "several chips"),
        ({"chip": "910B3", "hbm": 0}, "more than 0"),
    ],
)
def test_bad_values_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        memplan.plan(forward_and_back(1, 100), **arguments)


def test_an_empty_graph_is_a_valid_plan() -> None:
    build = Builder()
    plan = memplan.plan(build.graph([]), chip="910B3")
    assert plan.fits
    assert plan.makespan_ns == 0


@settings(max_examples=40)
@given(graph=graphs(), share=st.sampled_from([None, 0.9, 0.6, 0.3]))
def test_every_plan_passes_the_check_and_survives_json(graph: Graph, share: float | None) -> None:
    free = memplan.plan(graph, chip="910B3")
    use = free.tier(Tier.HBM)
    assert use is not None
    assert use.peak >= use.lower_bound
    assert violations(free) == ()
    if share is not None and use.peak:
        tight = memplan.plan(graph, chip="910B3", hbm=max(1, int(use.peak * share)))
        assert violations(tight) == ()
        assert tight.fits == (tight.missing_bytes == 0)
        assert plan_from_json(plan_to_json(tight)) == tight


@settings(max_examples=30)
@given(graph=graphs(), data=st.data())
def test_the_check_sees_a_plan_that_was_tampered_with(graph: Graph, data: st.DataObject) -> None:
    plan = memplan.plan(graph, chip="910B3")
    used = {tensor.index for tensor in plan.tensors if tensor.uses and tensor.nbytes}
    rows = [row for row, p in enumerate(plan.placements) if p.tensor in used and p.size]
    if not rows:
        return
    row = data.draw(st.sampled_from(rows))
    gone = dataclasses.replace(plan, placements=plan.placements[:row] + plan.placements[row + 1 :])
    assert violations(gone)
    alive = [
        other
        for other, p in enumerate(plan.placements)
        if other != row and p.size and p.start < plan.placements[row].end and plan.placements[row].start < p.end
    ]
    if alive:
        onto = plan.placements[data.draw(st.sampled_from(alive))]
        moved = dataclasses.replace(plan.placements[row], offset=onto.offset)
        clash = dataclasses.replace(plan, placements=(*plan.placements[:row], moved, *plan.placements[row + 1 :]))
        assert any("share HBM bytes" in text for text in violations(clash))
