"""One process that drives several devices leaves one folder for all: each device is a rank, nothing is added up."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.traces import open_profile
from memplan.traces.directory import Profile
from memplan.traces.profile import TrackKind

BEGIN_US = 1_760_000_000_000_000
PROF = "PROF_000001_20250101000000000_ABCDEFGHIJ"
DEVICES = st.dictionaries(st.integers(0, 15), st.integers(1, 5), min_size=1, max_size=5)
"""How many kernels each device ran."""


def texts(profile: Profile) -> str:
    return "\n".join(f"{note.file}: {note.text}" for note in profile.notes)


def kernel_counts(profile: Profile) -> dict[str, int]:
    """Kernels by device, each of which is a rank."""
    ranks = [profile.rank(number) for number in profile.ranks]
    return {rank.device: len(rank.kernels() or ()) for rank in ranks}


@settings(max_examples=40)
@given(counts=DEVICES, order=st.randoms(use_true_random=False), mixed=st.booleans(), folders=st.booleans())
def test_kernels_of_each_device_are_those_of_a_rank(
    counts: dict[int, int], order: Random, mixed: bool, folders: bool
) -> None:
    rows = [
        f"{device},M{device}_{number},MatMulV2,{BEGIN_US + 100 * number}.000,{device + 1}.000"
        for device, count in counts.items()
        for number in range(count)
    ]
    if mixed:
        order.shuffle(rows)
    with TemporaryDirectory() as folder:
        output = Path(folder) / PROF / "mindstudio_profiler_output"
        output.mkdir(parents=True)
        header = "Device_id,Op Name,OP Type,Task Start Time(us),Task Duration(us)"
        (output / "op_summary_20250101000000.csv").write_text("\n".join((header, *rows, "")))
        steps = [f"{device},1,{device + 1},0,0,0,5" for device in counts]
        header = "Device_id,Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free"
        (output / "step_trace_time.csv").write_text("\n".join((header, *steps, "")))
        for device in counts if folders else ():
            (output.parent / f"device_{device}").mkdir()
            (output.parent / f"device_{device}/info.json.{device}").write_text(json.dumps({"rank_id": -1}))
        profile = open_profile(folder)
        assert profile.ranks == list(range(len(counts)))
        assert kernel_counts(profile) == {f"NPU:{device}": count for device, count in counts.items()}
        for rank, device in zip(profile.ranks, sorted(counts), strict=True):
            kernels = profile.rank(rank).kernels()
            assert kernels is not None
            assert set(kernels.duration_ns.tolist()) == {1000 * (device + 1)}
            assert [step.computing_ns for step in profile.rank(rank).steps()] == [1000 * (device + 1)]
        assert (f"holds {len(counts)} devices" in texts(profile)) == (len(counts) > 1)


@pytest.mark.parametrize("place", [0, 20, 39])
@pytest.mark.parametrize("name", ["MatMul", '"Mat,Mul"', '"Mat\n1,Mul"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_one_row_of_another_device_is_found_among_many_alike(tmp_path: Path, place: int, name: str, end: str) -> None:
    rows = [f"{name},{int(row == place)},{BEGIN_US + row}.000,1.000" for row in range(40)]
    header = "Op Name,Device_id,Task Start Time(us),Task Duration(us)"
    (tmp_path / "op_summary_20250101000000.csv").write_text((end or "\n").join((header, *rows)) + end, newline="")
    assert kernel_counts(open_profile(tmp_path)) == {"NPU:0": 39, "NPU:1": 1}


def write_database(path: Path, counts: dict[int, int], communicating: bool) -> None:
    """Kernels of as many us as the device's number and one; one communication a device if `communicating`."""
    with closing(sqlite3.connect(path)) as data, data:
        data.execute("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)")
        data.execute("INSERT INTO STRING_IDS VALUES (1, 'MatMul'), (2, 'MatMulV2'), (3, 'allReduce'), (4, 'PTA')")
        data.execute("CREATE TABLE NPU_INFO (id INTEGER, name TEXT)")
        data.execute("CREATE TABLE COMPUTE_TASK_INFO (globalTaskId INTEGER, name INTEGER, opType INTEGER)")
        data.execute("CREATE TABLE COMMUNICATION_TASK_INFO (globalTaskId INTEGER, opId INTEGER, planeId INTEGER)")
        data.execute("CREATE TABLE COMMUNICATION_OP (opId INTEGER, opName INTEGER, startNs INTEGER, endNs INTEGER)")
        data.execute(
            "CREATE TABLE TASK (globalTaskId INTEGER, deviceId INTEGER, startNs INTEGER, endNs INTEGER,"
            " streamId INTEGER)"
        )
        data.execute(
            "CREATE TABLE MEMORY_RECORD (component INTEGER, timestamp INTEGER, totalReserved INTEGER, deviceId INTEGER)"
        )
        task = 0
        for device, count in counts.items():
            data.execute("INSERT INTO NPU_INFO VALUES (?, ?)", (device, f"Chip{device}"))
            data.execute("INSERT INTO MEMORY_RECORD VALUES (4, ?, ?, ?)", (BEGIN_US * 1000, device + 1, device))
            for number in range(count + communicating):
                start = (BEGIN_US + 100 * number) * 1000
                end = start + 1000 * (device + 1)
                data.execute("INSERT INTO TASK VALUES (?, ?, ?, ?, 3)", (task, device, start, end))
                if number < count:
                    data.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (?, 1, 2)", (task,))
                else:
                    data.execute("INSERT INTO COMMUNICATION_TASK_INFO VALUES (?, ?, 0)", (task, device))
                    data.execute("INSERT INTO COMMUNICATION_OP VALUES (?, 3, ?, ?)", (device, start, end))
                task += 1


@settings(max_examples=25)
@given(counts=DEVICES, communicating=st.booleans(), names=st.booleans())
def test_tasks_of_each_device_of_a_database_are_those_of_a_rank(
    counts: dict[int, int], communicating: bool, names: bool
) -> None:
    with TemporaryDirectory() as folder:
        output = Path(folder) / "ASCEND_PROFILER_OUTPUT"
        output.mkdir()
        write_database(
            output / ("msprof_20250101000000.db" if names else "ascend_pytorch_profiler.db"), counts, communicating
        )
        profile = open_profile(folder)
        assert kernel_counts(profile) == {f"NPU:{device}": count + communicating for device, count in counts.items()}
        for number, device in zip(profile.ranks, sorted(counts), strict=True):
            rank = profile.rank(number)
            kernels, curve = rank.kernels(), rank.memory("PTA")
            assert kernels is not None
            assert curve is not None
            assert curve.reserved is not None
            assert set(kernels.duration_ns.tolist()) == {1000 * (device + 1)}
            assert curve.reserved.tolist() == [device + 1]
            assert rank.chip == f"Chip{device}"
            on_streams = sum(track.count for track in rank.tracks if track.kind is TrackKind.STREAM)
            assert on_streams == counts[device] + communicating
        assert "skipped" not in texts(profile), "rows of another device are not missing"


def test_steps_of_each_device_in_an_analysis_are_those_of_a_rank(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "analysis.db")) as data, data:
        data.execute(
            "CREATE TABLE StepTraceTime (deviceId INTEGER, step TEXT, computing REAL,"
            " communication_not_overlapped REAL, overlapped REAL, communication REAL, free REAL)"
        )
        for device in (4, 0, 2):
            data.execute("INSERT INTO StepTraceTime VALUES (?, '', ?, 0, 0, 0, 50)", (device, device + 1))
    profile = open_profile(tmp_path)
    steps = {profile.rank(rank).device: profile.rank(rank).steps() for rank in profile.ranks}
    assert {device: [step.computing_ns for step in of_device] for device, of_device in steps.items()} == {
        "NPU:0": [1000], "NPU:2": [3000], "NPU:4": [5000],
    }  # fmt: skip


@pytest.mark.parametrize("large", [False, True])
def test_a_trace_of_several_devices_is_told_apart_by_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    output = tmp_path / PROF / "mindstudio_profiler_output"
    output.mkdir(parents=True)
    events: list[dict[str, object]] = []
    for device in (0, 3):
        (output.parent / f"device_{device}").mkdir()
        (output.parent / f"device_{device}/info.json.{device}").write_text("{}")
        process = (77 << 10) | (13 << 5) | device
        events += [
            {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": "Ascend Hardware"}},
            {"ph": "M", "name": "process_labels", "pid": process, "tid": 0, "args": {"labels": "NPU"}},
            {"ph": "M", "name": "thread_name", "pid": process, "tid": 2, "args": {"name": "Stream 2"}},
            {"ph": "X", "name": f"k{device}", "pid": process, "tid": 2, "ts": BEGIN_US + device, "dur": 5, "args": {}},
        ]
    events += [
        {"ph": "M", "name": "process_labels", "pid": 77 << 10, "tid": 0, "args": {"labels": "CPU"}},
        {"ph": "X", "name": "launch", "pid": 77 << 10, "tid": 9, "ts": BEGIN_US, "dur": 5, "args": {}},
    ]
    (output / "msprof_20250101000000.json").write_text(json.dumps(events))
    if large:
        monkeypatch.setattr("memplan.traces.readers.trace_file.SMALL", 10)
    profile = open_profile(tmp_path, cache=tmp_path / "cache")
    for number, device in zip(profile.ranks, (0, 3), strict=True):
        rank = profile.rank(number)
        slices = [rank.slices(track.id) for track in rank.tracks]
        assert {one.names[name] for one in slices for name in one.name} == {"launch", f"k{device}"}


def test_folders_of_devices_keep_their_own_files(tmp_path: Path) -> None:
    for device, told in ((1, 5), (2, 9)):
        folder = tmp_path / PROF / f"device_{device}"
        (folder / "summary").mkdir(parents=True)
        (folder / f"info.json.{device}").write_text(json.dumps({"rank_id": told, "devices": str(device)}))
        header = "Op Name,OP Type,Task Start Time(us),Task Duration(us)"
        row = f"m,MatMulV2,{BEGIN_US},{device}"
        (folder / f"summary/op_summary_{device}_1.csv").write_text(f"{header}\n{row}\n")
    profile = open_profile(tmp_path)
    assert profile.ranks == [5, 9], "the ranks that the devices' own files tell"
    assert kernel_counts(profile) == {"NPU:1": 1, "NPU:2": 1}


def test_a_device_that_files_number_in_two_ways_is_one(tmp_path: Path) -> None:
    write_database(tmp_path / "ascend_pytorch_profiler_4.db", {0: 3}, False)
    with closing(sqlite3.connect(tmp_path / "analysis.db")) as data, data:
        data.execute("CREATE TABLE StepTraceTime (deviceId INTEGER, computing REAL)")
        data.execute("INSERT INTO StepTraceTime VALUES (4, 1.0)")
    assert kernel_counts(open_profile(tmp_path)) == {"NPU:0": 3}
    assert open_profile(tmp_path).ranks == [4]
