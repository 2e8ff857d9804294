"""A `cluster_analysis_output` without the ranks' own profiles: steps, links, communications, as text and database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memplan.traces import open_profile
from memplan.traces.summaries import job_links, summarise_ranks

RANKS = 4
OP = "hcom_allReduce__483_0@9350434047717501483"
STEPS = ("Step", "Type", "Index", "Computing", "Communication(Not Overlapped)", "Overlapped", "Communication", "Free")


def transfer(source: int, target: int) -> tuple[float, float]:
    """MB and ms of a link: over nodes it takes twice as long."""
    return 100.0 + source, (10.0 if source // 2 == target // 2 else 20.0)


def told(rank: int) -> dict[str, object]:
    return {
        "Communication Time Info": {
            "Start Timestamp(us)": f"{1_695_115_378_810_042 + rank}.5", "Elapse Time(ms)": 5.0 + rank,
            "Transit Time(ms)": 4.0, "Wait Time(ms)": 1.0 + rank, "Synchronization Time(ms)": 0.5, "Idle Time(ms)": 0,
        },
        "Communication Bandwidth Info": {
            "HCCS": {"Transit Size(MB)": 21.0, "Transit Time(ms)": 0.9, "Bandwidth(GB/s)": 23.3,
                     "Size Distribution": {"21.0": [1, 0.9]}},
        },
    }  # fmt: skip


def texts(folder: Path) -> Path:
    output = folder / "cluster_analysis_output"
    output.mkdir(parents=True)
    rows = [f"2,rank,{rank},{100 + rank},30,10,40,50" for rank in range(RANKS)]
    (output / "cluster_step_trace_time.csv").write_text("\n".join((",".join(STEPS), *rows, "")))
    pairs = {
        f"{source}-{target}": {"Transport Type": "LOCAL" if source == target else "HCCS", "Transit Size(MB)": size,
                               "Transit Time(ms)": time, "Bandwidth(GB/s)": size / time}
        for source in range(RANKS) for target in range(RANKS) for size, time in [transfer(source, target)]
    }  # fmt: skip
    matrix = {"(0, 1, 2, 3)": {"step2": {OP: pairs, "Total Op Info": pairs}}}
    (output / "cluster_communication_matrix.json").write_text(json.dumps(matrix))
    ranks = {str(rank): told(rank) for rank in range(RANKS)}
    communications = {"(0, 1, 2, 3)": {"step2": {OP: ranks, "Total Op Info": ranks}}}
    (output / "cluster_communication.json").write_text(json.dumps(communications))
    return folder


def database(folder: Path) -> Path:
    output = folder / "cluster_analysis_output"
    output.mkdir(parents=True)
    name, _, group = OP.partition("@")
    with closing(sqlite3.connect(output / "cluster_analysis.db")) as data:
        data.execute(
            "CREATE TABLE ClusterStepTraceTime (step, type, 'index', computing, communication_not_overlapped,"
            " overlapped, communication, free)"
        )
        data.executemany(
            "INSERT INTO ClusterStepTraceTime VALUES (?,?,?,?,?,?,?,?)",
            [("2", "rank", str(rank), 100 + rank, 30, 10, 40, 50) for rank in range(RANKS)],
        )
        data.execute(
            "CREATE TABLE ClusterCommunicationMatrix (step, hccl_op_name, group_name, src_rank, dst_rank,"
            " transit_size, transit_time, bandwidth, transport_type, op_name)"
        )
        for op in (name, "Total Op Info"):
            data.executemany(
                "INSERT INTO ClusterCommunicationMatrix VALUES (?,?,?,?,?,?,?,?,?,?)",
                [("step2", op, group, str(source), str(target), *transfer(source, target), 0,
                  "LOCAL" if source == target else "HCCS", "") for source in range(RANKS) for target in range(RANKS)],
            )  # fmt: skip
        data.execute(
            "CREATE TABLE ClusterCommunicationTime (step, rank_id, hccl_op_name, group_name, start_timestamp,"
            " elapsed_time, transit_time, wait_time, synchronization_time, idle_time)"
        )
        data.execute(
            "CREATE TABLE ClusterCommunicationBandwidth (step, rank_id, hccl_op_name, group_name, band_type,"
            " transit_size, transit_time, bandwidth, large_packet_ratio, package_size, count, total_duration)"
        )
        for rank in range(RANKS):
            data.execute(
                "INSERT INTO ClusterCommunicationTime VALUES (?,?,?,?,?,?,?,?,?,?)",
                ("step2", rank, name, group, f"{1_695_115_378_810_042 + rank}.5", 5.0 + rank, 4.0, 1.0 + rank, 0.5, 0),
            )
            data.execute(
                "INSERT INTO ClusterCommunicationBandwidth VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                ("step2", rank, name, group, "HCCS", 21.0, 0.9, 23.3, 1, "21.0", 1, 0.9),
            )
        data.commit()
    return folder


@pytest.mark.parametrize("made", [texts, database])
def test_all_that_a_cluster_analysis_says(made: object, tmp_path: Path) -> None:
    assert callable(made)
    profile = open_profile(made(tmp_path))
    assert profile.ranks == list(range(RANKS))
    rank = profile.rank(3)
    assert [step.computing_ns for step in rank.steps()] == [103_000]
    (one,) = rank.communications()
    assert (one.op, one.start_ns) == ("hcom_allReduce__483_0", 1_695_115_378_810_045_500)
    assert (one.elapsed_ns, one.wait_ns, one.step) == (8_000_000, 4_000_000, 2)
    assert [(packet.transport, packet.size, packet.count) for packet in one.packets] == [("HCCS", 21_000_000, 1)]
    links = {(link.source, link.target): link for link in job_links(summarise_ranks(tmp_path))}
    assert len(links) == RANKS * (RANKS - 1)
    assert links[3, 1].size == 103_000_000
    assert links[3, 1].bytes_per_second == pytest.approx(103e6 / 20e-3)
    assert not [note for note in profile.notes if "skipped" in note.text]


def test_text_and_database_say_the_same(tmp_path: Path) -> None:
    text, data = (summarise_ranks(made(tmp_path / made.__name__)) for made in (texts, database))
    assert job_links(text) == job_links(data)
    assert [(s.rank, s.steps, s.communications, s.transports) for s in text] == [
        (s.rank, s.steps, s.communications, s.transports) for s in data
    ]


def test_ranks_of_which_only_links_or_communications_are_told(tmp_path: Path) -> None:
    output = texts(tmp_path) / "cluster_analysis_output"
    (output / "cluster_step_trace_time.csv").unlink()
    assert open_profile(tmp_path).ranks == list(range(RANKS))
    (output / "cluster_communication.json").unlink()
    assert len(job_links(summarise_ranks(tmp_path))) == RANKS * (RANKS - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(min_size=1, max_size=40), st.integers(0, 600), st.sampled_from(["matrix", ""]))
def test_damage_is_told_and_the_steps_stay(tmp_path: Path, noise: bytes, at: int, which: str) -> None:
    if not (tmp_path / "job").exists():
        texts(tmp_path / "job")
    name = "cluster_communication_matrix.json" if which else "cluster_communication.json"
    path = tmp_path / "job/cluster_analysis_output" / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: 40 + at] + noise)
        profile = open_profile(tmp_path / "job")
        assert [len(profile.rank(rank).steps()) for rank in profile.ranks] == [1] * RANKS
        assert any(name in note.file and "skipped" in note.text for note in profile.notes)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("make", [texts, database])
@pytest.mark.parametrize("present", [(0,), (1, 3), (0, 1, 2, 3)])
def test_ranks_without_a_profile_of_their_own_are_told_by_the_analysis(
    tmp_path: Path, make: Callable[[Path], Path], present: Sequence[int]
) -> None:
    make(tmp_path)
    for rank in present:
        output = tmp_path / f"host_{rank}_ascend_pt/ASCEND_PROFILER_OUTPUT"
        output.mkdir(parents=True)
        (output.parent / f"profiler_info_{rank}.json").write_text("{}")
        header = "Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free"
        (output / "step_trace_time.csv").write_text(f"{header}\n2,{900 + rank},0,0,0,1\n")
    profile = open_profile(tmp_path)
    assert list(profile.ranks) == list(range(RANKS))
    for rank in range(RANKS):
        (step,) = profile.rank(rank).steps()
        assert step.computing_ns == (900 + rank if rank in present else 100 + rank) * 1000
        assert bool(profile.rank(rank).links()) is (rank not in present)
    told = [note.text for note in profile.notes if "from this analysis" in note.text]
    assert len(told) == (len(present) < RANKS)
    assert [one.rank for one in summarise_ranks(tmp_path)] == list(range(RANKS))
