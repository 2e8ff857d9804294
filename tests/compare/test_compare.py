"""A comparison finds what was changed, and nothing where nothing was."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memplan
from memplan.compare import Comparison, Tolerance, compare
from memplan.core.errors import InputError
from memplan.graph.op_names import type_of_kernel
from memplan.schema import Bound, Plan, StepPart, StepPartName, memory_curve
from memplan.simulator import Behaviour, simulate
from memplan.traces.profile import Allocations, MemoryCurve, Slices, Track, TrackKind
from tests.align.alexnet_run import alexnet_plan
from tests.compare.doubles import Row, kernels, made_rank
from tests.small_plans import MIB, layered_plan

EPOCH = 1_767_225_600 * 10**9


def simulated(plan: Plan, folder: Path, behaviour: Behaviour, *, steps: int = 1) -> Comparison:
    return compare(plan, memplan.open_profile(simulate(plan, folder / "run", behaviour=behaviour, steps=steps)))


def as_planned(plan: Plan, scale: int = 1) -> list[Row]:
    """Kernels that keep to the plan, all times `scale` as long."""
    return [(op.name, op.type, EPOCH + scale * op.start_ns, scale * op.duration_ns) for op in plan.ops]


@pytest.mark.parametrize("transfers", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_as_planned_has_no_deviation(tmp_path: Path, transfers: bool, steps: int) -> None:
    plan = layered_plan(7, transfers=transfers)
    result = simulated(plan, tmp_path, Behaviour.exact(), steps=steps)
    assert result.deviations == ()
    assert not result.deviates
    assert result.reasons == ()
    assert result.unmatched_ops == ()
    assert result.summary.measured_peak == result.summary.planned_peak == memory_curve(plan).values.max()
    assert result.summary.measured_peak_op == result.summary.planned_peak_op == memory_curve(plan).values.argmax() == 6
    assert result.summary.measured_makespan_ns == plan.makespan_ns
    assert result.memory is not None
    assert (result.memory.measured == result.memory.planned)[:-1].all()


@settings(max_examples=15)
@given(op=st.integers(0, 13), factor=st.sampled_from([0.5, 1.7, 4.0]))
def test_one_op_off_its_time_is_the_costliest_deviation(
    tmp_path_factory: pytest.TempPathFactory, op: int, factor: float
) -> None:
    plan = layered_plan(7)
    result = simulated(plan, tmp_path_factory.mktemp("slow"), Behaviour.exact(slow_ops=((op, factor),)))
    first = result.deviations[0]
    assert (first.what, first.op, first.where) == ("duration", op, plan.ops[op].name)
    assert first.delta == round((factor - 1) * plan.ops[op].duration_ns)
    assert first.cost == pytest.approx(abs(first.delta) / plan.makespan_ns)
    assert len(result.deviations) == 1


@settings(max_examples=10)
@given(layer=st.integers(1, 6))
def test_one_leaked_tensor_is_the_costliest_deviation(tmp_path_factory: pytest.TempPathFactory, layer: int) -> None:
    plan = layered_plan(7)
    tensor = 2 * layer + 1
    result = simulated(plan, tmp_path_factory.mktemp("leak"), Behaviour.exact(leaked_tensors=(tensor,)))
    due = plan.ops[14 - layer].start_ns
    (found,) = result.deviations
    assert (found.what, found.op, found.delta) == ("held too long", layer, 4 * MIB)
    assert (found.start_ns, found.end_ns) == (due, plan.makespan_ns)


def test_a_noisy_run_is_found_op_by_op_and_its_deviations_add_up(tmp_path: Path) -> None:
    plan = layered_plan(20)
    profile = memplan.open_profile(simulate(plan, tmp_path / "run", steps=3, seed=5))
    result = compare(plan, profile, limit=10_000)
    assert result.simulated
    assert result.summary.matched_by_name == 40
    # On one stream the makespan is durations and waits, so their differences are its difference.
    times = [item.delta for item in result.deviations if item.kind.value == "time"]
    assert sum(times) == result.summary.measured_makespan_ns - plan.makespan_ns
    costs = [item.cost for item in result.deviations]
    assert costs == sorted(costs, reverse=True)
    assert compare(plan, profile, limit=3).deviations == result.deviations[:3]


def test_the_allocators_clock_is_the_hosts_not_the_devices(tmp_path: Path) -> None:
    """The host allocates long before the device gets there; the curves must lie on each other all the same."""
    plan = layered_plan(20)
    ahead = dataclasses.replace(Behaviour.exact(), host_runs_ahead=True, host_call_ns=1000)
    result = simulated(plan, tmp_path, ahead)
    assert result.memory is not None
    assert result.memory.map is not result.time_map
    assert result.memory.map.to_profile(plan.makespan_ns) < result.time_map.to_profile(plan.makespan_ns)
    assert not [item for item in result.deviations if item.kind.value == "memory"]


def test_a_profile_of_another_model_is_said_to_be_one(shared_data: Path) -> None:
    plan = layered_plan(4)
    profile = memplan.open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank")
    result = compare(plan, profile)
    assert result.deviates
    assert "another model" in str(result.reasons[0])
    assert len(result.matches) == 0
    assert not result.time_map.anchored
    assert result.unmatched_ops == tuple(range(8))
    assert sum(kernels.count for kernels in result.unmatched_kernels) == result.summary.measured_kernels == 2463
    # The allocator's peak in the files themselves: 10282.749 MB.
    assert result.summary.measured_peak == pytest.approx(10282.749 * MIB, rel=1e-6)


def test_the_bundled_plan_against_real_alexnet_is_an_answer(shared_data: Path) -> None:
    plan = memplan.load_plan(Path(memplan.__file__).parent / "samples" / "llama_train.plan.json")
    result = compare(plan, memplan.open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2"), rank=1)
    assert result.rank == 1
    assert result.deviates
    assert result.summary.matched_ops == 0


def test_a_plan_of_one_device_is_found_in_a_run_that_waits_for_others(shared_data: Path, tmp_path: Path) -> None:
    """Went wrong once: five sixths of the kernel time are collectives, so that it was taken for another model's run."""
    profile = memplan.open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2")
    result = compare(alexnet_plan(tmp_path), profile)
    assert result.aligned is not None
    assert result.summary.matched_ops > 0.6 * result.summary.planned_ops
    # Of a plan without exchanges nothing tells that what is exchanged is logged.
    assert "all reduce" in {kernels.name for kernels in result.unmatched_kernels}


def test_names_with_the_device_kernel_behind_them_match() -> None:
    plan = layered_plan(3)
    rows = [(f"{name}/aclnn{kind}_{kind}V3", kind, start, took) for name, kind, start, took in as_planned(plan)]
    result = compare(plan, made_rank(kernels(rows)))
    assert result.summary.matched_by_name == 6
    assert result.deviations == ()


@pytest.mark.parametrize("steps", [1, 3])
def test_several_kernels_of_an_op_are_one_op(steps: int) -> None:
    plan = layered_plan(4)
    rows: list[Row] = []
    for name, kind, start, took in _repeated(plan, (1,) * steps):
        half = took // 2
        rows += [(f"{name}/first", kind, start, half), (f"{name}/second", kind, start + half, took - half)]
    result = compare(plan, made_rank(kernels(rows)))
    assert result.matches.duration_ns.tolist() == [op.duration_ns for op in plan.ops]
    assert result.deviations == ()


def test_where_names_are_lost_type_and_order_match() -> None:
    plan = layered_plan(4)
    rows = [(f"aclnn{kind}", f"{kind}V2", start, took) for _, kind, start, took in as_planned(plan)]
    result = compare(plan, made_rank(kernels(rows)))
    assert (result.summary.matched_ops, result.summary.matched_by_name) == (8, 0)
    assert result.deviations == ()


def test_a_type_in_common_does_not_make_two_models_one() -> None:
    plan = layered_plan(8)
    rows: list[Row] = [("a", "MatMul", EPOCH, 10), *(("b", f"Other{i}", EPOCH + 20 * i, 10) for i in range(1, 16))]
    result = compare(plan, made_rank(kernels(rows)))
    assert result.summary.matched_ops == 0
    assert result.deviates


def test_what_lies_between_named_neighbours_is_matched_by_type() -> None:
    plan = layered_plan(4)
    rows = as_planned(plan)
    rows[3] = ("aclnnMul_Fused", "Mul", *rows[3][2:])
    result = compare(plan, made_rank(kernels(rows)))
    assert (result.summary.matched_ops, result.summary.matched_by_name) == (8, 7)
    assert result.matches.by_name.tolist() == [op != 3 for op in range(8)]


def test_extra_and_missing_kernels_are_listed_on_their_sides() -> None:
    plan = layered_plan(3)
    rows = as_planned(plan)
    rows[2] = ("TransData_7", "TransData", *rows[2][2:])
    result = compare(plan, made_rank(kernels(rows)), limit=50)
    assert result.unmatched_ops == (2,)
    (extra,) = result.unmatched_kernels
    assert (extra.name, extra.count, extra.total_ns) == ("TransData_7", 1, 50_000)
    found = {item.what.value: item for item in result.deviations}
    assert (found["not in the profile"].op, found["not in the profile"].measured) == (2, None)
    assert (found["not in the plan"].planned, found["not in the plan"].delta) == (None, 50_000)


def _repeated(plan: Plan, scales: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    origin = 0
    for scale in scales:
        rows += [(name, kind, start + origin, took) for name, kind, start, took in as_planned(plan, scale)]
        origin += scale * plan.makespan_ns + 10_000
    return rows


def test_the_median_step_is_taken_unless_another_is_asked_for() -> None:
    plan = layered_plan(3)
    numbers = [step for step in (4, 5, 6) for _ in plan.ops]
    rank = made_rank(kernels(_repeated(plan, (9, 2, 1)), numbers))
    assert compare(plan, rank).step == 5
    assert compare(plan, rank, step=4).summary.makespan_change == pytest.approx(8.0)
    with pytest.raises(InputError, match="no step 7; it has 4, 5, 6"):
        compare(plan, rank, step=7)


def _waiting(plan: Plan, waiting_ns: int) -> Plan:
    """`plan` as that of one pipeline stage, which waits so long for others, with a host around its kernels."""
    names = (StepPartName.OPS, StepPartName.WAITING, StepPartName.HOST)
    lengths = (plan.makespan_ns, waiting_ns, 3_000)
    parts = tuple(StepPart(name.value, length, "") for name, length in zip(names, lengths, strict=True))
    return dataclasses.replace(plan, step_parts=parts)


def test_a_run_is_held_against_the_whole_planned_step() -> None:
    """Went wrong once: a pipeline stage's run, with its waits, was held against the plan's ops alone: +188 %."""
    plan = layered_plan(3)
    rows = as_planned(plan)
    late = [*rows[:-1], (*rows[-1][:2], rows[-1][2] + 40_000, rows[-1][3])]
    result = compare(_waiting(plan, 40_000), made_rank(kernels(late)))
    assert result.summary.planned_makespan_ns == plan.makespan_ns
    assert result.summary.planned_step_ns == result.summary.measured_makespan_ns == plan.makespan_ns + 40_000
    assert not result.reasons
    causes = result.causes
    assert causes is not None
    assert causes.planned == causes.measured == plan.makespan_ns + 40_000
    assert causes.planned_computing == causes.measured_computing
    assert sum(cause.delta for cause in causes.causes) == 0


def test_a_simulated_run_executes_the_ops_of_a_plan_alone(tmp_path: Path) -> None:
    plan = _waiting(layered_plan(3), 40_000)
    result = simulated(plan, tmp_path, Behaviour.exact())
    assert result.summary.planned_step_ns == result.summary.measured_makespan_ns == plan.makespan_ns
    assert not result.reasons


def test_steps_without_numbers_are_told_apart_by_repeated_ops() -> None:
    plan = layered_plan(3)
    result = compare(plan, made_rank(kernels(_repeated(plan, (9, 2, 1)))))
    assert result.step is None
    assert result.summary.measured_kernels == 6
    assert result.summary.makespan_change == pytest.approx(1.0)
    assert "3 were told apart" in result.notes[0]


def test_ops_that_share_a_name_take_its_kernels_in_order() -> None:
    plan = layered_plan(3)
    plan = dataclasses.replace(plan, ops=tuple(dataclasses.replace(op, name=f"Default/{op.type}") for op in plan.ops))
    result = compare(plan, made_rank(kernels(as_planned(plan), [1] * 6)))
    assert result.matches.start_ns.tolist() == [EPOCH + op.start_ns for op in plan.ops]
    assert result.deviations == ()


def test_slices_of_the_trace_stand_in_for_a_missing_kernel_table() -> None:
    plan = layered_plan(3)
    rows = as_planned(plan)
    count = np.arange(6)
    slices = Slices(
        np.array([row[2] for row in rows]), np.array([row[3] for row in rows]), count.astype(np.int32),
        np.zeros(6, dtype=np.int16), np.zeros(6, dtype=np.int32), [row[0] for row in rows], [""],
    )  # fmt: skip
    for kind, process in ((TrackKind.STREAM, "Ascend Hardware"), (TrackKind.HOST, "CPU OP")):
        track = Track(0, kind, process, "Stream 2", 6)
        result = compare(plan, made_rank(tracks=[track], rows={0: slices}))
        assert result.summary.matched_by_name == 6
        assert "of the trace" in result.notes[0]


def test_a_profile_without_kernels_is_refused() -> None:
    with pytest.raises(InputError, match="no kernels"):
        compare(layered_plan(2), made_rank())


def _curve(component: str, values: Sequence[int], *, reserved_only: bool = False) -> MemoryCurve:
    times = np.array([EPOCH + 50_000 * step for step in range(len(values))], dtype=np.int64)
    array = np.array(values, dtype=np.int64)
    return MemoryCurve(component, "NPU:0", times, None if reserved_only else array, array, None)


def test_the_frameworks_allocator_is_preferred_and_the_process_only_a_last_resort() -> None:
    plan = layered_plan(2)
    held = memory_curve(plan).values.tolist()
    pta, app = _curve("PTA", held), _curve("APP", [value + MIB for value in held], reserved_only=True)
    both = compare(plan, made_rank(kernels(as_planned(plan)), {"APP": app, "PTA": pta})).memory
    assert both is not None
    assert (both.component, both.quantity) == ("PTA", "allocated")
    assert (both.planned == both.measured).all()
    lone = compare(plan, made_rank(kernels(as_planned(plan)), {"APP": app}))
    assert lone.memory is not None
    assert (lone.memory.component, lone.memory.quantity) == ("APP", "reserved")
    assert "runtime" in lone.memory.reason
    assert [(item.what, item.delta) for item in lone.deviations] == [("level", MIB)]
    with pytest.raises(InputError, match="no memory component 'GE'; it has APP"):
        compare(plan, made_rank(kernels(as_planned(plan)), {"APP": app}), component="GE")


def test_a_bump_that_no_allocation_explains_is_an_excess_at_its_op() -> None:
    plan = layered_plan(4)
    held = memory_curve(plan).values.tolist()
    held[3] += 6 * MIB
    (found,) = compare(plan, made_rank(kernels(as_planned(plan)), {"PTA": _curve("PTA", held)})).deviations
    assert (found.what, found.op, found.delta) == ("excess", 3, 6 * MIB)
    assert (found.start_ns, found.end_ns) == (150_000, 200_000)


def test_sizes_and_early_frees_are_read_from_the_allocations() -> None:
    plan = layered_plan(4)
    names = [plan.ops[i].name for i in range(4)]
    start = np.array([EPOCH + 50_000 * i for i in range(4)])
    end = np.array([EPOCH + 50_000 * (8 - i) for i in range(4)])
    end[1] = EPOCH + 200_000  # planned 350,000
    sizes = np.array([4 * MIB, 4 * MIB, 5 * MIB, 4 * MIB])
    change = np.zeros(9, dtype=np.int64)
    for size, made, freed in zip(sizes, start, end, strict=True):
        change[(made - EPOCH) // 50_000] += size
        change[(freed - EPOCH) // 50_000] -= size
    curve = _curve("PTA", (16 * MIB + np.cumsum(change)).tolist())
    rank = made_rank(kernels(as_planned(plan)), {"PTA": curve}, Allocations(names, sizes, start, end))
    found = {item.what.value: item for item in compare(plan, rank).deviations}
    assert found.keys() == {"size", "freed early"}
    assert (found["size"].op, found["size"].planned, found["size"].measured) == (2, 4 * MIB, 5 * MIB)
    assert (found["freed early"].op, found["freed early"].delta) == (1, -4 * MIB)
    assert (found["freed early"].start_ns, found["freed early"].end_ns) == (200_000, 350_000)


def test_tolerances_decide_the_verdict_and_reasons_name_the_figure() -> None:
    plan = layered_plan(3)
    rows = as_planned(plan)
    rows[-1] = (*rows[-1][:3], rows[-1][3] + 60_000)  # a fifth of the makespan
    rank = made_rank(kernels(rows))
    assert list(map(str, compare(plan, rank).reasons)) == ["the makespan is +20.0% off the plan, more than 10%"]
    assert not compare(plan, rank, tolerance=Tolerance(time=0.25)).deviates
    few = made_rank(kernels(rows[:4]))
    assert any("of the planned ops" in str(reason) for reason in compare(plan, few).reasons)


def test_a_rank_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plan = layered_plan(2)
    with pytest.raises(InputError, match="no rank 3; it has 0"):
        compare(plan, memplan.open_profile(simulate(plan, tmp_path / "run")), rank=3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Default/net-Net/q-Dense/MatMul-op3", "MatMul"),
        ("Expand/_SumExt/Cast-op2", "SumExt"),
        ("MatMul-op0", "MatMul"),
        ("aclnnMatmul_MatMulV3Common_MatMulV3", "MatMulV3"),
        ("", ""),
    ],
)
def test_mindspore_names_tell_the_type(name: str, kind: str) -> None:
    assert type_of_kernel(name) == kind


def test_kernels_in_the_place_of_an_op_are_that_ops() -> None:
    """The backend makes two kernels of one op and forgets its name; its neighbours and the type tell whose they are."""
    plan = layered_plan(4)
    rows = as_planned(plan)
    _, _, start, took = rows[2]
    rows[2:3] = [("Expand/_ReduceSum/Cast-op1", "ReduceSum", start, 10_000),
                 ("Expand/_ReduceSum/Sum-op1", "ReduceSum", start + 10_000, took - 10_000)]  # fmt: skip
    result = compare(plan, made_rank(kernels(rows)))
    assert (result.summary.matched_ops, result.summary.matched_by_name) == (8, 7)
    assert result.deviations == ()


def test_copies_after_the_last_op_are_no_part_of_the_makespan() -> None:
    plan = layered_plan(3)
    longer = dataclasses.replace(plan, makespan_ns=plan.makespan_ns + 40_000)
    result = compare(longer, made_rank(kernels(as_planned(plan))))
    assert result.summary.planned_makespan_ns == result.summary.measured_makespan_ns == plan.makespan_ns
    assert not result.deviates
    assert "40.000 µs after the last planned op" in result.notes[0]


def test_what_an_op_without_a_kernel_waits_for_the_next_kernel_waits_for() -> None:
    plan = layered_plan(3)
    later = [dataclasses.replace(op, start_ns=op.start_ns + (20_000 if op.index >= 2 else 0)) for op in plan.ops]
    later[2] = dataclasses.replace(later[2], bound=Bound.NONE, launches=False, duration_ns=0)
    later[3:] = [dataclasses.replace(op, start_ns=op.start_ns - 50_000) for op in later[3:]]
    plan = dataclasses.replace(plan, ops=tuple(later), makespan_ns=plan.makespan_ns - 30_000)
    assert plan.ops[3].start_ns == plan.ops[2].start_ns == plan.ops[1].start_ns + 70_000
    result = compare(plan, made_rank(kernels([row for row in as_planned(plan) if row[3]])))
    assert result.summary.matched_ops == result.summary.planned_ops == 5
    assert result.deviations == ()
