"""A process that reads a rank is killed: the other ranks are there; the lost one is read again or said to be lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from memplan.traces import summaries
from memplan.traces.rank_source import RankSource
from memplan.traces.summaries import RankSummary, summarise_ranks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing kills a process like this there")
PROFILE = Path(str(resources.files("memplan.samples"))) / "llama_train_profile"
_read = summaries.summary_of


def dies_once(source: RankSource, root: Path, cache: Path | None, threads: int | None) -> RankSummary:
    """Kills its process when it meets rank 1 for the first time."""
    met = root / "met"
    if source.rank == 1 and not met.exists():
        met.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _read(source, root, cache, threads)


def dies(source: RankSource, root: Path, cache: Path | None, threads: int | None) -> RankSummary:
    """Kills its process whenever it meets rank 1."""
    if source.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return _read(source, root, cache, threads)


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    """Three ranks, copies of one."""
    for rank in range(3):
        folder = Path(shutil.copytree(PROFILE, tmp_path / "profile" / f"rank{rank}_ascend_pt"))
        info = folder / "profiler_info_0.json"
        info.write_text(json.dumps({**json.loads(info.read_text()), "rank_id": rank}))
    return tmp_path / "profile"


@pytest.mark.parametrize(("reader", "lost"), [(dies_once, []), (dies, [1])])
def test_a_killed_process_loses_no_other_rank(
    reader: Callable[..., RankSummary], lost: list[int], ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = summarise_ranks(ranks, workers=1, cache=tmp_path)
    monkeypatch.setattr(summaries, "summary_of", reader)
    found = summarise_ranks(ranks, workers=2, cache=tmp_path)
    assert [summary.rank for summary in found] == [0, 1, 2]
    for summary, same in zip(found, expected, strict=True):
        if summary.rank in lost:
            assert "killed" in str(summary.error)
        else:
            assert summary == same
