"""Collectives beside computing: what is exposed, what would hide them, and what limits both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.models.training.step_recipe import Recipe
from memplan.reports.plan_report import plan_report
from memplan.schema import Bound, Placement, Plan, PlannedOp, Tier, plan_from_json
from memplan.schema.communication import communication_outlook
from tests.small_plans import layered_plan

OP = 50_000
SAMPLES = Path(memplan.__file__).parent / "samples"


@pytest.fixture(scope="module")
def training() -> Plan:
    """One rank of two replicas with two-way tensor parallelism."""
    recipe = Recipe(sequence=256, micro_batches=2)
    config = load_config(SAMPLES / "example_config.json")
    return memplan.plan(config, chip="910B3", phase="train", layout=Layout(tensor=2, data=2), recipe=recipe)


def exchanging(needed_after: int | None) -> Plan:
    """Six ops, the second an exchange in place of what the first wrote, read `needed_after` further ops later."""
    plan = layered_plan(layers=3)
    ops: list[PlannedOp] = []
    for op in plan.ops:
        reads: tuple[int, ...] = ()
        writes: tuple[int, ...] = (100 + op.index,)
        if op.index == 1:
            reads = writes = (100,)
        if needed_after is not None and op.index == 2 + needed_after:
            reads = (100,)
        bound = Bound.LINK if op.index == 1 else Bound.CUBE
        ops.append(replace(op, bound=bound, kernel=None, reads=reads, writes=writes, micro_batch=0, layer=op.index))
    return replace(plan, ops=tuple(ops), placements=(), kernels=())


@pytest.mark.parametrize(("needed_after", "exposed"), [(0, OP), (1, 0), (3, 0), (None, 0)])
def test_an_exchange_hides_behind_what_does_not_need_it(needed_after: int | None, exposed: int) -> None:
    outlook = communication_outlook(exchanging(needed_after))
    assert outlook is not None
    assert outlook.exposed_ns == exposed
    assert outlook.serial_ns == 6 * OP
    assert outlook.step_ns == 5 * OP + exposed


def test_an_op_that_takes_over_its_addresses_waits_for_the_exchange() -> None:
    plan = exchanging(None)
    places = [
        Placement(100, Tier.HBM, 0, 512, 0, 2),
        Placement(102, Tier.HBM, 256, 512, 2, 6),
        Placement(103, Tier.HBM, 1024, 512, 3, 6),
    ]
    outlook = communication_outlook(replace(plan, placements=tuple(places)))
    assert outlook is not None
    assert outlook.exposed_ns == OP


def test_without_collectives_or_accesses_there_is_no_outlook() -> None:
    plan = exchanging(0)
    assert communication_outlook(layered_plan()) is None
    assert communication_outlook(replace(plan, ops=tuple(replace(op, reads=None) for op in plan.ops))) is None


def test_figures_of_a_step_bound_each_other(training: Plan) -> None:
    outlook = communication_outlook(training)
    assert outlook is not None
    linked = [op for op in training.ops if op.bound is Bound.LINK]
    computing = sum(op.duration_ns for op in training.ops) - sum(op.duration_ns for op in linked)
    assert sum(use.count for use in outlook.uses) == len(linked)
    assert outlook.duration_ns == sum(op.duration_ns for op in linked)
    assert all(0 <= use.exposed_ns <= use.duration_ns for use in outlook.uses)
    assert max(computing, outlook.duration_ns) <= outlook.step_ns <= outlook.serial_ns == training.makespan_ns
    assert outlook.step_ns == computing + outlook.exposed_ns
    assert outlook.pair_serial_ns / 2 <= outlook.pair_ns <= outlook.pair_serial_ns
    assert {item.phase for item in outlook.layers} == {"forward", "backward"}
    for item in outlook.layers:
        hidden = item.exchange_ns <= item.compute_ns
        assert hidden == (item.needed_rate <= item.given_rate)


def test_the_report_shows_it_and_its_document_is_still_a_plan(training: Plan) -> None:
    report = plan_report(training)
    outlook = communication_outlook(training)
    assert outlook is not None
    assert any(str(part.title).startswith("Collectives take") for part in report.sections)
    assert report.document is not None
    document = report.document()
    assert document["communication"]["exposed_ns"] == outlook.exposed_ns
    assert plan_from_json(document) == training


def test_experts_beside_a_shared_one(shared_data: Path) -> None:
    config = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    step = ServedStep(Phase.DECODE, batch=64, context=4096, precision="w8a8")
    plan = memplan.plan(config, chip="910C", phase="decode", layout=Layout(data=64, expert=64), recipe=step)
    outlook = communication_outlook(plan)
    assert outlook is not None
    assert {use.type for use in outlook.uses} == {"MoeDistributeDispatch", "MoeDistributeCombine"}
    assert outlook.step_ns < outlook.serial_ns
