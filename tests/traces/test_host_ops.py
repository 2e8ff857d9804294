"""Runs on a host are profiles too: what MindSpore's CPU profiler and torch.profiler write becomes kernels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.traces.profile import Kernels


def host_kernels_of(path: Path) -> Kernels:
    kernels = memplan.open_profile(path).rank(0).kernels()
    assert kernels is not None
    return kernels


def write_mindspore(folder: Path, times: str, launches: str) -> Path:
    profile = folder / "vm_1_2026_ascend_ms"
    (profile / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    (profile / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").write_text("[]")
    (profile / "FRAMEWORK").mkdir()
    (profile / "FRAMEWORK" / "cpu_op_execute_timestamp_0.txt").write_text(times)
    (profile / "FRAMEWORK" / "cpu_framework_0.txt").write_text(launches)
    return profile


TIMES = (
    "Default/fc2-Dense/MatMul-op0;HostCpuOps;1000003000,0.25,0 1000013000,0.5,0 \n"
    "Default/ReLU-op0;HostCpuOps;1000002000,0.001,0 1000012000,0.002,0 \n"
)
LAUNCHES = (
    "ReLU;ReLU-op0;7;input_1:[32, 256];\n"
    "MatMul;MatMul-op0;7;input_1:[32, 256];input_2:[10, 256];input_3:NoShape;\n"
)  # fmt: skip


def test_mindspore_ops_on_a_cpu_are_kernels(tmp_path: Path) -> None:
    kernels = host_kernels_of(write_mindspore(tmp_path, TIMES, LAUNCHES * 2))
    assert list(kernels.type) == ["ReLU", "MatMul"] * 2
    assert list(kernels.name)[1] == "Default/fc2-Dense/MatMul-op0"
    assert list(kernels.input_shapes) == ["32,256", "32,256;10,256"] * 2
    assert kernels.start_ns.tolist() == [1000002000, 1000003000, 1000012000, 1000013000]
    assert kernels.duration_ns.tolist() == [1000, 250_000, 2000, 500_000]


@pytest.mark.parametrize("launches", ["", LAUNCHES, LAUNCHES.replace("ReLU-op0", "ReLU-op1") * 2])
def test_launches_that_are_not_those_timed_give_no_shapes(tmp_path: Path, launches: str) -> None:
    kernels = host_kernels_of(write_mindspore(tmp_path, TIMES, launches))
    assert list(kernels.type) == ["ReLU", "MatMul"] * 2
    assert set(kernels.input_shapes) == {"N/A"}


def test_damaged_times_are_left_out_and_told(tmp_path: Path) -> None:
    path = write_mindspore(tmp_path, TIMES + "Default/Mul-op0;HostCpuOps;soon,0.1,0 5,-1,0\n\x00;;\n", LAUNCHES * 2)
    profile = memplan.open_profile(path)
    assert len(profile.rank(0).kernels()) == 4
    assert any("2 runs of ops without a usable start" in note.text for note in profile.notes)


def op(name: str, start: float, duration: float, dims: Any = (), types: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "ph": "X", "cat": "cpu_op", "name": name, "pid": 7, "tid": 7, "ts": start, "dur": duration,
        "args": {"Input Dims": list(dims), "Input type": list(types)}, **more,
    }  # fmt: skip


def write_kineto(path: Path, events: list[dict[str, Any]]) -> Path:
    document = {"schemaVersion": 1, "deviceProperties": [], "traceEvents": events}
    data = json.dumps(document).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


EVENTS = [
    {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "args": {"name": "python"}},
    {"ph": "X", "cat": "user_annotation", "name": "layer", "pid": 7, "tid": 7, "ts": 5.0, "dur": 100.0, "args": {}},
    op("aten::linear", 10.0, 50.0),
    op("aten::t", 11.0, 3.0),
    op("aten::transpose", 11.5, 2.0),
    op("aten::addmm", 15.0, 40.0, [[4], [2, 3], [3, 4], []], ["float", "float", "float", "Scalar"]),
    op("aten::expand", 16.0, 1.0),
    op("aten::copy_", 18.0, 5.0, [[2, 4], [4], []], ["float", "float", "Scalar"]),
    op("aten::sum", 62.0, 10.0, [[2, 4]], ["c10::BFloat16"]),
    op("aten::fill_", 63.0, 2.0, [[2], []], ["c10::BFloat16", "Scalar"]),
    op("aten::to", 80.0, 8.0, [[2, 4]], ["float"]),
    op("aten::_to_copy", 81.0, 6.0, [[2, 4]], ["float"]),
    op("aten::copy_", 83.0, 3.0, [[2, 4], [2, 4]], ["c10::BFloat16", "float"]),
    op("aten::reshape", 90.0, 2.0),
    op("autograd::engine::evaluate_function: AddmmBackward0", 92.0, 6.0),
    op("aten::cat", 93.0, 4.0, [[[2, 4], [6, 4]], []], ["TensorList", "Scalar"]),
]


@pytest.mark.parametrize("name", ["worker.1.pt.trace.json", "worker.1.pt.trace.json.gz", "trace.json"])
def test_ops_that_work_are_kernels_with_their_own_time(tmp_path: Path, name: str) -> None:
    kernels = host_kernels_of(write_kineto(tmp_path / name, EVENTS))
    assert list(zip(kernels.type, kernels.start_ns.tolist(), kernels.duration_ns.tolist(), strict=True)) == [
        ("aten::addmm", 15_000, 35_000),
        ("aten::copy_", 18_000, 5_000),
        ("aten::sum", 62_000, 8_000),
        ("aten::fill_", 63_000, 2_000),
        ("aten::copy_", 83_000, 3_000),
        ("aten::cat", 93_000, 4_000),
    ]
    assert list(kernels.input_shapes) == ["4;2,3;3,4", "2,4;4", "2,4", "2", "2,4;2,4", "2,4;6,4"]
    assert kernels.input_dtypes[4] == "bfloat16;float32"


def test_a_folder_of_traces_is_a_profile(tmp_path: Path) -> None:
    write_kineto(tmp_path / "host_1.123.pt.trace.json", EVENTS)
    assert host_kernels_of(tmp_path).type[0] == "aten::addmm"


def test_a_run_on_a_device_has_its_kernels_there(tmp_path: Path) -> None:
    device = {"ph": "X", "cat": "kernel", "name": "sgemm", "pid": 0, "tid": 7, "ts": 20.0, "dur": 5.0, "args": {}}
    path = write_kineto(tmp_path / "trace.json", [*EVENTS, device])
    assert memplan.open_profile(path).rank(0).kernels() is None
