"""Copies between host and device are read from a trace with their bytes; a plan takes its link's rates from them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.requests.plan_request import PlanRequest
from memplan.traces import open_profile
from memplan.traces.host_copies import host_copies

SIZES = (("host to device", 64 << 20, 3200.0), ("device to host", 8 << 20, 800.0), ("device to device", 1 << 20, 4.0))
SMALL = (("host to device ex", 256, 2.5), ("device to host", 1024, 2.5))
START_US = 1_736_412_474_000_000
TORCH_NPU, MSPROF = "rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/ascend_pytorch_profiler_0.db", "PROF_1/msprof_1.db"


def traced(folder: Path) -> Path:
    """A profile of one rank whose trace has one copy of each of `SIZES` and two small ones."""
    output = folder / "rank0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    events: list[dict[str, object]] = [
        {"name": "process_name", "ph": "M", "pid": 8, "tid": 0, "args": {"name": "Ascend Hardware"}},
        {"name": "process_labels", "ph": "M", "pid": 8, "tid": 0, "args": {"labels": "NPU"}},
        {"name": "thread_name", "ph": "M", "pid": 8, "tid": 2, "args": {"name": "Stream 2"}},
    ]
    for number, (direction, size, length) in enumerate((*SIZES, *SMALL)):
        arguments = {"Task Type": "PCIE_DMA_SQE", "data size(Byte)": size, "memcpy direction": direction}
        events.append(
            {"name": "MEMCPY_ASYNC", "ph": "X", "pid": 8, "tid": 2, "ts": f"{START_US + number * 10000}.125",
             "dur": length, "args": arguments}
        )  # fmt: skip
    (output / "trace_view.json").write_text(json.dumps(events))
    return folder / "rank0_ascend_pt"


def database(folder: Path, name: str, told: bool = True) -> Path:
    """The same copies as a profiler's database called `name`, after a kernel; sizes and directions where `told`."""
    path = folder / name
    path.parent.mkdir(parents=True)
    directions = ("host to host", "host to device", "device to host", "device to device", "host to device ex")
    tasks = [(direction, size, round(length * 1000)) for direction, size, length in (*SIZES, *SMALL)]
    with closing(sqlite3.connect(path)) as data, data:
        data.execute("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)")
        data.execute("INSERT INTO STRING_IDS VALUES (1, 'MEMCPY_ASYNC'), (2, 'AI_CORE')")
        data.execute(
            "CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, deviceId INTEGER, connectionId INTEGER,"
            " globalTaskId INTEGER, streamId INTEGER, taskType INTEGER)"
        )
        data.execute("INSERT INTO TASK VALUES (?, ?, 0, 1, 0, 2, 2)", (START_US * 1000, START_US * 1000 + 700))
        for number, (_, _, length) in enumerate(tasks):
            start = (START_US + (number + 1) * 10_000) * 1000
            data.execute("INSERT INTO TASK VALUES (?, ?, 0, 1, ?, 2, 1)", (start, start + length, number + 1))
        if told:
            data.execute("CREATE TABLE ENUM_MEMCPY_OPERATION (id INTEGER, name TEXT)")
            data.executemany("INSERT INTO ENUM_MEMCPY_OPERATION VALUES (?, ?)", enumerate(directions))
            data.execute("CREATE TABLE MEMCPY_INFO (globalTaskId INTEGER, size INTEGER, memcpyOperation INTEGER)")
            rows = [(number + 1, size, directions.index(way)) for number, (way, size, _) in enumerate(tasks)]
            data.executemany("INSERT INTO MEMCPY_INFO VALUES (?, ?, ?)", rows[::-1])
    return path.parent.parent if name == TORCH_NPU else path.parent


@pytest.fixture(params=["trace", TORCH_NPU, MSPROF])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A profile with one copy of each of `SIZES` and `SMALL`, in each of the forms that tell them."""
    return traced(tmp_path) if request.param == "trace" else database(tmp_path, request.param)


def test_copies_of_both_directions_are_found(copied: Path) -> None:
    profile = open_profile(copied)
    found = host_copies(profile.rank(profile.ranks[0]))
    assert sorted((copy.direction, copy.nbytes, copy.duration_ns) for copy in found) == [
        ("d2h", 1024, 2500.0),
        ("d2h", 8 << 20, 800_000.0),
        ("h2d", 256, 2500.0),
        ("h2d", 64 << 20, 3_200_000.0),
    ]


def test_a_plan_takes_its_link_from_them(copied: Path) -> None:
    tier = PlanRequest(Path("graph.mindir"), rates_from=str(copied)).host_tier(chip("910B3"))
    assert tier.in_link.bytes_per_second == pytest.approx((64 << 20) / 3_197_500 * 1e9)
    assert tier.out_link.bytes_per_second == pytest.approx((8 << 20) / 797_500 * 1e9)
    assert tier.in_link.latency_ns == 2500
    assert copied.name in tier.in_link.source


def test_a_database_that_tells_no_sizes_tells_no_rates(tmp_path: Path) -> None:
    folder = database(tmp_path, TORCH_NPU, told=False)
    with pytest.raises(InputError, match="copies between host and device"):
        PlanRequest(Path("graph.mindir"), rates_from=str(folder)).host_tier(chip("910B3"))


def test_a_copy_of_a_database_shows_its_size_and_direction(tmp_path: Path) -> None:
    rank = open_profile(database(tmp_path, MSPROF)).rank(0)
    (stream,) = (track for track in rank.tracks if track.thread == "Stream 2")
    kernel, copy = (rank.arguments(stream.id, (START_US + at) * 1000) for at in (0, 10_000))
    assert (copy["data size(Byte)"], copy["memcpy direction"]) == (64 << 20, "host to device")
    assert "data size(Byte)" not in kernel


def test_two_sources_of_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of them"):
        PlanRequest(Path("graph.mindir"), rates_from="a", link_rates="b").host_tier(chip("910B3"))


def test_a_real_trace_tells_its_one_large_copy(shared_data: Path) -> None:
    profile = open_profile(shared_data / "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt")
    found = host_copies(profile.rank(profile.ranks[0]))
    assert max(copy.nbytes for copy in found) == 19_267_584
    tier = PlanRequest(Path("graph.mindir"), rates_from=str(profile.path)).host_tier(chip("910B3"))
    assert tier.in_link.bytes_per_second == pytest.approx(23.3e9, rel=0.01)
