"""Jobs of plans that take next to no time: faults are as plain as in long ones, and clean ones stay silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.findings import diagnose
from memplan.schema import Plan
from memplan.simulator import chosen_fault, planted_ns, simulate_job
from memplan.simulator.job_layouts import phases
from memplan.simulator.job_program import Doing, Item, computing_ns, program_of
from tests.small_plans import layered_plan

SHORT = layered_plan(6, op_ns=2_500)  # a step of 30 us


def with_update(plan: Plan, count: int) -> Plan:
    """`plan` whose last ops update weights."""
    ops = [*plan.ops[:-count], *(replace(op, type="Adam") for op in plan.ops[-count:])]
    return replace(plan, ops=tuple(ops))


def test_a_short_plan_is_run_as_micro_batches_and_its_weights_are_updated_once() -> None:
    program = program_of(with_update(SHORT, 3), ranks=1)
    updates = [item for item in program if item.type == "Adam"]
    assert computing_ns(program) >= 1_000_000
    assert updates == list(program[-3:])
    batches = {sum(item.name == op.name for item in program) for op in SHORT.ops[:-3]}
    assert len(batches) == 1
    assert batches.pop() > 20


def test_a_plan_that_fills_a_step_is_run_once() -> None:
    plan = layered_plan(6, op_ns=80_000)
    kernels = [item for item in program_of(plan, ranks=1) if item.doing is Doing.KERNEL]
    assert [item.name for item in kernels] == [op.name for op in plan.ops]


def test_a_step_without_an_update_ends_with_its_last_kernel_whatever_its_host_does_then() -> None:
    program = (*program_of(layered_plan(6), ranks=1), Item(Doing.SYNCHRONISE, "aten::item", "", 1000))
    assert [item.doing for item in phases(program)[2]] == [Doing.KERNEL, Doing.SYNCHRONISE]


@pytest.mark.parametrize("kind", ["dataloader", "synchronisation-uneven", "missing-overlap", "casts", "between-steps"])
def test_faults_of_short_steps_are_the_first_finding(tmp_path: Path, kind: str) -> None:
    fault = chosen_fault(f"{kind}:medium")
    simulate_job(SHORT, tmp_path / "job", fault=fault, ranks=2, steps=4, seed=5)
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=SHORT).findings
    assert found[0].kind in fault.fault.findings


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_messages_cost_what_computing_waits_for_not_what_shows_between_short_kernels(
    tmp_path: Path, strength: str
) -> None:
    fault = chosen_fault(f"small-packets-many:{strength}")
    simulate_job(SHORT, tmp_path / "job", fault=fault, ranks=2, steps=4, seed=9)
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=SHORT).findings
    assert found[0].kind == "communication.small_packets"
    told = max(one.cost_ns or 0 for one in found if one.kind == found[0].kind)
    hundredth = 4 * 10_000
    planted = planted_ns(SHORT, fault, ranks=2, steps=4, seed=9)
    assert told == pytest.approx(planted, rel=0.15, abs=hundredth)
    assert (planted > hundredth) == (strength == "strong")


@pytest.mark.parametrize("layout", ["data", "pipeline"])
def test_short_steps_without_a_fault_are_left_in_peace(tmp_path: Path, layout: str) -> None:
    simulate_job(SHORT, tmp_path / "job", ranks=2, steps=4, seed=6, layout=layout, background=True)
    plan = SHORT if layout == "data" else None
    found = diagnose(memplan.open_profile(tmp_path / "job", cache=tmp_path / "cache"), plan=plan).findings
    assert not [one for one in found if (one.cost_ns or one.cost_bytes) and one.kind != "pipeline.bubble"]
