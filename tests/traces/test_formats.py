"""Every other producer: snapshots, msMemScope, MindSpore's own records, msprof, msopprof, services, clusters."""

from __future__ import annotations

import json
import pickle
import pickletools
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from memplan.core.errors import InputError
from memplan.core.units import KIB
from memplan.traces import open_profile
from memplan.traces.directory import Profile
from memplan.traces.profile import TrackKind
from memplan.traces.readers import plain_pickle
from memplan.traces.readers.plain_pickle import load_plain
from tests.traces.whole import read_whole

FIXED = "<i11QI4B"


def texts(profile: Profile) -> str:
    return "\n".join(f"{note.file}: {note.text}" for note in profile.notes)


# Memory snapshots


def test_other_threads_come_to_their_turn_while_a_pickle_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: the window stood still for a second for every 100 MB of a snapshot."""
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps([{"addr": number, "frames": [str(number)]} for number in range(100_000)]))
    turns, during, over = [0], [], threading.Event()

    def count() -> None:
        while not over.wait(0.0005):
            turns[0] += 1

    class Watched(plain_pickle._PlainUnpickler):
        def load(self) -> object:
            before = turns[0]
            value = super().load()
            during.append(turns[0] - before)
            return value

    monkeypatch.setattr(plain_pickle, "_PlainUnpickler", Watched)
    other = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    other.start()
    try:
        assert len(load_plain(path)) == 100_000
    finally:
        sys.setswitchinterval(interval)
        over.set()
        other.join()
    assert during[0] > 2


@pytest.mark.parametrize(
    "name",
    [
        "snapshot_1768383987920985470",
        "snapshot_expandable",
        "snapshot_with_empty_cache_expandable",
        "snapshot_with_multi_devices",
    ],
)  # fmt: skip
def test_real_snapshots_end_with_what_their_segments_hold(shared_data: Path, name: str) -> None:
    path = shared_data / f"snapshots/{name}.pkl"
    content = pickle.loads(path.read_bytes())  # trusted here: the reader under test must not do this
    assert load_plain(path) == content
    profile = open_profile(path)
    rank = profile.rank(0)
    for component in rank.memory_components():
        curve = rank.memory(component)
        assert curve is not None
        assert curve.allocated is not None
        assert curve.reserved is not None
        device = int(curve.device.removeprefix("NPU:"))
        segments = [segment for segment in content["segments"] if segment["device"] == device]
        assert curve.allocated[-1] == sum(segment["allocated_size"] for segment in segments)
        assert curve.reserved[-1] == sum(segment["total_size"] for segment in segments)
        assert (curve.allocated <= curve.reserved).all()
    allocations = rank.allocations()
    assert allocations is not None
    assert len(allocations) == sum(e["action"] == "alloc" for trace in content["device_traces"] for e in trace)
    assert "no times" in texts(profile)
    blocks = rank.table("blocks")
    assert len(blocks["address"]) == sum(len(segment["blocks"]) for segment in content["segments"])


def hostile(opcodes: bytes) -> bytes:
    return b"\x80\x04" + opcodes + b"."


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(print),
        pickle.dumps(Path("x")),
        b"cos\nsystem\n(S'touch /tmp/never'\ntR.",
        hostile(b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R"),
        hostile(b"]" * 2_000_000),
        hostile(b"\x8d" + struct.pack("<Q", 1 << 60)),
        hostile(b"\x8a\xff" + b"\xff" * 10),
        hostile(b"e"),
        hostile(b"K\x01r\xff\xff\xff\x7fh\x05"),
        b"\x80\x04I" + b"9" * 100_000 + b"\n.",
        hostile(b"r\xff\xff\xff\x7f"),
        hostile(b"}(" + b")" + b"\x85" * 400_000 + b"K\x01u"),  # a key that Python would hash by recursion
        hostile(b"(" + b"N" * 2_000_000 + b"t"),
        hostile(b"Q"),
        hostile(b"\x82\x01"),
        b"",
        b"\x80",
    ],
)
def test_pickles_that_are_more_than_data_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        open_profile(path).rank(0).memory_components()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_data_of_any_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    value = {
        "a": [1, -2, 70000, 2**40, -(2**70), 1.5, True, None, "text é", ("x", 1), (), [], {}],
        "b": {"c": (1, 2, 3, 4)},
    }
    value["again"] = value["a"]
    path = tmp_path / "value.pkl"
    data = pickle.dumps(value, protocol)
    path.write_bytes(data)
    needs = {opcode.name for opcode, _, _ in pickletools.genops(data)}
    if needs <= {"GLOBAL", "STACK_GLOBAL", "REDUCE"}:
        pytest.fail("this value should be plain")
    if protocol == 0:
        with pytest.raises(InputError):
            load_plain(path)  # the text protocol writes its strings in another way; no profiler uses it
    else:
        assert load_plain(path) == value


def test_a_pickle_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="no memory snapshot"):
        open_profile(path).rank(0).memory_components()


# msMemScope


def test_memscope_pairs_allocations_of_each_process_and_pool(shared_data: Path) -> None:
    profile = open_profile(shared_data / "memscope/compare/leaks.csv")
    rank = profile.rank(0)
    assert profile.producer == "msMemScope"
    allocations = rank.allocations()
    assert allocations is not None
    assert len(allocations) == 25, "20 of PTA and 5 of HAL"
    assert int((allocations.release_ns < 0).sum()) == 10, "15 are released"
    ops = [track for track in rank.tracks if track.kind is TrackKind.HOST]
    assert sum(track.count for track in ops) == 44


def test_memscope_totals_equal_those_that_the_dump_tells(shared_data: Path) -> None:
    import csv
    import re

    path = shared_data / "memscope/compare/leaks.csv"
    with path.open() as file:
        told = sorted(
            (int(row["Timestamp(ns)"]), int(re.search(r"used:(\d+)", row["Attr"])[1]))
            for row in csv.DictReader(file)
            if row["Event Type"] == "PTA"
        )
    curve = open_profile(path).rank(0).memory("PTA")
    assert curve is not None
    assert curve.allocated is not None
    first = told[0][1] - int(curve.allocated[0])  # in use before the dump began
    assert list(zip(curve.time_ns.tolist(), (curve.allocated + first).tolist(), strict=True)) == told


# msprof CLI


def test_msprof_metric_sets_keep_their_headers(shared_data: Path) -> None:
    base = shared_data / "profiles/msprof-cli-metric-sets"
    found = {}
    for path in base.rglob("op_summary_*.csv"):
        kernels = open_profile(path.parent.parent).rank(0).kernels()
        assert kernels is not None
        assert kernels.block_count.tolist()[:2] == [8, 40], "Block Num in place of Block Dim"
        assert kernels.input_shapes[0] == "512,16"
        assert kernels.start_ns[0] > 1787504000000000000
        found[path.parent.parent.parent.name] = set(kernels.pmu)
    assert "aic_main_mem_read_bw(GB/s)" in found["PROF_Memory"]
    assert "aic_l0a_read_bw(GB/s)" in found["PROF_MemoryL0"]
    assert "aiv_ub_read_bw_vector(GB/s)" in found["PROF_MemoryUB"]
    assert "aiv_r0_read_cache_hit" in found["PROF_L2Cache"]
    assert "aiv_vec_bank_cflt_ratio" in found["PROF_ResourceConflictRatio"]
    assert "aiv_vector_fops" in found["PROF_ArithmeticUtilization"]
    sample = open_profile(base / "PROF_GROUP_20260823_165254/PROF_Sample").rank(0)
    assert sample.table(sample.tables()[0])["Core ID"][0] == "Core0"


def test_msprof_memory_is_in_kb(tmp_path: Path) -> None:
    folder = tmp_path / "PROF_000001_20260101000000000_ABC" / "mindstudio_profiler_output"
    folder.mkdir(parents=True)
    (folder / "memory_record_20260101.csv").write_text(
        "Device_id,Component,Timestamp(us),Total Allocated(KB),Total Reserved(KB),Device\n"
        "0,GE,1.5\t,2048.5,4096,NPU:0\n"
    )
    (folder / "npu_module_mem_20260101.csv").write_text(
        "Device_id,Component,Timestamp(us),Total Reserved(KB),Device\n"
        "0,HCCL,2.000\t,100,NPU:0\n0,SLOG,2.000\t,-1,NPU:0\n"
    )
    (folder / "npu_mem_20260101.csv").write_text(
        "Device_id,event,ddr(KB),hbm(KB),memory(KB),timestamp(us)\n0,APP,0,2000,2000,3.000\t\n"
    )
    (folder / "operator_memory_slice_1_20260101.csv").write_text(
        "Device_id,Name,Size(KB),Allocation Time(us),Release Time(us),Duration(us)\n0,MatMul,1.5,4.000\t,5.000\t,1\n"
        "0,Add,-2,N/A,6.000\t,\n"
    )
    rank = open_profile(tmp_path).rank(0)
    record = rank.memory("GE")
    assert record is not None
    assert record.allocated is not None
    assert record.reserved is not None
    assert (record.time_ns[0], record.allocated[0], record.reserved[0]) == (1500, 2048 * KIB + KIB // 2, 4096 * KIB)
    for component, reserved in (("HCCL", 100 * KIB), ("APP", 2000 * KIB)):
        curve = rank.memory(component)
        assert curve is not None
        assert curve.reserved is not None
        assert curve.reserved[0] == reserved
    allocations = rank.allocations()
    assert allocations is not None
    assert sorted(allocations.size.tolist()) == [1536, 2048], "a negative size was allocated before the profile"
    assert allocations.allocation_ns.tolist() == [-1, 4000]


def test_raw_msprof_data_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "PROF_000001_20260101000000000_ABC" / "device_0" / "data"
    folder.mkdir(parents=True)
    (folder / "ai_core.slice_0").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="msprof --export=on"):
        open_profile(tmp_path)


# MindSpore


def test_the_2023_layout_of_mindspore(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/mindspore-alexnet-2023")
    rank = profile.rank(0)
    kinds = {track.kind for track in rank.tracks}
    assert kinds >= {TrackKind.CANN, TrackKind.STREAM, TrackKind.COMMUNICATION, TrackKind.OVERLAP, TrackKind.SCOPE}
    assert rank.span_ns[0] == 56635864386800, "microseconds since boot, as floats"
    overlap = rank.overlap()
    assert overlap is not None
    assert overlap.communication_ns >= overlap.communication_not_overlapped_ns > 0
    assert "hccl_0_2_1.json: not read: its events are in the full trace too" in texts(profile)


def test_mindspore_records_divide_kb_by_a_thousand(tmp_path: Path) -> None:
    output = tmp_path / "host_1_2_ascend_ms" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    (output / "memory_record.csv").write_text(
        "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Device Type\n"
        "MindSpore,1795304126305269.749,2.743500,1048.576,0.0,NPU:0\n"
    )
    (output / "operator_memory.csv").write_text(
        "Name,Size(KB),Allocation Time(us),Release Time(us),Active Release Time(us),Duration(us),Active Duration(us),"
        "Allocation Total Allocated(MB),Stream Ptr,Device Type\nMatMul,0.5,1.000,N/A,N/A,N/A,N/A,1,0,NPU:0\n"
    )
    profile = open_profile(tmp_path)
    curve = profile.rank(0).memory("MindSpore")
    assert profile.producer == "MindSpore"
    assert curve is not None
    assert curve.allocated is not None
    assert curve.reserved is not None
    assert curve.allocated[0] == 2_809_344, "bytes / 1024 / 1000"
    assert curve.reserved[0] == 2**30
    assert curve.time_ns[0] == 1795304126305269749
    allocations = profile.rank(0).allocations()
    assert allocations is not None
    assert (allocations.size[0], allocations.release_ns[0]) == (512, -1)


def test_mindspore_on_cpu_has_a_trace_with_text_durations_and_a_curve_in_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "host_1_2_ascend_ms"
    (folder / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    (folder / "FRAMEWORK").mkdir()
    (folder / "ASCEND_PROFILER_OUTPUT/trace_view.json").write_text(json.dumps([
        {"ph": "M", "name": "process_name", "pid": 2, "tid": 0, "args": {"name": "CPU OP"}},
        {"ph": "M", "name": "process_name", "pid": 3, "tid": 0, "args": {"name": "Scope Layer"}},
        {"ph": "X", "name": "MatMul", "pid": 2, "tid": 0, "ts": "1795304126305269.749", "dur": "12.5", "cat": "",
         "args": {"type": "HostCpuOps"}},
        {"ph": "X", "name": "net-Llama", "pid": 3, "tid": 0, "ts": "1795304126305269.749", "dur": "20", "cat": ""},
    ]))  # fmt: skip
    (folder / "FRAMEWORK/cpu_ms_memory_record_0.txt").write_text(
        "Timestamp(ns),Total Allocated(Byte),Total Reserved(Byte),Total Active(Byte)\n"
        "1795304126305269749,2809344,1073741824,0\n"
    )
    rank = open_profile(tmp_path).rank(0)
    assert [(track.kind, track.process) for track in rank.tracks] == [
        (TrackKind.HOST, "CPU OP"), (TrackKind.SCOPE, "Scope Layer"),
    ]  # fmt: skip
    assert rank.slices(0).duration_ns.tolist() == [12500]
    curve = rank.memory("MindSpore")
    assert curve is not None
    assert curve.allocated is not None
    assert (curve.time_ns[0], curve.allocated[0]) == (1795304126305269749, 2809344)


def usage_record(time: int, address: int, size: int | None, owner: str, persistent: int = 0) -> bytes:
    fixed = struct.pack(
        FIXED, 3, 11, 22, time, address, 2**64 - 1 if size is None else size, 1, 2, 3, 4, 5, 6, 0, 0, persistent, 0, 0
    )
    name = owner.encode()
    content = fixed + struct.pack("<HI", 13, len(name)) + name
    return struct.pack("<HI", 7, len(content)) + content


def test_mindspores_binary_memory_usage(tmp_path: Path) -> None:
    folder = tmp_path / "host_1_2_ascend_ms"
    (folder / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    (folder / "FRAMEWORK").mkdir()
    (folder / "ASCEND_PROFILER_OUTPUT/step_trace_time.csv").write_text("Step,Computing\n")
    data = (
        usage_record(100, 4096, 512, "weight", 1)
        + usage_record(200, 8192, 1024, "MatMul")
        + usage_record(300, 8192, None, "")
    )
    (folder / "FRAMEWORK/mindspore.memory_usage").write_bytes(data + usage_record(400, 1, 2, "x")[:-30])
    profile = open_profile(tmp_path)
    rank = profile.rank(0)
    allocations = rank.allocations()
    assert allocations is not None
    assert list(allocations.name) == ["weight", "MatMul"]
    assert allocations.release_ns.tolist() == [-1, 300]
    curve = rank.memory("MindSpore")
    assert curve is not None
    assert curve.allocated is not None
    assert curve.allocated.tolist() == [512, 1536, 512]
    assert "1 truncated record" in texts(profile)


def test_blocks_of_mindspores_memory_tracker(tmp_path: Path) -> None:
    folder = tmp_path / "rank_2"
    folder.mkdir()
    (folder / "memory_block.csv").write_text(
        "start_time_stamp,end_time_stamp,device_addr,stream_id,pool_type,size,actual_peak_memory,node_name,\n"
        "1,5,0x1,0,common,1024,1024,MatMul,\n2,3,0x2,0,common,512,1536,Add,\n4,,0x3,0,common,256,1536,Sub,\n"
    )
    profile = open_profile(tmp_path)
    assert profile.ranks == [2]
    curve = profile.rank(2).memory("MindSpore")
    assert curve is not None
    assert curve.allocated is not None
    assert curve.allocated.max() == 1536
    assert curve.allocated[-1] == 256
    assert "count tasks" in texts(profile)


# msopprof, services, clusters


def test_msopprof_metrics_are_tables(tmp_path: Path) -> None:
    folder = tmp_path / "OPPROF_20260101_ABC"
    folder.mkdir()
    (folder / "PipeUtilization.csv").write_text("block_id,sub_block_id,aic_time(us),\n0,cube0,23.1,\n1,cube0,12.0,\n")
    (folder / "visualize_data.bin").write_bytes(b"\1\2\3")
    profile = open_profile(tmp_path)
    read_whole(profile)
    assert profile.producer == "msopprof"
    assert profile.rank(0).table("PipeUtilization")["aic_time(us)"] == ["23.1", "12.0"]
    assert "visualize_data.bin: not read" in texts(profile)


def test_service_tables_give_kv_blocks_over_time(tmp_path: Path) -> None:
    (tmp_path / "kvcache.csv").write_text(
        "domain,rid,timestamp(ms),name,device_kvcache_left\nKVCache,1,1749451415160.5,Allocate,128\nKVCache,1,1749451415161,Free,129\n"
    )
    (tmp_path / "batch.csv").write_text(
        "name,res_list,start_time(ms),end_time(ms),batch_size\nmodelExec,[],1749451415160,1749451415162.25,4\n"
    )
    rank = open_profile(tmp_path).rank(0)
    (batches, blocks) = rank.tracks
    assert rank.slices(batches.id).duration_ns.tolist() == [2_250_000]
    (series,) = rank.counters(blocks.id)
    assert series.values.tolist() == [128, 129]
    assert series.time_ns.tolist()[0] == 1749451415160_500_000


def test_a_cluster_analysis_gives_the_steps_of_its_ranks(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/cluster-16rank")
    assert list(profile.ranks) == list(range(16))
    (step,) = profile.rank(1).steps()
    assert (step.step, step.computing_ns, step.communication_ns) == (2, 75_422_220, 158_433_000)
    assert "only their steps, links and communications are known" in texts(profile)


def test_links_between_ranks(shared_data: Path) -> None:
    rank = open_profile(shared_data / "profiles/qwen3-0.6b-train-4rank").rank(0)
    use = next(use for use in rank.links() if use.op.startswith("batchsendrecv-top1") and use.target == 1)
    assert (use.step, use.transport, use.size, use.duration_ns) == (13, "HCCS", 8_388_608, 400_700)
    assert use.bytes_per_second == pytest.approx(20.9349e9)


# Tables that are out of order


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_tables_with_marks_tabs_and_odd_rows(tmp_path: Path, ending: str, mark: str) -> None:
    lines = [
        "Step Id,Name,Type,Start Time(us),Duration(us),Block Dim,aiv_vec_ratio,",
        '1,MatMul,MatMul,"1764246877074017.600\t",12.5\t,20,0.5,',
        "1,Add,Add,1764246877074017.601\t,1e1,40,N/A,",
        "1,Broken,Broken",
        "1,Long,Long,1764246877074017.602,1,8,0.25,,extra",
        "",
    ]
    (tmp_path / "kernel_details.csv").write_bytes(
        (mark + ending.join(lines)).encode() + b"1,\xff\xfe,T,1764246877074017.599,1,1,1\n"
    )
    profile = open_profile(tmp_path)
    kernels = profile.rank(0).kernels()
    assert kernels is not None
    assert kernels.start_ns.tolist() == [
        1764246877074017599,
        1764246877074017600,
        1764246877074017601,
        1764246877074017602,
    ]
    assert kernels.duration_ns.tolist() == [1000, 12500, 10000, 1000]
    assert np.isnan(kernels.pmu["aiv_vec_ratio"][2])
    assert "don't match the" in texts(profile)
    assert "not UTF-8" in texts(profile)


def test_large_and_small_tables_read_alike(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memplan.traces.tables import csv_table

    folder = shared_data / "profiles/qwen3-0.6b-train-4rank/rank_0_ascend_pt"
    small = open_profile(folder).rank(0)
    small_kernels, small_curve, small_blocks = small.kernels(), small.memory("PTA"), small.allocations()
    monkeypatch.setattr(csv_table, "_LARGE", 1000)
    large = open_profile(folder).rank(0)
    kernels, curve, blocks = large.kernels(), large.memory("PTA"), large.allocations()
    assert small_kernels is not None
    assert kernels is not None
    for name in ("start_ns", "duration_ns", "wait_ns", "step", "stream", "block_count"):
        assert np.array_equal(getattr(kernels, name), getattr(small_kernels, name)), name
    for name in ("name", "type", "core", "input_shapes", "input_dtypes", "output_shapes", "output_dtypes"):
        assert list(getattr(kernels, name)) == list(getattr(small_kernels, name)), name
    assert set(kernels.pmu) == set(small_kernels.pmu)
    for header, values in kernels.pmu.items():
        assert np.array_equal(values, small_kernels.pmu[header], equal_nan=True), header
    assert curve is not None
    assert small_curve is not None
    assert np.array_equal(curve.time_ns, small_curve.time_ns)
    assert curve.allocated is not None
    assert small_curve.allocated is not None
    assert np.array_equal(curve.allocated, small_curve.allocated)
    assert blocks is not None
    assert small_blocks is not None
    for name in ("size", "allocation_ns", "release_ns"):
        assert np.array_equal(getattr(blocks, name), getattr(small_blocks, name)), name
    assert list(blocks.name) == list(small_blocks.name)
    assert small.top_ops(5) == large.top_ops(5)
