"""`memplan ranks` and `memplan cache`, and the summaries behind them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.profile import LinkTraffic, StepTimes
from memplan.traces.readers import trace_file
from memplan.traces.summaries import job_links, slow_links, slow_ranks, summarise_ranks
from tests.traces.whole import read_whole

QWEN = "profiles/qwen3-0.6b-train-4rank"
ALEXNET = "profiles/alexnet-ddp-2rank/text/level2"


def test_processes_give_the_same_summaries(shared_data: Path, tmp_path: Path) -> None:
    alone = summarise_ranks(shared_data / QWEN, workers=1, cache=tmp_path)
    assert summarise_ranks(shared_data / QWEN, workers=2, cache=tmp_path) == alone
    assert [summary.rank for summary in alone] == [0, 1, 3]
    assert alone[0].peaks[0] == ("APP", 11925 * 2**20 + 2**14)


def test_summaries_hold_totals_of_the_profile(shared_data: Path, tmp_path: Path) -> None:
    summaries = summarise_ranks(shared_data / ALEXNET, workers=1, cache=tmp_path)
    rank = open_profile(shared_data / ALEXNET).rank(1)
    assert summaries[1].overlap == rank.overlap()
    assert summaries[1].steps == list(rank.steps())
    assert summaries[1].slices == sum(track.count for track in rank.tracks)
    assert list(summaries[1].ops) == list(rank.top_ops(50))


def test_a_rank_that_cannot_be_read_does_not_stop_the_others(shared_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared_data / QWEN, tmp_path / "profile"))
    (folder / "rank_1_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json.gz").write_bytes(b"\x1f\x8b" + b"\0" * 100)
    database = folder / "rank_3_ascend_pt/ASCEND_PROFILER_OUTPUT"
    shutil.rmtree(database)
    database.mkdir()
    (database / "ascend_pytorch_profiler_3.db").write_bytes(b"SQLite format 3\0 and nothing more")
    summaries = summarise_ranks(folder, workers=1, cache=tmp_path / "cache")
    assert [summary.error is None for summary in summaries] == [True, True, False]
    assert "SQLite" in str(summaries[2].error)


def test_ranks_are_slow_among_those_of_their_stage(shared_data: Path, tmp_path: Path) -> None:
    summaries = summarise_ranks(shared_data / QWEN, workers=1, cache=tmp_path)
    assert [summary.stage for summary in summaries] == [0, 0, 1]
    assert slow_ranks(summaries) == []  # rank 3 computes longest: it is the second stage and holds head and loss
    slower = [replace(one, steps=_slower(one.steps)) if one.rank == 1 else one for one in summaries]
    ((rank, step, excess),) = slow_ranks(slower)
    assert (rank, step) == (1, 13)
    assert excess == pytest.approx(2 * 230903.72 / ((231290.1 + 2 * 230903.72) / 2) / 1 - 1)


def _slower(steps: Sequence[StepTimes]) -> list[StepTimes]:
    return [replace(step, computing_ns=2 * step.computing_ns) for step in steps]


def test_links_are_those_between_global_ranks_and_count_once(shared_data: Path, tmp_path: Path) -> None:
    summaries = summarise_ranks(shared_data / QWEN, workers=1, cache=tmp_path)
    moved = {(link.source, link.target): link.size / 1e6 for link in job_links(summaries)}
    inside, across = pytest.approx(1127.4, abs=0.1), pytest.approx(639.1, abs=0.1)
    assert moved == {(0, 1): inside, (1, 0): inside, (3, 2): inside, (0, 2): across, (1, 3): across, (3, 1): across}
    assert slow_links(summaries) == []
    slower = [replace(one, links=_slower_links(one.links)) if one.rank == 0 else one for one in summaries]
    assert {(source, target) for source, target, *_ in slow_links(slower)} == {(0, 1), (0, 2)}


def _slower_links(links: Sequence[LinkTraffic]) -> list[LinkTraffic]:
    return [replace(use, duration_ns=use.duration_ns * 3) for use in links]


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_summaries(shared_data: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        found = summarise_ranks(shared_data / QWEN, scheduler=cluster.scheduler_address, cache=tmp_path)
    assert found == summarise_ranks(shared_data / QWEN, workers=1, cache=tmp_path)


def test_a_scheduler_that_is_not_there_is_one_clear_error(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def fail(*_: object, **__: object) -> None:
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", fail)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://nowhere:8786"):
        summarise_ranks(shared_data / QWEN, scheduler="tcp://nowhere:8786")


def test_the_ranks_command(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranks", str(shared_data / QWEN), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "compute longer" not in shown
    assert "these are not here: 2" in shown
    assert main(["ranks", str(shared_data / QWEN), "--workers", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [rank["rank"] for rank in document["ranks"]] == [0, 1, 3]
    assert document["slow_ranks"] == []
    assert {(link["source"], link["target"]) for link in document["links"]} >= {(0, 2), (3, 2)}


def test_the_cache_command(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(trace_file, "SMALL", 1000)
    read_whole(open_profile(shared_data / ALEXNET / "rank0_ascend_pt"))
    assert main(["cache", "list"]) == 0
    assert "1 imported profiles" in capsys.readouterr().out
    assert main(["cache", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert entry["sources"][0].endswith("trace_view.json")
    assert main(["cache", "clear"]) == 0
    assert "freed" in capsys.readouterr().out
    assert main(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == []
