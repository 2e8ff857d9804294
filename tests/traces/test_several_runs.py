"""Traces of several runs or processes in one folder are never one rank with a time axis of hours."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.traces import open_profile
from memplan.traces.directory import Profile

BEGIN_US = 1_760_000_000_000_000
HOUR_US = 3_600_000_000


def texts(profile: Profile) -> str:
    return "\n".join(f"{note.file}: {note.text}" for note in profile.notes)


def slices(label: str, begin_us: int, count: int = 3) -> list[dict[str, object]]:
    return [
        {"ph": "X", "name": f"{label}{number}", "pid": 1, "tid": 1, "ts": begin_us + 100 * number, "dur": 50}
        for number in range(count)
    ]


def shown(profile: Profile, rank: int) -> set[str]:
    own = profile.rank(rank)
    found = [own.slices(track.id) for track in own.tracks]
    return {one.names[name] for one in found for name in one.name}


@settings(max_examples=25)
@given(
    begins=st.lists(st.integers(0, 40), min_size=2, max_size=4, unique=True),
    pieces=st.integers(1, 3),
    large=st.booleans(),
)
def test_of_runs_hours_apart_the_newest_is_shown(begins: list[int], pieces: int, large: bool) -> None:
    """Each run is exported in some pieces, a few ms apart: those of one run stay together."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if large:
            patch.setattr("memplan.traces.readers.trace_file.SMALL", 10)
        output = Path(folder) / "run"
        output.mkdir()
        for number, hour in enumerate(begins):
            for piece in range(pieces):
                events = slices(f"h{hour}p{piece}k", BEGIN_US + hour * HOUR_US + 5000 * piece)
                (output / f"msprof_slice_{piece}_2025010100000{number}.json").write_text(json.dumps(events))
        profile = open_profile(output, cache=Path(folder) / "cache")
        assert shown(profile, 0) == {f"h{max(begins)}p{piece}k{k}" for piece in range(pieces) for k in range(3)}
        start, end = profile.rank(0).span_ns
        assert end - start < 1_000_000_000
        assert texts(profile).count("of another run") == (len(begins) - 1) * pieces


@pytest.mark.parametrize("told", [True, False])
def test_processes_of_torch_profiler_are_ranks(tmp_path: Path, told: bool) -> None:
    for number, rank in enumerate((3, 1)):
        head: dict[str, object] = {"schemaVersion": 1}
        if told:
            head["distributedInfo"] = {"backend": "hccl", "rank": rank, "world_size": 4}
        document = json.dumps({**head, "traceEvents": slices(f"r{rank}k", BEGIN_US)})
        (tmp_path / f"host_{70 + number}.1700000000{number}.pt.trace.json").write_text(document)
    profile = open_profile(tmp_path)
    assert profile.ranks == ([1, 3] if told else [0, 1])
    for rank, of in zip(profile.ranks, (1, 3) if told else (3, 1), strict=True):
        assert shown(profile, rank) == {f"r{of}k{k}" for k in range(3)}
    assert ("tells no rank" in texts(profile)) == (not told)


def test_of_recordings_of_one_process_the_newest_is_read(tmp_path: Path) -> None:
    for time in (1700000009, 1700000100, 999999):
        document = json.dumps({"schemaVersion": 1, "traceEvents": slices(f"t{time}k", BEGIN_US)})
        (tmp_path / f"host_70.{time}.pt.trace.json").write_text(document)
    profile = open_profile(tmp_path)
    assert profile.ranks == [0]
    assert shown(profile, 0) == {f"t1700000100k{k}" for k in range(3)}
    assert "the newest of 3 recordings of one process is read; not read: host_70.999999.pt.trace.json" in texts(profile)


def op_summary(folder: Path, counter: str, value: float, types: tuple[str, ...] = ("MatMul", "Add")) -> None:
    """One set of counters of one card, as msprof exports it."""
    output = folder / "mindstudio_profiler_output"
    output.mkdir(parents=True)
    begin = BEGIN_US + int(value) * 20_000_000
    lines = [f"Device_id,Op Name,OP Type,Task Type,Task Start Time(us),Task Duration(us),Input Shapes,{counter}"]
    lines += [f'0,{kind}{n},{kind},AI_CORE,{begin + 10 * n}.5,4.0,"""8,{n}""",{value}' for n, kind in enumerate(types)]
    (output / "op_summary_20260101000000.csv").write_text("\n".join(lines) + "\n")


def test_runs_of_one_program_with_other_counters_are_one_rank(tmp_path: Path) -> None:
    """Went wrong once: seven sets of counters of one run were "ranks 0-6"."""
    group = tmp_path / "PROF_GROUP_20260101_000000"
    for number, name in enumerate(("Memory", "L2Cache", "PipeUtilization")):
        for card in range(2):
            folder = group / f"PROF_{name}" / f"PROF_00000{card + 1}_2026010100000{number}000_ABC{card}"
            op_summary(folder, f"{name.lower()}_ratio", number + card / 10)
    profile = open_profile(tmp_path)
    assert profile.ranks == [0, 1]
    for card in (0, 1):
        kernels = profile.rank(card).kernels()
        assert kernels is not None
        assert list(kernels.type) == ["MatMul", "Add"]
        told = {name: column.tolist() for name, column in kernels.pmu.items()}
        assert told["memory_ratio"] == [0 + card / 10] * 2
        assert told["l2cache_ratio"] == [1 + card / 10] * 2
        assert told["pipeutilization_ratio"] == [2 + card / 10] * 2


def test_counters_of_another_program_are_not_mixed_in(tmp_path: Path) -> None:
    group = tmp_path / "PROF_GROUP_20260101_000000"
    op_summary(group / "PROF_Memory" / "PROF_000001_20260101000000000_ABC", "memory_ratio", 0.5)
    op_summary(group / "PROF_L2Cache" / "PROF_000001_20260101000009000_ABD", "l2_ratio", 0.5, types=("Add", "MatMul"))
    profile = open_profile(tmp_path)
    assert profile.ranks == [0]
    kernels = profile.rank(0).kernels()
    assert kernels is not None
    assert len({"memory_ratio", "l2_ratio"} & set(kernels.pmu)) == 1
    assert "it holds other kernels" in texts(profile)
