"""What a run changes outlives the run: in HBM where it began, or on the host, never one run old."""

from __future__ import annotations

from dataclasses import replace

import pytest

import memplan
from memplan.graph import Graph, TensorKind
from memplan.schema import Plan, Tier
from memplan.schema.check import violations
from tests.planner.byte_memory import ByteMemory
from tests.planner.graphs import Builder

MIB = 1 << 20
SIZE = MIB - 32


def training_step(layers: int = 3) -> Graph:
    """Forward, then for each layer an update of weight and momentum of which only the weight is an output."""
    build = Builder()
    value = build.tensor(SIZE, TensorKind.INPUT)
    weights = [build.tensor(SIZE, TensorKind.WEIGHT) for _ in range(layers)]
    momenta = [build.tensor(SIZE, TensorKind.OPTIMIZER_STATE) for _ in range(layers)]
    for weight in weights:
        made = build.tensor(SIZE)
        build.op([value, weight], [made])
        value = made
    for weight, momentum in zip(reversed(weights), reversed(momenta), strict=True):
        updated = build.tensor(SIZE, storage=weight)
        build.op([weight, momentum, value], [updated], writes=[weight, momentum])
    return build.graph([])


def decode_step() -> Graph:
    """Each layer writes a slot of its cache and reads the cache; no output says that it was written."""
    build = Builder()
    value = build.tensor(1000, TensorKind.INPUT)
    for _ in range(4):
        cache = build.tensor(SIZE, TensorKind.INPUT)
        build.op([value, cache], [], writes=[cache])
        build.op([value, cache], [made := build.tensor(1000)])
        value = made
    return build.graph([value])


def plan_in(graph: Graph, share: float) -> Plan:
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    return memplan.plan(graph, chip="910B3", hbm=int(use.peak * share))


@pytest.mark.parametrize("graph", [training_step(), decode_step()], ids=["training", "decode"])
@pytest.mark.parametrize("share", [0.9, 0.75, 0.6, 0.5])
def test_what_an_op_changes_without_an_output_goes_back_to_the_host(graph: Graph, share: float) -> None:
    plan = plan_in(graph, share)
    assert plan.fits
    assert plan.transfers
    changed = {tensor for op in plan.ops for tensor in op.writes or () if plan_tensor(plan, tensor).persistent}
    for tensor in changed & {move.tensor for move in plan.transfers}:
        last = max(step for step, op in enumerate(plan.ops) if tensor in (op.writes or ()))
        resident = [p for p in plan.placements if p.tensor == tensor and p.tier is Tier.HBM]
        stays = min(p.start for p in resident) == 0 and max(p.end for p in resident) == len(plan.ops)
        copied = [move for move in plan.transfers if move.tensor == tensor and move.target is Tier.HOST]
        assert stays or any(move.after_step is not None and move.after_step >= last for move in copied)
    assert ByteMemory(graph, plan).run() == []


def plan_tensor(plan: Plan, index: int) -> memplan.schema.PlannedTensor:
    return next(tensor for tensor in plan.tensors if tensor.index == index)


def test_what_the_very_last_op_changes_is_copied_back_too() -> None:
    plan = plan_in(training_step(), 0.6)
    last = len(plan.ops) - 1
    away = {p.tensor for p in plan.placements if p.tier is Tier.HBM} - {
        p.tensor for p in plan.placements if p.tier is Tier.HBM and p.start == 0
    }
    late = [tensor for tensor in plan.ops[last].writes or () if tensor in away]
    assert late
    for tensor in late:
        assert any(m.after_step == last and m.target is Tier.HOST for m in plan.transfers if m.tensor == tensor)


def test_what_is_in_hbm_at_both_ends_ends_at_the_address_where_it_began() -> None:
    away = 0
    for share in (0.7, 0.6):
        plan = plan_in(training_step(6), share)
        for tensor in plan.tensors:
            places = sorted(
                (p.start, p.end, p.offset) for p in plan.placements if p.tensor == tensor.index and p.tier is Tier.HBM
            )
            if tensor.persistent and places and places[0][0] == 0 and places[-1][1] == len(plan.ops):
                assert places[0][2] == places[-1][2]
                away += len(places) > 1
    assert away > 0


def test_a_lost_update_is_told_with_its_tensor() -> None:
    plan = plan_in(training_step(), 0.6)
    changed = {tensor for op in plan.ops for tensor in op.writes or ()}
    kept = tuple(m for m in plan.transfers if not (m.target is Tier.HOST and m.tensor in changed))
    assert len(kept) < len(plan.transfers)
    lost = {move.tensor for move in plan.transfers} - {move.tensor for move in kept} or changed
    found = violations(replace(plan, transfers=kept))
    assert any("its last update is lost" in text or "not copied back" in text for text in found)
    assert any(f"tensor {tensor} (t{tensor})" in text for tensor in lost | changed for text in found)


def test_a_stale_read_is_told_with_op_tensor_and_run() -> None:
    graph = decode_step()
    plan = plan_in(graph, 0.6)
    written = next(m for m in plan.transfers if m.target is Tier.HOST and m.after_step is not None)
    # The copy leaves before the op that writes it: the next run fetches what is one run old.
    tensor = written.tensor
    step = min(step for step, op in enumerate(plan.ops) if tensor in (op.writes or ()))
    start = plan.ops[step].start_ns
    early = replace(written, start_ns=max(0, start - 1), end_ns=max(0, start - 1) + written.end_ns - written.start_ns)
    swapped = tuple(early if move is written else move for move in plan.transfers)
    assert violations(replace(plan, transfers=swapped))


def test_a_move_to_another_address_is_refused() -> None:
    plan = plan_in(training_step(6), 0.8)
    rows = [
        row
        for row, p in enumerate(plan.placements)
        if p.tier is Tier.HBM and p.end == len(plan.ops) and p.start > 0 and plan_tensor(plan, p.tensor).persistent
    ]
    pinned = [
        row for row in rows if any(q.tensor == plan.placements[row].tensor and q.start == 0 and q.tier is Tier.HBM
                                   for q in plan.placements)
    ]  # fmt: skip
    top = max((p.offset or 0) + p.size for p in plan.placements if p.tier is Tier.HBM)
    for row in pinned:
        moved = replace(plan.placements[row], offset=top)
        other = replace(plan, placements=(*plan.placements[:row], moved, *plan.placements[row + 1 :]))
        assert any("the plan can't be run again" in text for text in violations(other))


def test_a_plan_that_does_not_say_what_ops_read_is_not_refused_for_it() -> None:
    plan = plan_in(training_step(), 0.6)
    silent = replace(plan, ops=tuple(replace(op, reads=None, writes=None) for op in plan.ops))
    assert violations(silent) == ()


def test_overlapping_streams_may_not_share_bytes() -> None:
    build = Builder()
    given_value = build.tensor(SIZE, TensorKind.INPUT)
    build.op([given_value], [first := build.tensor(SIZE)])
    build.op([first], [second := build.tensor(SIZE)])
    build.op([second], [third := build.tensor(SIZE)])
    plan = memplan.plan(build.graph([third]), chip="910B3")
    place = {p.tensor: p for p in plan.placements if p.tier is Tier.HBM}
    assert place[first].offset == place[third].offset  # the third takes the bytes of the first
    op = plan.ops[2]
    early = replace(op, stream=1, start_ns=plan.ops[1].start_ns + 1)
    assert any("reads" in text for text in violations(replace(plan, ops=(*plan.ops[:2], early))))
