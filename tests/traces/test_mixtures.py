"""Several profiles in one folder: each row is read under its rank, or a note tells where it is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from memplan.traces import open_profile
from tests.traces.mixtures import Mixture, mixture, outcome, try_many


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("seed", range(3))
def test_no_row_of_several_profiles_is_lost_or_given_to_another(seed: int) -> None:
    """`make fuzz-mixtures` tries 5,000 folders."""
    found = try_many(60, 7100 + seed)
    assert found["read"] > 5, "the checker has something to compare"
    assert found["noted"] > 10


def test_the_checker_sees_a_lost_run_and_a_wrong_rank(tmp_path: Path) -> None:
    rng = random.Random(5)
    made = next(
        made for made in iter(lambda: mixture(rng), None)
        if outcome(made, tmp_path / str(rng.random())) == "read" and any(run.rank >= 0 for run in made.runs)
    )  # fmt: skip
    lost = dict(made.files)
    lost.pop(next(iter(made.runs[0].words)))
    with pytest.raises(AssertionError, match="lost in silence"):
        outcome(Mixture(made.runs, lost, made.names, made.job_ranks), tmp_path / "lost")
    run = next(run for run in made.runs if run.rank >= 0)
    run.rank += 1
    with pytest.raises(AssertionError, match="is shown as rank"):
        outcome(made, tmp_path / "wrong")


def test_archives_of_ranks_are_read_as_their_folders(tmp_path: Path) -> None:
    """What one is sent: an archive a rank, whose names alone tell which."""
    from tests.traces.test_archives import TABLE, write_tar, write_zip

    for rank in (0, 3):
        write_zip(tmp_path / f"rank{rank}.zip", {"ASCEND_PROFILER_OUTPUT/kernel_details.csv": TABLE})
    write_tar(tmp_path / "rank_5.tar.gz", {"ASCEND_PROFILER_OUTPUT\\kernel_details.csv": TABLE})
    (tmp_path / "rank7.zip").write_bytes(b"no archive")
    profile = open_profile(tmp_path)
    assert profile.ranks == [0, 3, 5]
    assert [len(profile.rank(rank).kernels() or ()) for rank in profile.ranks] == [1, 1, 1]
    assert [note.file for note in profile.notes if "can't be unpacked" in note.text] == ["rank7.zip"]


def test_a_single_trace_of_torch_profiler_keeps_its_rank(tmp_path: Path) -> None:
    head = {"schemaVersion": 1, "distributedInfo": {"backend": "gloo", "rank": 6, "world_size": 8}}
    events = [{"ph": "X", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1_760_000_000_000_000, "dur": 5}]
    path = tmp_path / "host_1.1760000000.pt.trace.json"
    path.write_text(json.dumps({**head, "traceEvents": events}))
    assert open_profile(tmp_path).ranks == open_profile(path).ranks == [6]
