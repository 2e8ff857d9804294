"""A host whose process stands still, told from one that is busy launching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.findings import diagnose
from memplan.simulator import ChosenFault, simulate_job
from memplan.simulator.faults.fault import Fault
from memplan.simulator.job_program import Doing, Item, RankProgram
from memplan.simulator.job_settings import FaultyJob
from tests.findings.planted_runs import diagnosed, named
from tests.small_plans import layered_plan

GAP_NS = 300_000_000


def _with_gap(program: RankProgram, *items: Item) -> RankProgram:
    """`program` with something that keeps the host from launching, after the device has run empty."""
    return (*program[:5], Item(Doing.SYNCHRONISE, "drained", "quiet", 0), *items, *program[5:])


@pytest.mark.parametrize(("length_ns", "stalled"), [(GAP_NS, True), (GAP_NS // 3, False)])
def test_a_long_gap_without_any_call_is_a_process_that_stands_still(
    tmp_path: Path, length_ns: int, stalled: bool
) -> None:
    silent = Item(Doing.HOST, "main.py(3): think", "", length_ns)
    found = diagnosed(tmp_path / "run", lambda program: _with_gap(program, silent), steps=1)
    kind = "idle.stalled" if stalled else "idle.host"
    (told,) = named(found, kind)
    assert told.cost_ns == pytest.approx(length_ns, rel=0.01)
    assert told.remedies


def test_a_host_that_calls_the_runtime_all_the_while_is_busy(tmp_path: Path) -> None:
    busy = [Item(Doing.HOST, "AscendCL@aclCreateTensorDesc", "", GAP_NS // 50)] * 50
    found = diagnosed(tmp_path / "run", lambda program: _with_gap(program, *busy), steps=1)
    assert not named(found, "idle.stalled")
    assert named(found, "idle.host")


@pytest.mark.parametrize(("op_ns", "length_ns", "told"), [(80_000, GAP_NS, True), (400, 500, False)])
def test_a_host_silent_between_steps_is_between_steps(tmp_path: Path, op_ns: int, length_ns: int, told: bool) -> None:
    def rests(job: FaultyJob, _: float) -> FaultyJob:
        return replace(job, settings=replace(job.settings, gaps_ns=(length_ns,)))

    fault = ChosenFault("of a test", Fault("of a test", (), rests), 1.0)
    plan = layered_plan(20, op_ns=op_ns)
    job = simulate_job(plan, tmp_path / "run", fault=fault, ranks=1, steps=3, seed=3)
    found = diagnose(memplan.open_profile(job), plan=plan)
    assert not named(found, "idle.stalled")
    assert [one.cost_ns for one in named(found, "idle.between")] == ([pytest.approx(2 * length_ns, rel=0.01)] * told)


def test_copies_that_come_late_are_places_to_open(tmp_path: Path) -> None:
    copy = Item(Doing.COPY, "MEMCPY_ASYNC", "host to device", 400_000)
    found = diagnosed(tmp_path / "run", lambda program: (*program[:30], copy, *program[30:60], copy, *program[60:]))
    (exposed,) = named(found, "copy.exposed")
    told = {item.label: item.value for item in exposed.evidence}
    assert told["copies"] == told["times that the device waits for one"] == 6
    assert told["longest wait"] == pytest.approx(400_000, rel=0.01)
    assert exposed.cost_ns == pytest.approx(6 * 400_000, rel=0.01)
    assert all(place.span_ns for place in exposed.places)
