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


@settings(max_examples=25, deadline=None)
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
