"""Out of memory told by snapshots and logs, with what lacked, what held it, and what should not have; and leaks."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import memplan
from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.core.units import GIB, MIB
from memplan.findings import Finding, diagnose
from memplan.findings.profile_change import profile_change
from memplan.simulator import chosen_fault, planted_memory, simulate_job
from tests.small_plans import layered_plan


def _frames(line: int) -> list[dict[str, Any]]:
    library = {"filename": "/env/site-packages/torch/nn/modules/module.py", "line": 1, "name": "_call_impl"}
    return [library, {"filename": "train.py", "line": line, "name": "step"}]


class _Snapshot:
    """A snapshot as `_dump_snapshot` writes it: segments and events of one device."""

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.time = 1000

    def event(self, action: str, size: int, address: int = 0, line: int = 0, **more: Any) -> None:
        self.time += 10
        self.events.append(
            {"action": action, "addr": address, "size": size, "stream": 0, "time_us": self.time,
             "frames": _frames(line), **more}
        )  # fmt: skip

    def segment(self, address: int, blocks: Sequence[tuple[int, bool]], expandable: bool = False) -> None:
        total = sum(size for size, _ in blocks)
        used = sum(size for size, active in blocks if active)
        found, at = [], address
        for size, active in blocks:
            found.append({"address": at, "size": size, "state": "active_allocated" if active else "inactive",
                          "frames": _frames(9) if active else []})  # fmt: skip
            at += size
        self.segments.append(
            {"device": 0, "address": address, "total_size": total, "allocated_size": used, "active_size": used,
             "stream": 0, "segment_type": "large", "is_expandable": expandable, "blocks": found}
        )  # fmt: skip

    def diagnosed(self, path: Path) -> Sequence[Finding]:
        path.write_bytes(pickle.dumps({"segments": self.segments, "device_traces": [self.events]}))
        return diagnose(memplan.open_profile(path)).findings


def _told(finding: Finding) -> dict[str, Any]:
    return {str(item.label): item.value for item in finding.evidence}


def test_the_oom_event_of_a_snapshot_is_the_first_finding_with_what_lacked(tmp_path: Path) -> None:
    snapshot = _Snapshot()
    snapshot.segment(0x1000, [(30 * GIB, True), (GIB, False)])
    snapshot.event("alloc", 30 * GIB, 0x1000, line=7)
    snapshot.event("oom", 5 * GIB, line=8, device_free=512 * MIB)
    first = snapshot.diagnosed(tmp_path / "oom.pickle")[0]
    told = _told(first)
    assert first.kind == "oom.full"
    assert first.cost_bytes == 4 * GIB  # one piece of 1 GiB is free
    assert (told["asked for"], told["free on the device"], told["allocated"]) == (5 * GIB, 512 * MIB, 30 * GIB)
    assert told["asked for by"] == "train.py:8 step"
    assert told["alive then: train.py:7 step"] == 30 * GIB
    assert first.remedies


def test_enough_that_is_free_in_pieces_is_fragmentation(tmp_path: Path) -> None:
    snapshot = _Snapshot()
    for place in range(4):
        snapshot.segment(place << 40, [(GIB, True), (3 * GIB, False)])
        snapshot.event("alloc", GIB, place << 40)
    snapshot.event("oom", 4 * GIB, device_free=0)
    findings = snapshot.diagnosed(tmp_path / "oom.pickle")
    assert findings[0].kind == "oom.fragmented"
    assert _told(findings[0])["largest free piece in a segment"] == 3 * GIB
    (holes,) = [one for one in findings if one.kind == "memory.fragmentation"]
    assert sum("kept by train.py:9 step" in str(item.label) for item in holes.evidence) == 4


def _steps(snapshot: _Snapshot, steps: int, kept: int, line: int) -> None:
    """Steps that allocate and release, and keep `kept` bytes each."""
    for step in range(steps):
        for block in range(6):
            snapshot.event("alloc", GIB, (step * 10 + block) << 32, line=3)
            snapshot.event("free_completed", GIB, (step * 10 + block) << 32, line=3)
        if kept:
            snapshot.event("alloc", kept, (step * 10 + 9) << 32, line=line)
    snapshot.segment(0, [(max(steps * kept, MIB), bool(kept))])


def test_what_grew_until_it_failed_is_named_by_who_kept_it(tmp_path: Path) -> None:
    snapshot = _Snapshot()
    _steps(snapshot, 5, GIB, line=44)
    snapshot.event("oom", 2 * GIB, line=3, device_free=MIB)
    first = snapshot.diagnosed(tmp_path / "oom.pickle")[0]
    assert first.kind == "oom.grown"
    assert _told(first)["never released: train.py:44 step"] == 5 * GIB


@pytest.mark.parametrize(("kept", "grows"), [(GIB, True), (0, False)])
def test_blocks_that_pile_up_are_a_leak_with_its_owner(tmp_path: Path, kept: int, grows: bool) -> None:
    snapshot = _Snapshot()
    _steps(snapshot, 4, kept, line=44)
    found = [one for one in snapshot.diagnosed(tmp_path / "run.pickle") if one.kind == "memory.growth"]
    assert bool(found) is grows
    if grows:
        assert found[0].cost_bytes == 4 * GIB
        assert found[0].places[0].tensors == ("train.py:44 step",)


def test_a_model_that_is_loaded_and_states_made_once_are_no_leak(tmp_path: Path) -> None:
    snapshot = _Snapshot()
    for layer in range(40):
        snapshot.event("alloc", GIB // 4, layer << 34, line=5)
    snapshot.segment(0, [(10 * GIB, True)])
    snapshot.event("oom", 2 * GIB, line=5, device_free=MIB)
    findings = snapshot.diagnosed(tmp_path / "load.pickle")
    assert findings[0].kind == "oom.full"
    assert "memory.growth" not in {one.kind for one in findings}


def test_the_real_demo_of_a_leak_is_one_and_the_other_is_none(shared_data: Path) -> None:
    for name, leaks in (("snapshot_expandable", True), ("snapshot_1768383987920985470", False)):
        found = diagnose(memplan.open_profile(shared_data / f"snapshots/{name}.pkl")).findings
        grown = [one for one in found if one.kind == "memory.growth"]
        assert bool(grown) is leaks
        if leaks:
            assert grown[0].cost_bytes == 3 * 40 * MIB  # line 12 keeps one tensor of 40 MiB in each of three steps
            assert "memory_leaks_demo.py:12" in grown[0].places[0].tensors[0]


_TORCH_NPU = (
    "[rank3]: RuntimeError: NPU out of memory. Tried to allocate {} (NPU 3; 60.00 GiB total capacity; {} already "
    "allocated; {} current active; {} free; {} reserved in total by PyTorch) If reserved memory is >> allocated ..."
)


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        (_TORCH_NPU.format("22.00 MiB", "10.00 GiB", "10.00 GiB", "19.50 MiB", "10.50 GiB"), "fragmented", 22 * MIB),
        (_TORCH_NPU.format("22.00 MiB", "10.00 GiB", "10.00 GiB", "19.50 MiB", "10.01 GiB"), "outside", 22 * MIB),
        (_TORCH_NPU.format("2.00 GiB", "57.00 GiB", "57.00 GiB", "1.00 GiB", "58.50 GiB"), "full", 2 * GIB),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.00 "
         "GiB of which 1.00 GiB is free. Including non-PyTorch memory, this process has 78.00 GiB in use. Of the "
         "allocated memory 70.00 GiB is allocated by PyTorch, and 7.50 GiB is reserved by PyTorch but unallocated.",
         "fragmented", 2 * GIB),
        ("Device(id:0) memory isn't enough and alloc failed, kernel name: Default/MatMul-op3, alloc size: 1073741824B.",
         "full", GIB),
        ("Call rtMalloc fail, purpose: page caching, type = 2, size:3221291008, device_id:0[FUNC:Alloc]", "full",
         3221291008),
    ],
)  # fmt: skip
def test_a_line_of_a_log_is_told_like_a_snapshot(tmp_path: Path, line: str, kind: str, size: int) -> None:
    log = tmp_path / "train.log"
    log.write_text(f"INFO loading\n{line}\nTraceback\n{line}\n", encoding="utf-8")
    (found,) = diagnose(memplan.open_profile(log)).findings
    told = _told(found)
    assert found.kind == f"oom.{kind}"
    assert told["asked for"] == size
    assert told["told by"] == "train.log, line 2"  # the traceback repeats it


def test_a_log_without_a_failure_is_no_profile(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("INFO out of memory is what we fear\n", encoding="utf-8")
    with pytest.raises(InputError):
        memplan.open_profile(log)


def test_a_log_beside_a_profile_is_read_with_it(tmp_path: Path) -> None:
    from tests.findings.planted_runs import simulated, unchanged

    job = simulated(tmp_path / "run", unchanged, steps=2)
    line = _TORCH_NPU.format("2.00 GiB", "57.00 GiB", "57.00 GiB", "1.00 GiB", "58.50 GiB")
    (job / "rank_0_ascend_pt/train.log").write_text(line, encoding="utf-8")
    kinds = [one.kind for one in diagnose(memplan.open_profile(job)).findings]
    assert "oom.full" in kinds


def test_two_snapshots_differ_by_who_holds_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for name, kept in (("before", 0), ("after", GIB)):
        snapshot = _Snapshot()
        _steps(snapshot, 4, kept, line=44)
        snapshot.diagnosed(tmp_path / f"{name}.pickle")
        paths.append(tmp_path / f"{name}.pickle")
    before, after = (diagnose(memplan.open_profile(path)) for path in paths)
    (owner,) = profile_change(before, 0, after, 0).owners
    assert (owner.owner, owner.change_bytes) == ("train.py:44 step", 4 * GIB)
    assert profile_change(before, 0, before, 0).owners == []
    assert main(["diff", *map(str, paths)]) == 0
    assert "most by train.py:44 step: +4.00 GiB" in capsys.readouterr().out


def test_a_dump_names_blocks_by_the_op_that_was_running(tmp_path: Path) -> None:
    header = "ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr"
    rows = [
        "1,OP_LAUNCH,ATEN_START,aten.loss,1000,7,7,0,N/A,",
        "2,OP_LAUNCH,ATEN_START,aten.copy,1100,7,7,0,N/A,",
        '3,MALLOC,PTA,N/A,1200,7,7,0,4096,"{allocation_id:1,addr:4096,size:512,total:512,used:512}"',
        "4,OP_LAUNCH,ATEN_END,aten.copy,1300,7,7,0,N/A,",
        '5,MALLOC,PTA,N/A,1400,7,7,0,8192,"{allocation_id:2,addr:8192,size:1024,total:2048,used:1536}"',
        "6,OP_LAUNCH,ATEN_END,aten.loss,1500,7,7,0,N/A,",
        '7,MALLOC,PTA,N/A,1600,7,8,0,16384,"{allocation_id:3,addr:16384,size:256,total:2048,used:1792}"',
    ]
    dump = tmp_path / "memscope_dump_20260101000000.csv"
    dump.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    blocks = memplan.open_profile(dump).rank(0).allocations()
    assert blocks is not None
    assert dict(zip(blocks.size.tolist(), blocks.name, strict=True)) == {512: "aten.copy", 1024: "aten.loss", 256: ""}


@pytest.mark.parametrize("kind", ["oom-leak", "oom-scattered", "oom-size"])
def test_a_run_that_fails_leaves_a_snapshot_that_tells_why(tmp_path: Path, kind: str) -> None:
    plan, fault = layered_plan(20), chosen_fault(f"{kind}:strong")
    simulate_job(plan, tmp_path / "job", fault=fault, ranks=2, steps=4)
    assert not list(tmp_path.rglob("kernel_details.csv"))
    found = diagnose(memplan.open_profile(tmp_path / "job")).findings
    assert {one.rank for one in found if one.kind in fault.fault.findings} == {0, 1}
    assert found[0].kind in fault.fault.findings
    assert found[0].cost_bytes == planted_memory(plan, fault, ranks=2, steps=4)
