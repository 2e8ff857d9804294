"""Profiles of memory alone (snapshots, msMemScope, MindSpore's records) are joined to a plan's tensors too."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.compare import compare
from memplan.core.errors import InputError
from memplan.schema import Plan
from memplan.simulator import Behaviour, simulate
from memplan.traces.profile import Allocations
from tests.align.simulated_runs import model_plans

NAME = "qwen3 PP2 DP2"
DUMP = "ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr"
RECORD = "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Device Type"


@pytest.fixture(scope="module")
def plan(shared_data: Path) -> Plan:
    return model_plans(shared_data / "configs")[NAME]


@pytest.fixture(scope="module")
def blocks(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Allocations:
    folder = simulate(plan, tmp_path_factory.mktemp("run") / "run", behaviour=Behaviour(hidden_names=True), seed=8)
    found = memplan.open_profile(folder).rank(0).allocations()
    assert found is not None
    return found


def events(blocks: Allocations) -> list[tuple[int, int, int, int]]:
    """`(time, 1 for an allocation and 0 for a release, address, size)` in order of time."""
    rows = []
    columns = zip(blocks.allocation_ns.tolist(), blocks.release_ns.tolist(), blocks.size.tolist(), strict=True)
    for row, (made, freed, size) in enumerate(columns):
        rows.append((made, 1, (row + 1) << 32, size))
        if freed >= 0:
            rows.append((freed, 0, (row + 1) << 32, size))
    return sorted(rows)


def snapshot(blocks: Allocations, before: int, folder: Path) -> Path:
    trace: list[dict[str, Any]] = [
        {"action": "alloc" if made else "free_completed", "addr": address, "size": size, "stream": 0,
         "time_us": time // 1000, "frames": []}
        for time, made, address, size in events(blocks)
    ]  # fmt: skip
    live = int(blocks.size[blocks.release_ns < 0].sum()) + before
    segment = {"device": 0, "address": 1, "total_size": live, "allocated_size": live, "active_size": live, "blocks": []}
    path = folder / "snapshot.pickle"
    path.write_bytes(pickle.dumps({"segments": [segment], "device_traces": [trace]}))
    return path


def memscope(blocks: Allocations, before: int, folder: Path) -> Path:
    path = folder / "memscope_dump_20260101000000.csv"
    header = (
        "ID",
        "Event",
        "Event Type",
        "Name",
        "Timestamp(ns)",
        "Process Id",
        "Thread Id",
        "Device Id",
        "Ptr",
        "Attr",
    )
    first = int(blocks.allocation_ns[0]) - 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*header, "Call Stack(Python)", "Call Stack(C)"))
        # The driver's own segments stand beside the framework's blocks and are none of them.
        rows = [(first, 1, 7, before, "PTA"), (first, 1, 9, before + 2**30, "HAL")]
        rows += [(time, made, address, size, "PTA") for time, made, address, size in events(blocks)]
        for number, (time, made, address, size, pool) in enumerate(rows):
            attributes = f"{{addr:{address},size:{size},owner:,MID:7}}"
            kind = "MALLOC" if made else "FREE"
            writer.writerow((number, kind, pool, "N/A", time, 1, 1, 0, hex(address), attributes, "", ""))
    return path


@pytest.mark.parametrize("write", [snapshot, memscope])
def test_a_dump_of_memory_alone_is_joined(
    plan: Plan, blocks: Allocations, tmp_path: Path, write: Callable[[Allocations, int, Path], Path]
) -> None:
    standing = sum(tensor.nbytes for tensor in plan.tensors if tensor.persistent or tensor.kind == "gradient")
    path = write(blocks, standing, tmp_path)
    found = compare(plan, memplan.open_profile(path))
    assert found.holders is not None
    assert found.holders.explained >= 0.97 * found.holders.measured
    assert "the profile holds no kernels: memory alone is compared" in found.notes
    assert found.memory is not None
    assert found.memory.component == "PTA"
    assert not any("makespan" in str(reason) or "planned ops" in str(reason) for reason in found.reasons)


def test_memory_of_another_model_is_not_explained(shared_data: Path, plan: Plan, tmp_path: Path) -> None:
    other = model_plans(shared_data / "configs")["llama recomputed"]
    folder = simulate(other, tmp_path / "run", behaviour=Behaviour(hidden_names=True), seed=8)
    blocks = memplan.open_profile(folder).rank(0).allocations()
    assert blocks is not None
    found = compare(plan, memplan.open_profile(snapshot(blocks, 0, tmp_path)))
    assert found.holders is None
    assert found.deviates


def test_mindspores_records_name_their_ops(plan: Plan, tmp_path: Path) -> None:
    """MindSpore names kernels and blocks by the graph; its memory_record counts MB of 1000 KB."""
    folder = simulate(plan, tmp_path / "run", behaviour=Behaviour(late_free_share=0.0), seed=2)
    output = folder / "ASCEND_PROFILER_OUTPUT"
    record = output / "memory_record.csv"
    with record.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with record.open("w", encoding="utf-8", newline="") as file:
        header = (
            "Component",
            "Timestamp(us)",
            "Total Allocated(MB)",
            "Total Reserved(MB)",
            "Total Active(MB)",
            "Device Type",
        )
        writer = csv.DictWriter(file, header, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            for key in header[2:5]:
                if row[key] not in ("", "0"):
                    row[key] = str(float(row[key]) * 1024 / 1000)
            writer.writerow(row | {"Component": row["Component"].replace("PTA", "MindSpore")})
    info = folder / "profiler_info_0.json"
    info.write_text('{"ms_profiler_info": {}, "rank_id": 0}', encoding="utf-8")
    folder = folder.rename(tmp_path / "host_1_20260101000000000_ascend_ms")
    profile = memplan.open_profile(folder)
    assert profile.producer == "MindSpore"
    found = compare(plan, profile)
    assert found.memory is not None
    assert found.memory.component == "MindSpore"
    assert found.holders is not None
    assert found.holders.explained >= 0.97 * found.holders.measured
    assert found.process is not None
    assert found.process.gap == pytest.approx(Behaviour().process_bytes, rel=0.01)


def test_a_profile_of_nothing_is_refused(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "memscope_dump_20260101000000.csv"
    path.write_text(
        "ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr\n", encoding="utf-8"
    )
    with pytest.raises(InputError):
        compare(plan, memplan.open_profile(path))
