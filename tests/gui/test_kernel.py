"""The kernel behind the selected op: its pipes, its tiling and what it keeps on chip, predicted and measured."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

from memplan.core.arrays import Floats
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.kernels.kernel_rows import kernel_of_row
from memplan.cost.machine import machine
from memplan.gui.model.document import make_document
from memplan.gui.model.kernel.kernel_analysis import kernel_facts
from memplan.gui.model.kernel.kernel_facts import LANES, KernelFacts, kernel_sheet
from memplan.gui.model.kernel.pipe_counters import measured_pipes
from memplan.gui.model.kernel.roofline_points import plan_roofline
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import OpRef, Session, SliceRef, TensorRef
from memplan.gui.model.timeline.timeline_tracks import NO_TRACKS
from memplan.hardware import chip, chips
from memplan.schema import Bound, Plan, Tier, load_plan
from memplan.traces.profile import TrackKind
from tests.gui.conftest import PLAN, PROFILE
from tests.small_plans import layered_plan

pytestmark = pytest.mark.gui


def of_type(plan: Plan, kind: str) -> int:
    """The first op of that type."""
    return next(op.index for op in plan.ops if op.type == kind)


def show_op(session: Session, kind: str) -> KernelFacts:
    """The facts of the first op of that type."""
    plan = session.document.plan
    assert plan is not None
    session.select(OpRef(of_type(plan, kind)))
    return kernel_facts(session)


def device_row(session: Session) -> str:
    """The track of the device's stream, read."""
    track = next(track for track in session.tracks.all if track.kind == TrackKind.STREAM.value)
    session.tracks.load(track)
    return track.key


def test_a_planned_matmul_is_laid_out_in_every_memory_of_the_cube(session: Session) -> None:
    facts = show_op(session, "MatMul")
    plan = session.document.plan
    assert plan is not None
    op = plan.ops[of_type(plan, "MatMul")]
    assert (facts.name, facts.type, facts.bound) == (op.name, "MatMul", op.bound)
    assert facts.predicted_ns == op.duration_ns
    assert facts.chip == "Ascend910B3"
    assert facts.problem is None
    assert tuple(lane.tier for lane in facts.lanes) == LANES
    filled = {lane.tier for lane in facts.lanes if lane.buffers}
    assert filled == {Tier.L0A, Tier.L0B, Tier.L0C, Tier.L1}
    for lane in facts.lanes:
        assert lane.capacity is not None
        for buffer in lane.buffers:
            assert 0 <= buffer.offset < buffer.offset + buffer.size <= lane.peak <= lane.capacity
            assert buffer.fills
            for slot in buffer.fills:
                assert any(start <= slot < end for start, end in buffer.intervals)
    assert [stage.pipe for stage in facts.stages] == ["MTE2", "MTE1", "cube", "FixPipe"]
    assert facts.slots == 7
    assert any("M × N × K" in str(sentence) for sentence in facts.tiling)


def test_a_planned_op_is_measured_by_the_kernels_that_the_comparison_found(session: Session) -> None:
    facts = show_op(session, "MatMul")
    comparison, rank = session.document.comparison, session.document.rank
    assert comparison is not None
    assert rank is not None
    table = rank.kernels()
    assert table is not None
    row = next(row for row in range(len(table)) if table.name[row] == facts.name)
    assert facts.measured_ns == int(table.duration_ns[row])
    assert facts.predicted_ns is not None
    assert facts.difference == pytest.approx(facts.measured_ns / facts.predicted_ns - 1)
    cube = next(pipe for pipe in facts.pipes if (pipe.unit, pipe.pipe) == ("cube", "cube"))
    assert cube.measured_ns == pytest.approx(table.pmu["aic_mac_time(us)"][row] * 1000)
    assert cube.predicted_ns is not None


def test_a_measured_slice_shows_the_same_as_its_op(session: Session) -> None:
    facts = show_op(session, "MatMul")
    key = device_row(session)
    lanes = session.tracks.lanes(session.tracks.track(key))
    assert lanes is not None
    names = [lanes.slices.names[code] for code in lanes.slices.name]
    session.select(SliceRef(key, names.index(facts.name)))
    assert kernel_facts(session) == facts


def test_a_tensor_shows_the_op_that_makes_it(session: Session) -> None:
    assert session.map is not None
    made = next(place for place in range(len(session.map)) if session.planned_op_of(TensorRef(place)) is not None)
    session.select(TensorRef(made))
    step = session.planned_op_of(session.selected)
    plan = session.document.plan
    assert plan is not None
    assert step is not None
    assert kernel_facts(session).name == plan.ops[step].name


def test_the_costliest_kernel_stands_where_nothing_is_selected(session: Session) -> None:
    """Went wrong once: the page of kernels opened empty."""
    session.select(None)
    facts, plan = kernel_facts(session), session.document.plan
    assert plan is not None
    assert facts.unasked
    assert facts.predicted_ns == max(op.duration_ns for op in plan.ops if op.launches)
    run = kernel_facts(open_session(Request(None, PROFILE)))
    assert run.unasked
    assert run.measured_ns is not None


def test_a_tensor_that_no_op_makes_is_no_kernel(session: Session) -> None:
    mapped = session.map
    assert mapped is not None
    index = next(index for index in range(len(mapped)) if session.planned_op_of(TensorRef(index)) is None)
    session.select(TensorRef(index))
    assert "Select an op" in str(kernel_facts(session).problem)


def test_an_op_that_launches_nothing_says_so(session: Session) -> None:
    plan = session.document.plan
    assert plan is not None
    session.select(OpRef(next(op.index for op in plan.ops if not op.launches)))
    facts = kernel_facts(session)
    assert "launches no kernel" in str(facts.problem)
    assert not facts.lanes


@pytest.mark.parametrize("kind", sorted({op.type for op in load_plan(PLAN).ops}))
def test_every_type_of_the_sample_has_facts_that_hold_together(session: Session, kind: str) -> None:
    facts = show_op(session, kind)
    assert (facts.problem is None) == bool(facts.lanes)
    for lane in facts.lanes:
        assert lane.peak == max((b.offset + b.size for b in lane.buffers), default=0)
    for pipe in facts.pipes:
        assert pipe.predicted_ns is not None or (pipe.measured_ns or 0) > 0


# -- without a plan, or with less of one ------------------------------------------------------------------------------


def test_without_a_plan_the_kernel_is_that_of_its_row(session: Session) -> None:
    alone = open_session(Request(None, PROFILE))
    key = device_row(alone)
    lanes = alone.tracks.lanes(alone.tracks.track(key))
    assert lanes is not None
    table = alone.document.rank.kernels() if alone.document.rank is not None else None
    assert table is not None
    row = next(row for row in range(len(table)) if table.type[row] == "MatMul")
    place = int(np.flatnonzero(lanes.slices.start_ns == table.start_ns[row])[0])
    alone.select(SliceRef(key, place))

    unknown = kernel_facts(alone)
    assert unknown.chip is None
    assert "does not name its chip" in str(unknown.problem)
    assert unknown.measured_ns == int(table.duration_ns[row])
    assert any(pipe.measured_ns for pipe in unknown.pipes)
    assert unknown.predicted_ns is None

    facts = kernel_facts(alone, "910B3")
    kernel = kernel_of_row(
        table.type[row], table.input_shapes[row], table.input_dtypes[row], table.output_shapes[row],
        table.output_dtypes[row], core=table.core[row],
    )  # fmt: skip
    assert facts.predicted_ns == kernel_cost(kernel, machine(chip("910B3"))).duration_ns
    assert facts.problem is None
    assert any("the profile's" in str(note) for note in facts.notes)
    assert "no such chip" in str(kernel_facts(alone, "no such chip").problem)


def older(plan: Plan) -> Plan:
    """`plan` as a file from before kernels were kept gives it."""
    ops = tuple(dataclasses.replace(op, kernel=None, hot_share=None) for op in plan.ops)
    return dataclasses.replace(plan, ops=ops, kernels=())


def test_an_older_plan_alone_shows_what_it_says_and_what_is_missing() -> None:
    session = Session(make_document(older(load_plan(PLAN))))
    facts = show_op(session, "MatMul")
    assert "plan the graph again" in str(facts.problem)
    assert facts.predicted_ns
    assert facts.bound
    assert "→" in facts.operands
    assert facts.traffic
    assert not facts.lanes


def test_an_older_plan_with_a_profile_takes_the_operands_of_the_row(session: Session) -> None:
    document = make_document(older(load_plan(PLAN)), session.document.profile)
    facts = show_op(Session(document), "MatMul")
    assert facts.problem is None
    assert facts.lanes
    assert any("the profile's" in str(note) for note in facts.notes)


def test_the_plan_of_another_planner_without_times_predicts_nothing() -> None:
    plan = older(layered_plan(3))
    ops = tuple(dataclasses.replace(op, bound=Bound.UNKNOWN, duration_ns=1) for op in plan.ops)
    plan = dataclasses.replace(plan, chip="unknown", ops=ops, timed=False)
    session = Session(make_document(plan))
    session.select(OpRef(0))
    facts = kernel_facts(session)
    assert facts.predicted_ns is None
    assert "does not hold what its ops launch" in str(facts.problem)


def test_a_chip_that_is_not_known_is_a_line() -> None:
    session = Session(make_document(dataclasses.replace(layered_plan(3), chip="Ascend000X")))
    session.select(OpRef(0))
    facts = kernel_facts(session)
    assert "Ascend000X" in str(facts.problem)
    assert facts.predicted_ns
    assert kernel_facts(session, "910B3").problem is None


@pytest.mark.parametrize("name", [item.name for item in chips()])
def test_a_kernel_has_its_roof_on_every_chip_of_the_database(name: str) -> None:
    """Went wrong once: where the chip's own rate was unknown, the kernel view raised instead."""
    plan = dataclasses.replace(load_plan(PLAN), chip=name)
    session = Session(make_document(plan))
    session.select(OpRef(of_type(plan, "MatMul")))
    facts = kernel_facts(session)
    assert facts.chip == name
    assert facts.roofline
    shown = plan_roofline(session.document)
    assert shown.bytes_per_second == chip(name).hbm_bytes_per_second
    basis = chip(name).hbm_basis
    assert str(shown.memory) == (f"HBM ({basis})" if basis else "HBM"), "an estimate is called one"


def test_an_op_type_without_a_rule_is_costed_but_not_laid_out() -> None:
    plan = layered_plan(3)
    strange = dataclasses.replace(plan.kernels[0], type="NobodyKnows")
    session = Session(make_document(dataclasses.replace(plan, kernels=(strange, *plan.kernels[1:]))))
    session.select(OpRef(0))
    facts = kernel_facts(session)
    assert "No tiling rule is known for NobodyKnows" in str(facts.problem)
    assert facts.pipes
    assert facts.traffic
    assert not facts.lanes
    assert not facts.tiling


def test_operands_beyond_reason_are_a_line_not_a_crash() -> None:
    plan = layered_plan(3)
    huge = dataclasses.replace(plan.kernels[0].outputs[0], shape=(2**40, 2**40))
    wide = dataclasses.replace(plan.kernels[0].outputs[0], shape=(0, 2**40))
    for operand in (huge, wide):
        kernel = dataclasses.replace(plan.kernels[0], inputs=(operand, operand), outputs=(operand,))
        session = Session(make_document(dataclasses.replace(plan, kernels=(kernel, *plan.kernels[1:]))))
        session.select(OpRef(0))
        assert kernel_facts(session).problem is not None


# -- counters and the sheet -------------------------------------------------------------------------------------------


def test_pipe_times_are_read_under_every_name_that_files_give_them() -> None:
    def column(value: float) -> Floats:
        return np.array([np.nan, value])

    both = {"aic_mac_time(us)": column(2.0), "aiv_vec_time(us)": column(3.0), "aiv_mte2_time(us)": column(4.0)}
    assert measured_pipes(both, 1) == {
        ("cube", "cube"): 2000.0, ("vector", "vector"): 3000.0, ("vector", "mte2"): 4000.0,
    }  # fmt: skip
    assert measured_pipes(both, 0) == {}
    shares = {"aicore_time(us)": column(10.0), "aic_mac_ratio": column(0.25)}
    assert measured_pipes(shares, 1) == {("cube", "cube"): 2500.0}
    single = {"mac_time(us)": column(1.0), "vec_time(us)": column(5.0)}
    assert measured_pipes(single, 1) == {("cube", "cube"): 1000.0, ("vector", "vector"): 5000.0}


def test_the_sheet_lists_pipes_and_buffers(session: Session) -> None:
    facts = show_op(session, "MatMul")
    rows = list(csv.DictReader(io.StringIO(kernel_sheet(facts).text())))
    assert [row["name"] for row in rows if row["part"] == "kernel"] == [facts.name]
    buffers = [row for row in rows if row["part"] == "buffer"]
    assert len(buffers) == sum(len(lane.buffers) for lane in facts.lanes)
    assert {row["memory"] for row in buffers} == {"L0A", "L0B", "L0C", "L1"}
    pipes = [row for row in rows if row["part"] == "pipe"]
    assert len(pipes) == len(facts.pipes)
    assert any(row["predicted_ns"] and row["measured_ns"] for row in pipes)
    assert kernel_sheet(KernelFacts()).rows == []


def test_a_real_profile_with_counters_is_shown(shared_data: Path) -> None:
    session = open_session(Request(None, shared_data / "profiles" / "alexnet-ddp-2rank" / "text" / "level2"))
    rank = session.document.rank
    assert rank is not None
    table = rank.kernels()
    assert table is not None
    shown = 0
    for track in session.tracks.all:
        if track.kind != TrackKind.STREAM.value:
            continue
        session.tracks.load(track)
        for place in range(track.count):
            session.select(SliceRef(track.key, place))
            facts = kernel_facts(session, "910B3")
            shown += bool(facts.lanes) and any(pipe.measured_ns for pipe in facts.pipes)
    assert shown > 100


def test_no_kernel_is_planned_above_its_roof(session: Session) -> None:
    """Went wrong once: the roof counted bytes that L2 serves as bytes of HBM, and kernels reached 360 % of it."""
    plan = session.document.plan
    assert plan is not None
    shares = []
    for kind in sorted({op.type for op in plan.ops if op.launches}):
        facts = show_op(session, kind)
        assert facts.predicted_ns is not None
        shares += [str(text.values[1]) for text in facts.roofline if text.text.startswith("predicted")]
    assert len(shares) > 10
    assert all(share.startswith("<") or float(share.strip("%")) <= 100 for share in shares)


def test_the_name_of_the_memory_keeps_off_the_points(session: Session) -> None:
    model = plan_roofline(session.document)
    alone = dataclasses.replace(
        model, intensity=model.intensity[:0], predicted=model.predicted[:0], measured=model.measured[:0]
    )
    low, high = 0.01, 100.0
    middle, level = alone.clear_place(low, high)
    assert middle == pytest.approx(0.0)
    assert model.bytes_per_second is not None
    assert level == pytest.approx(np.log10(model.bytes_per_second))
    under = dataclasses.replace(
        alone,
        intensity=np.array([0.9]),
        predicted=np.array([2.0 * model.bytes_per_second]),
        measured=np.array([np.nan]),
    )
    end, _ = under.clear_place(low, high)
    assert end != middle


def test_a_rank_without_a_track_is_not_asked_for_a_kernel(tmp_path: Path) -> None:
    """Went wrong: a job of which only sums are known said to select an op in a timeline that has none."""
    folder = tmp_path / "cluster_analysis_output"
    folder.mkdir()
    (folder / "cluster_step_trace_time.csv").write_text(
        "Step,Type,Index,Computing,Communication(Not Overlapped),Overlapped,Communication,Free,Stage,Bubble\n"
        "1,rank,0,10.0,2.0,1.0,3.0,1.0,13.0,0.0\n1,rank,1,11.0,1.0,1.0,2.0,1.0,13.0,0.0\n"
    )
    session = open_session(Request(None, tmp_path))
    assert session.document.rank is not None
    assert kernel_facts(session).problem == NO_TRACKS
    # An empty window is asked for nothing: there the page says how to begin.
    assert kernel_facts(open_session(Request())).problem is None
