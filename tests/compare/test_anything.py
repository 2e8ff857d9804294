"""Whatever plan meets whatever profile: an answer or a refusal, and figures that hold together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memplan
from memplan.compare import Comparison, compare
from memplan.core.errors import InputError
from memplan.schema import Bound, Plan, PlannedOp, PlanOrigin
from memplan.traces.directory import Profile
from memplan.traces.profile import Allocations, MemoryCurve
from memplan.traces.rank import RankProfile
from tests.compare.doubles import kernels, made_rank
from tests.export.test_execution import stream_plans
from tests.small_plans import plans

EPOCH = 1_767_225_600 * 10**9
_NAMES = st.sampled_from(["", "a", "b", "Default/a-op0", "Default/a-op0/aclnnA", "Expand/_A/B-op1"])
_TIMES = st.integers(0, 10**9)
_ROWS = st.lists(st.tuples(_NAMES, _NAMES, _TIMES, _TIMES), min_size=1, max_size=12)


@st.composite
def ranks(draw: st.DrawFn) -> RankProfile:
    """A rank with some kernels, perhaps steps, memory and allocations, in any disorder of names and sizes."""
    rows = sorted(draw(_ROWS), key=lambda row: row[2])
    rows = [(name, kind, EPOCH + start, took) for name, kind, start, took in rows]
    steps = draw(st.none() | st.lists(st.integers(-1, 3), min_size=len(rows), max_size=len(rows)))
    points = sorted(draw(st.lists(st.tuples(_TIMES, st.integers(-1, 2**40)), max_size=8)))
    curves = {}
    if points:
        times = np.array([EPOCH + time for time, _ in points], dtype=np.int64)
        values = np.array([value for _, value in points], dtype=np.int64)
        component = draw(st.sampled_from(["PTA", "APP", "Other"]))
        curves[component] = MemoryCurve(component, "NPU:0", times, draw(st.sampled_from([values, None])), values, None)
    made = draw(st.lists(st.tuples(_NAMES, st.integers(1, 2**40), _TIMES, st.none() | _TIMES), max_size=6))
    blocks = Allocations(
        [name for name, _, _, _ in made],
        np.array([size for _, size, _, _ in made], dtype=np.int64),
        np.array([EPOCH + time for _, _, time, _ in made], dtype=np.int64),
        np.array([-1 if held is None else EPOCH + time + held for _, _, time, held in made], dtype=np.int64),
    )
    return made_rank(kernels(rows, steps), curves, draw(st.sampled_from([blocks, None])))


def check(plan: Plan, result: Comparison) -> None:
    """What has to hold of any comparison."""
    launched = {op.index for op in plan.ops if op.launches}
    matched = set(result.matches.op.tolist())
    assert set(result.unmatched_ops) == launched - matched
    assert result.summary.matched_ops + len(result.unmatched_ops) == result.summary.planned_ops == len(launched)
    assert result.deviates == bool(result.reasons)
    assert (result.matches.duration_ns >= 0).all()
    assert 0.0 <= result.summary.measured_coverage <= 1.0
    for item in result.deviations:
        assert item.delta == (item.measured or 0) - (item.planned or 0) != 0
        assert item.cost >= 0
        assert item.start_ns <= item.end_ns
    if result.memory is not None:
        assert len(result.memory.axis_ns) == len(result.memory.planned) == len(result.memory.measured)
        assert (np.diff(result.memory.axis_ns) > 0).all()


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(plan=plans(), rank=ranks(), names=st.lists(st.tuples(_NAMES, _NAMES), min_size=6, max_size=6))
def test_any_plan_meets_any_profile(plan: Plan, rank: RankProfile, names: list[tuple[str, str]]) -> None:
    ops = (dataclasses.replace(op, name=names[op.index][0], type=names[op.index][1]) for op in plan.ops)
    plan = dataclasses.replace(plan, ops=tuple(ops))
    try:
        result = compare(plan, rank, limit=100)
    except InputError:
        return
    check(plan, result)


@pytest.fixture(scope="module")
def qwen(shared_data: Path) -> Profile:
    return memplan.open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank")


def plan_of(profile: Profile) -> Plan:
    """What a perfect planner would have said of the run: its kernels, in order, with their times."""
    table = profile.rank(0).kernels()
    assert table is not None
    origin = int(table.start_ns[0])
    ops = tuple(
        PlannedOp(row, table.name[row], table.type[row], int(table.stream[row]), int(table.start_ns[row]) - origin,
                  int(table.duration_ns[row]), 0, Bound.HBM, 0, 0)
        for row in range(len(table))
    )  # fmt: skip
    makespan = int((table.start_ns + table.duration_ns).max()) - origin
    return Plan(
        PlanOrigin("run", "run", None, ""), "Ascend910B3", "", ops, (), (), (), (), (), True, 0, makespan, "", ()
    )


def test_a_real_run_keeps_to_a_plan_made_of_itself(qwen: Profile) -> None:
    """2463 real kernels under 93 names: every one is given to its own op, and time deviates nowhere."""
    plan = plan_of(qwen)
    result = compare(plan, qwen, limit=10_000)
    assert len({op.name for op in plan.ops}) < 200
    assert result.summary.matched_by_name == len(plan.ops) == 2463
    table = qwen.rank(0).kernels()
    assert table is not None
    assert (result.matches.start_ns == table.start_ns).all()
    assert (result.matches.duration_ns == table.duration_ns).all()
    assert not [item for item in result.deviations if item.kind.value == "time"]
    assert result.summary.makespan_change == 0.0
    assert result.time_map.to_plan(table.start_ns).tolist() == [op.start_ns for op in plan.ops]


def test_names_that_many_ops_share_are_not_taken_for_steps(qwen: Profile) -> None:
    """Two runs of the real kernels, without step numbers: 28 layers of one name are not 28 steps."""
    table = qwen.rank(0).kernels()
    assert table is not None
    later = int((table.start_ns + table.duration_ns).max()) - int(table.start_ns[0]) + 5_000_000
    rows = [
        (table.name[row], table.type[row], int(table.start_ns[row]) + shift, int(table.duration_ns[row]))
        for shift in (0, later)
        for row in range(len(table))
    ]
    result = compare(plan_of(qwen), made_rank(kernels(rows)), limit=50)
    assert result.summary.measured_kernels == result.summary.matched_by_name == len(table)
    assert result.deviations == ()


def test_what_a_real_run_allocates_beyond_a_plan_without_tensors_is_all_excess(qwen: Profile) -> None:
    result = compare(plan_of(qwen), qwen, limit=10_000)
    memory = [item for item in result.deviations if item.kind.value == "memory"]
    assert memory
    assert all(item.delta > 0 for item in memory if item.what in ("level", "excess"))


def test_two_real_runs_of_one_program_keep_to_each_other(shared_data: Path) -> None:
    """AlexNet was profiled twice, as text and as a database: a plan made of the one finds every kernel of the other."""
    folder = shared_data / "profiles" / "alexnet-ddp-2rank"
    plan = plan_of(memplan.open_profile(folder / "text" / "level2"))
    result = compare(plan, memplan.open_profile(folder / "db" / "level2"))
    assert result.summary.matched_ops == result.summary.measured_kernels == len(plan.ops) == 191
    assert result.unmatched_kernels == ()
    # The slowest collective takes 80 ms in one run and 86 ms in the other, and that is the largest difference in time.
    (slowest,) = [item for item in result.deviations if item.kind.value == "time" and item.cost > 0.01]
    assert slowest.where == "hcom_allReduce__271_0_1"
    assert slowest.delta == pytest.approx(-6.02e6, rel=0.01)
    assert result.summary.makespan_change == pytest.approx(-0.043, abs=0.001)
    assert not result.deviates
    # The plan holds no tensors, so all the memory there is is found beside it, absolute.
    level = next(item for item in result.deviations if item.what == "level")
    assert level.planned == 0
    assert all((item.measured or 0) >= 0 for item in result.deviations)


@given(plan=stream_plans(), origin=st.integers(0, 2**60))
def test_ops_on_several_streams_that_keep_to_the_plan_deviate_nowhere(plan: Plan, origin: int) -> None:
    rows = sorted((origin + op.start_ns, op.index) for op in plan.ops)
    table = kernels([(plan.ops[i].name, plan.ops[i].type, start, plan.ops[i].duration_ns) for start, i in rows])
    result = compare(plan, made_rank(table))
    assert [item for item in result.deviations if item.kind.value == "time"] == []
    assert result.summary.matched_ops == len(plan.ops)
    assert not result.deviates
