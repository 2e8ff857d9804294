"""The core of every reader of profiles, on small files made here: what needs no profile from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from memplan.cli.app import main
from memplan.core.progress import silent
from memplan.schema import load_plan
from memplan.simulator import simulate
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from memplan.traces.profile import TrackKind
from memplan.traces.scan.threads import scan_events
from memplan.traces.summaries import slow_links, summarise_ranks
from memplan.traces.timeline.events import read_events
from memplan.traces.timeline.tracks import build
from tests.traces import excerpts

SAMPLES = Path(str(resources.files("memplan.samples")))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles of two ranks as the simulator runs the bundled plan, each with noise of its own."""
    folder = tmp_path_factory.mktemp("ranks")
    plan = load_plan(SAMPLES / "llama_train.plan.json")
    for rank in (0, 1):
        simulate(plan, folder / f"rank{rank}_ascend_pt", seed=rank, rank=rank, steps=2)
    return folder


def test_ranks_are_summed_up_alike_in_one_process_and_in_two(ranks: Path, tmp_path: Path) -> None:
    alone = summarise_ranks(ranks, workers=1, cache=tmp_path)
    assert summarise_ranks(ranks, workers=2, cache=tmp_path) == alone
    for number, summary in enumerate(alone):
        rank = open_profile(ranks).rank(number)
        assert (summary.rank, summary.steps, summary.overlap) == (number, list(rank.steps()), rank.overlap())
        assert summary.slices == sum(track.count for track in rank.tracks)
    assert main(["ranks", str(ranks), "--workers", "1"]) == 0


def test_a_trace_reads_alike_by_the_compiled_scanner_and_by_json(ranks: Path) -> None:
    path = ranks / "rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json"
    notes = Notebook(path.parent)
    compiled, reference = (
        scan_events(path, notes, silent, workers=2),
        read_events(path, path.read_bytes(), notes, silent),
    )
    one, two = build(compiled, {}), build(reference, {})
    assert one.tracks == two.tracks
    for name in ("start_ns", "duration_ns", "depth", "reach_ns", "covered_ns"):
        assert np.array_equal(getattr(one.slices, name), getattr(two.slices, name)), name


def test_a_snapshot_counts_back_from_what_its_segments_hold(tmp_path: Path) -> None:
    rank = open_profile(excerpts.snapshot(tmp_path)).rank(0)
    assert rank.device == "NPU:0"
    curve = rank.memory("PTA")
    assert curve is not None
    assert curve.allocated is not None
    assert curve.reserved is not None
    assert curve.time_ns.tolist() == [5000, 6000, 8000, 9000, 9000, 12000]
    assert curve.allocated.tolist() == [0, 1024, 3072, 3072, 1024, 1536], (
        "freed when the device is done, not when asked"
    )
    assert set(curve.reserved.tolist()) == {4096}
    allocations = rank.allocations()
    assert allocations is not None
    assert allocations.size.tolist() == [1024, 2048, 512]
    assert allocations.release_ns.tolist() == [-1, 9000, -1]
    assert allocations.name[0] == "net.py:7 forward"
    assert rank.table("blocks")["state"] == ["active_allocated", "active_allocated", "inactive"]
    assert rank.table("segments")["total_size"] == ["4096"]


def test_memscope_pairs_blocks_of_a_pool_and_ops_of_a_thread(tmp_path: Path) -> None:
    profile = open_profile(excerpts.table(tmp_path, "memscope_dump_20260101.csv", excerpts.MEMSCOPE))
    rank = profile.rank(0)
    assert profile.producer == "msMemScope"
    curve = rank.memory("PTA")
    assert curve is not None
    assert curve.allocated is not None
    assert curve.allocated.tolist() == [512, 768, 256]
    allocations = rank.allocations()
    assert allocations is not None
    assert sorted(zip(allocations.size.tolist(), allocations.release_ns.tolist(), strict=True)) == [
        (256, -1),
        (512, 2500),
        (8192, 3000),
    ], "a release of HAL names no device"
    slices = [rank.slices(track.id) for track in rank.tracks if track.kind is TrackKind.HOST]
    (found,) = slices
    assert dict(zip(found.start_ns.tolist(), found.duration_ns.tolist(), strict=True)) == {1500: 400, 1700: 0}


def test_an_op_summary_keeps_nanoseconds_shapes_and_counters(tmp_path: Path) -> None:
    folder = "PROF_000001_20260101000000000_ABC/mindstudio_profiler_output"
    excerpts.table(tmp_path, f"{folder}/op_summary_20260101.csv", excerpts.OP_SUMMARY)
    kernels = open_profile(tmp_path).rank(0).kernels()
    assert kernels is not None
    assert kernels.start_ns.tolist() == [1700000000000001250, 1700000000000020001]
    assert kernels.duration_ns.tolist() == [12500, 3750]
    assert kernels.block_count.tolist() == [24, 40], "Block Num in place of Block Dim"
    assert (kernels.name[0], kernels.type[0], kernels.core[0]) == ("MatMul_1", "MatMulV2", "AI_CORE")
    assert kernels.input_shapes[0] == "512,16;16,64"
    assert kernels.pmu["aic_mac_ratio"][0] == 0.625
    assert np.isnan(kernels.pmu["aic_mac_ratio"][1])


def test_a_database_gives_kernels_with_shapes_counters_and_steps(tmp_path: Path) -> None:
    profile = open_profile(excerpts.database(tmp_path))
    rank = profile.rank(0)
    assert rank.device == "NPU:6"
    assert rank.chip == "Ascend910B3"
    kernels = rank.kernels()
    assert kernels is not None
    assert [kernels.name[row] for row in range(3)] == ["MatMul_1", "hcom_allReduce__1", "MatMul_1"]
    assert kernels.duration_ns.tolist() == [2000, 1500, 1000]
    assert (kernels.input_shapes[0], kernels.core[1]) == ("64,64;64,64", "COMMUNICATION")
    assert kernels.step.tolist() == [4, 4, -1]
    assert kernels.pmu["aicore_time(us)"][0] == 1.9
    assert kernels.pmu["aic_mac_ratio"][[0, 2]].tolist() == [0.75, 0.5]
    assert any("1 kernel without a task" in note.text for note in profile.notes)


def test_a_database_gives_memory_in_bytes(tmp_path: Path) -> None:
    rank = open_profile(excerpts.database(tmp_path)).rank(0)
    curves = {component: rank.memory(component) for component in rank.memory_components()}
    assert set(curves) == {"PTA", "APP", "HCCL"}
    pta = curves["PTA"]
    assert pta is not None
    assert pta.allocated is not None
    assert (pta.time_ns.tolist(), pta.allocated.tolist()) == ([1000, 1100], [1024, 2048]), "in order of time"
    allocations = rank.allocations()
    assert allocations is not None
    assert allocations.release_ns.tolist() == [3000, -1]


def test_a_databases_timeline_has_the_tracks_of_its_text_form(tmp_path: Path) -> None:
    rank = open_profile(excerpts.database(tmp_path)).rank(0)
    labels = {(track.kind, track.label) for track in rank.tracks}
    kinds = {kind for kind, _ in labels}
    assert kinds >= {TrackKind.STREAM, TrackKind.COMMUNICATION, TrackKind.CANN, TrackKind.OVERLAP, TrackKind.COUNTER}
    overlap = rank.overlap()
    assert overlap is not None
    assert (
        overlap.computing_ns,
        overlap.communication_ns,
        overlap.communication_not_overlapped_ns,
        overlap.free_ns,
    ) == (
        3000,
        1500,
        1000,
        1000,
    )
    stream = next(track for track in rank.tracks if track.label.endswith("Stream 2"))
    (flow,) = {flow.category for flow in rank.flows(stream.id, 1000)} - {"async_npu"}
    assert flow == "HostToDevice"
    assert rank.arguments(stream.id, 1000)["taskType"] == "AI_CORE"


def test_a_databases_analysis_gives_steps_and_links(tmp_path: Path) -> None:
    rank = open_profile(excerpts.database(tmp_path)).rank(0)
    (step,) = rank.steps()
    assert (step.step, step.computing_ns, step.communication_ns, step.free_ns) == (4, 3000, 1500, 1000)
    (link,) = rank.links()
    assert (link.op, link.source, link.target, link.size, link.duration_ns) == (
        "allreduce-top1@77",
        0,
        1,
        2_500_000,
        125_000,
    )


def test_links_of_a_rank_are_those_of_pairs(tmp_path: Path) -> None:
    profile = open_profile(excerpts.links(tmp_path))
    send, reduce = profile.rank(0).links()
    assert (send.step, send.transport, send.size, send.duration_ns) == (13, "HCCS", 8_388_608, 500_000)
    assert send.bytes_per_second == pytest.approx(16.7772e9)
    assert (reduce.target, reduce.bytes_per_second) == (2, None)
    assert any("no pair of ranks" in note.text for note in profile.notes)
    (summary,) = summarise_ranks(tmp_path, workers=1, cache=tmp_path / "cache")
    assert summary.steps == list(profile.rank(0).steps())
    assert slow_links([summary]) == []


def test_a_cluster_analysis_gives_the_steps_of_each_rank(tmp_path: Path) -> None:
    excerpts.table(tmp_path, "cluster_analysis_output/cluster_step_trace_time.csv", excerpts.CLUSTER_STEPS)
    profile = open_profile(tmp_path)
    assert list(profile.ranks) == [0, 1]
    assert [(step.step, step.computing_ns) for step in profile.rank(0).steps()] == [(2, 75_250), (3, 76_000)]
    assert any("only their steps, links and communications are known" in note.text for note in profile.notes)


def test_the_layout_of_2023_has_times_since_boot(tmp_path: Path) -> None:
    rank = open_profile(excerpts.mindspore_2023(tmp_path)).rank(0)
    assert rank.span_ns[0] == 56635864386800
    (stream,) = [track for track in rank.tracks if track.kind is TrackKind.STREAM]
    assert rank.slices(stream.id).duration_ns.tolist() == [12_500, 2_000]
    kernels = rank.kernels()
    assert kernels is not None
    assert len(kernels) == 2


@pytest.mark.parametrize("make", [excerpts.database, excerpts.mindspore_2023, excerpts.links])
def test_reading_leaves_the_folder_as_it_was(make: Callable[[Path], Path], tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    folder = make(tmp_path)
    before = content()
    rank = open_profile(folder, cache=tmp_path.parent / "cache").rank(0)
    for read in (rank.kernels, rank.allocations, rank.steps, rank.links, rank.overlap):
        read()
    assert content() == before
