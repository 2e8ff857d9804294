"""The real AlexNet and Qwen3 profiles: what the reader makes of them, against the vendor's own sums."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from memplan.core.errors import InputError
from memplan.core.units import MIB
from memplan.traces import open_profile
from memplan.traces.profile import TrackKind
from tests.traces.whole import read_whole

ALEXNET = "profiles/alexnet-ddp-2rank/text"


@pytest.mark.parametrize("level", ["level0", "level2"])
@pytest.mark.parametrize("rank", [0, 1])
def test_overlap_totals_equal_the_vendors_step_summary(shared_data: Path, level: str, rank: int) -> None:
    profile = open_profile(shared_data / ALEXNET / level)
    overlap = profile.rank(rank).overlap()
    (step,) = profile.rank(rank).steps()
    assert overlap is not None
    assert abs(overlap.computing_ns - step.computing_ns) <= 100
    assert abs(overlap.communication_ns - step.communication_ns) <= 100
    assert abs(overlap.communication_not_overlapped_ns - step.communication_not_overlapped_ns) <= 100
    assert abs(overlap.free_ns - step.free_ns) <= 100


def test_step_times_are_those_of_the_file(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2/rank0_ascend_pt").rank(0)
    lines = (shared_data / ALEXNET / "level2/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/step_trace_time.csv").read_text()
    fields = lines.splitlines()[1].split(",")
    (step,) = rank.steps()
    assert step.step == int(fields[0])
    assert step.computing_ns == round(Decimal(fields[1]) * 1000)
    assert step.free_ns == round(Decimal(fields[5]) * 1000)


def test_kernels_keep_every_nanosecond(shared_data: Path) -> None:
    kernels = open_profile(shared_data / ALEXNET / "level2").rank(0).kernels()
    assert kernels is not None
    assert kernels.start_ns[0] == 1736412474730135222
    assert kernels.duration_ns[0] == 55161
    assert kernels.name[0] == "trans_TransData_0"
    assert kernels.input_shapes[0] == "32,3,224,224"
    assert kernels.block_count[0] == 32
    assert kernels.pmu["aiv_vec_ratio"][0] == 0.188
    assert (np.diff(kernels.start_ns) >= 0).all()
    communication = [row for row in range(len(kernels)) if kernels.type[row] == "hcom_allReduce_"]
    assert len(communication) == 4
    assert all(np.isnan(kernels.pmu["aiv_vec_ratio"][row]) for row in communication)
    assert all(kernels.stream[row] == -1 for row in communication)


def test_level0_kernels_have_no_types(shared_data: Path) -> None:
    kernels = open_profile(shared_data / ALEXNET / "level0").rank(0).kernels()
    assert kernels is not None
    assert set(kernels.type) == {"N/A"}
    assert kernels.pmu == {}


def test_top_ops_agree_with_the_vendors_op_statistic(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    statistic = rank.table("op_statistic")
    found = {op.type: op for op in rank.top_ops(1000)}
    rows = list(zip(statistic["OP Type"], statistic["Count"], statistic["Total Time(us)"], strict=True))
    assert len(rows) > 30
    for kind, count, total in rows:
        assert found[kind].count == int(count)
        rounding = int(count) // 2 + 1  # each duration in kernel_details.csv is rounded to a nanosecond
        assert abs(found[kind].total_ns - Decimal(total) * 1000) <= rounding


def test_tracks_are_told_by_process_name(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    kinds = {(track.process, track.kind) for track in rank.tracks}
    assert kinds >= {
        ("Python", TrackKind.HOST),
        ("CANN", TrackKind.CANN),
        ("Ascend Hardware", TrackKind.STREAM),
        ("HCCL", TrackKind.COMMUNICATION),
        ("Overlap Analysis", TrackKind.OVERLAP),
        ("HBM", TrackKind.COUNTER),
    }
    assert [track.id for track in rank.tracks] == list(range(len(rank.tracks)))
    assert sum(track.count for track in rank.tracks if track.kind is not TrackKind.COUNTER) == 4811


def test_a_process_without_a_name_is_told_by_its_slices(tmp_path: Path) -> None:
    event = '{"ph": "X", "name": "AscendCL@aclrtMalloc", "pid": 77, "tid": 1, "ts": "5.000", "dur": 1}'
    (tmp_path / "trace_view.json").write_text(f"[{event}]")
    (track,) = open_profile(tmp_path).rank(0).tracks
    assert (track.kind, track.process) == (TrackKind.CANN, "CANN")


def test_device_slices_carry_their_op_type(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    stream = max((track for track in rank.tracks if track.kind is TrackKind.STREAM), key=lambda track: track.count)
    kernels = rank.kernels()
    assert kernels is not None
    types = dict(zip(kernels.name, kernels.type, strict=True))
    stream = next(track for track in rank.tracks if track.thread == "Stream 2")
    slices = rank.slices(stream.id)
    named = [(slices.names[n], slices.categories[c]) for n, c in zip(slices.name, slices.category, strict=True)]
    assert sum(name in types for name, _ in named) > 150
    assert all(category == types[name] for name, category in named if name in types)


def test_slices_of_a_window_are_those_that_overlap_it(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    for track in rank.tracks:
        if track.kind is TrackKind.COUNTER or not track.count:
            continue
        everything = rank.slices(track.id)
        ends = everything.start_ns + everything.duration_ns
        first, last = int(everything.start_ns[0]), int(ends.max())
        t0, t1 = first + (last - first) // 3, first + (last - first) // 2
        wanted = (everything.start_ns < t1) & ((ends > t0) | (everything.start_ns >= t0))
        found = rank.slices(track.id, t0, t1)
        assert found.start_ns.tolist() == everything.start_ns[wanted].tolist()
        assert found.name.tolist() == everything.name[wanted].tolist()


def test_flows_lead_from_host_to_kernel(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    stream = next(track for track in rank.tracks if track.thread == "Stream 2")
    slices = rank.slices(stream.id)
    row = next(row for row in range(len(slices)) if slices.names[slices.name[row]] == "trans_TransData_1")
    flows = rank.flows(stream.id, int(slices.start_ns[row]))
    by_category = {flow.category: flow for flow in flows}
    assert set(by_category) == {"HostToDevice", "async_npu"}
    assert all(flow.target_track == stream.id and flow.source_ns < flow.target_ns for flow in flows)
    assert rank.tracks[by_category["HostToDevice"].source_track].kind is TrackKind.CANN
    assert rank.tracks[by_category["async_npu"].source_track].process == "Python"
    assert slices.categories[slices.category[row]] == "TransData"
    assert rank.arguments(stream.id, int(slices.start_ns[row]))["Task Type"] == "AI_CORE"


def test_counters_have_units(shared_data: Path) -> None:
    rank = open_profile(shared_data / ALEXNET / "level2").rank(0)
    by_label = {track.label: rank.counters(track.id) for track in rank.tracks if track.kind is TrackKind.COUNTER}
    (read,) = by_label["HBM / HBM 0/Read"]
    assert (read.name, read.unit, len(read.values)) == ("Read", "MB/s", 13)
    (frequency,) = by_label["AI Core Freq / AI Core Freq"]
    assert (frequency.unit, frequency.values.max()) == ("MHz", 1800)
    assert len(by_label["Acc PMU / read_bandwidth"]) > 1, "one series for each accelerator"


def test_qwen3_memory_is_in_bytes(shared_data: Path) -> None:
    rank = open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank").rank(0)
    allocator = rank.memory("PTA")
    assert allocator is not None
    assert allocator.allocated is not None
    assert allocator.reserved is not None
    assert allocator.allocated.max() == round(10282.7490234375 * MIB)
    assert allocator.reserved.max() == 10372 * MIB
    process = rank.memory("APP")
    assert process is not None
    assert process.reserved is not None
    assert process.allocated is None
    assert process.reserved.max() == round(11925.015625 * MIB)
    hccl = rank.memory("HCCL")
    assert hccl is not None
    assert hccl.reserved is not None


def test_qwen3_allocations(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank")
    allocations = profile.rank(0).allocations()
    assert allocations is not None
    assert allocations.size[0] == 512
    assert allocations.allocation_ns[0] == 1764246877074330300
    assert allocations.release_ns[0] == 1764246877750204070
    assert int((allocations.release_ns < 0).sum()) == 1
    assert profile.ranks == [0, 1, 3]
    assert profile.rank(3).device == "NPU:5", "the rank's number is not its device's"
    assert profile.rank(3).kernels() is None


def test_ranks_come_from_any_level_of_the_directory(shared_data: Path) -> None:
    output = shared_data / ALEXNET / "level2/rank1_ascend_pt/ASCEND_PROFILER_OUTPUT"
    assert open_profile(output).ranks == [1]
    assert open_profile(output.parent).ranks == [1]
    assert open_profile(output.parent.parent).ranks == [0, 1]
    with pytest.raises(InputError, match="two profiles of rank 0"):
        open_profile(shared_data / ALEXNET)


def test_a_ragged_row_is_repaired_and_noted(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/gpt3-2023-handcut")
    read_whole(profile)
    texts = [f"{note.file}: {note.text}" for note in profile.notes]
    assert any("kernel_details.csv" in text and "line 17" in text for text in texts)
    assert any("memory_record.csv" in text and "exponent" in text for text in texts)


def test_a_folder_without_a_profile_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="no CANN profile here") as error:
        open_profile(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        open_profile(tmp_path / "absent")


def test_simulated_profiles_say_so(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "rank0_ascend_pt"
    (folder / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    (folder / "ASCEND_PROFILER_OUTPUT/step_trace_time.csv").write_text("Step,Computing\n")
    assert not open_profile(folder).simulated
    (folder / "profiler_metadata.json").write_text('{"memplan_simulated": true}')
    assert open_profile(folder).simulated
    assert not open_profile(shared_data / ALEXNET / "level2").simulated
