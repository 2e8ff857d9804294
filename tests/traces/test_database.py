"""Profiler databases give the same profile as text: the same schema, and the sums of their own summaries."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from memplan.traces.profile import TrackKind
from memplan.traces.rank import RankProfile
from memplan.traces.tables import sqlite
from tests.traces.whole import read_whole

DB = "profiles/alexnet-ddp-2rank/db"
TEXT = "profiles/alexnet-ddp-2rank/text"


@pytest.mark.parametrize("level", ["level0", "level2"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_overlap_made_again_equals_the_summary_of_the_run(shared_data: Path, level: str, rank: int) -> None:
    profile = open_profile(shared_data / DB / level).rank(rank)
    overlap = profile.overlap()
    (step,) = profile.steps()
    assert overlap is not None
    assert (overlap.computing_ns, overlap.communication_ns) == (step.computing_ns, step.communication_ns)
    assert overlap.communication_not_overlapped_ns == step.communication_not_overlapped_ns
    assert overlap.free_ns == step.free_ns


@pytest.mark.parametrize("level", ["level0", "level2"])
def test_text_and_database_have_the_same_schema(shared_data: Path, level: str) -> None:
    text, data = (open_profile(shared_data / form / level).rank(0) for form in (TEXT, DB))
    assert groups(text) == groups(data)
    labels = {track.label for track in text.tracks if track.kind is TrackKind.COUNTER and track.process != "QoS"}
    assert labels == {track.label for track in data.tracks if track.kind is TrackKind.COUNTER}
    one, two = text.kernels(), data.kernels()
    assert one is not None
    assert two is not None
    # Two runs of one program: the same kernels, though communication ops are numbered anew.
    for field in ("name", "type", "core", "input_shapes", "input_dtypes", "output_shapes", "output_dtypes"):
        left, right = (
            sorted(
                value for value, name in zip(getattr(kernels, field), kernels.name, strict=True) if "hcom" not in name
            )
            for kernels in (one, two)
        )
        assert left == right, field
    assert {"PTA", "PTA+GE", "GE", "APP", "HCCL", "RUNTIME"} <= set(text.memory_components()) & set(
        data.memory_components()
    )
    for component in ("PTA", "GE", "APP"):
        left_curve, right_curve = text.memory(component), data.memory(component)
        assert left_curve is not None
        assert right_curve is not None
        assert (left_curve.allocated is None) == (right_curve.allocated is None)
        assert left_curve.device == right_curve.device


def groups(rank: RankProfile) -> set[tuple[TrackKind, str]]:
    # QoS sampling is not in these databases; the level 0 trace leaves the CANN layer's slices out.
    return {
        (track.kind, track.process)
        for track in rank.tracks
        if track.process not in ("QoS", "CANN") and "Plane" not in track.thread
    }


def test_memory_totals_of_the_allocator_agree_between_forms(shared_data: Path) -> None:
    text, data = (open_profile(shared_data / form / "level2").rank(0) for form in (TEXT, DB))
    for rank in (text, data):
        curve = rank.memory("PTA")
        assert curve is not None
        assert curve.reserved is not None
        assert curve.reserved.max() == 1452 * 2**20, "both runs reserve 1452 MiB"
        assert rank.allocations() is not None
        assert len(rank.allocations() or ()) == 184


def test_hardware_counters_are_in_microseconds_as_in_text(shared_data: Path) -> None:
    text, data = (open_profile(shared_data / form / "level2").rank(0).kernels() for form in (TEXT, DB))
    assert text is not None
    assert data is not None
    assert set(text.pmu) - set(data.pmu) == {"cube_utilization(%)"}
    assert np.nanmean(data.pmu["aiv_vec_time(us)"]) == pytest.approx(np.nanmean(text.pmu["aiv_vec_time(us)"]), rel=0.05)
    assert data.block_count[0] == text.block_count[0] == 32


def test_flows_and_arguments_come_from_the_tables(shared_data: Path) -> None:
    rank = open_profile(shared_data / DB / "level2").rank(0)
    stream = next(track for track in rank.tracks if track.thread == "Stream 2")
    slices = rank.slices(stream.id)
    row = next(row for row in range(len(slices)) if slices.names[slices.name[row]] == "trans_TransData_1")
    at = int(slices.start_ns[row])
    assert {flow.category for flow in rank.flows(stream.id, at)} == {"HostToDevice", "async_npu"}
    assert rank.arguments(stream.id, at)["streamId"] == 2
    assert rank.chip == "Ascend910B"


def test_where_both_forms_are_the_choice_is_told(shared_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared_data / TEXT / "level2/rank0_ascend_pt", tmp_path / "rank0_ascend_pt"))
    source = shared_data / DB / "level2/rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/ascend_pytorch_profiler_0.db"
    shutil.copy(source, folder / "ASCEND_PROFILER_OUTPUT")
    profile = open_profile(folder)
    assert len(profile.rank(0).tracks) == 50
    assert any("not read: the text files beside it" in note.text for note in profile.notes)


def test_nothing_is_written_beside_a_database(shared_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shared_data / DB / "level2/rank0_ascend_pt", tmp_path / "rank0_ascend_pt"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    read_whole(open_profile(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_columns_of_other_versions(tmp_path: Path) -> None:
    """`blockNum` for `blockDim`, columns that other tools add, tables that are not there."""
    path = tmp_path / "ascend_mindspore_profiler_3.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT);
            INSERT INTO STRING_IDS VALUES (1, 'MatMul_1'), (2, 'MatMul'), (3, 'AI_CORE');
            CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, deviceId INTEGER, connectionId INTEGER,
                globalTaskId INTEGER, taskType INTEGER, streamId INTEGER, depth INTEGER, waitNs INTEGER);
            INSERT INTO TASK VALUES (1000, 1500, 4, 7, 0, 3, 2, 0, 0), (1600, 1700, 4, 8, 1, 3, 2, NULL, NULL);
            CREATE TABLE COMPUTE_TASK_INFO (name INTEGER, globalTaskId INTEGER, blockNum INTEGER, opType INTEGER,
                taskType INTEGER);
            INSERT INTO COMPUTE_TASK_INFO VALUES (1, 0, 20, 2, 3);
            """
        )
    connection.close()
    profile = open_profile(tmp_path)
    assert (profile.producer, profile.ranks) == ("MindSpore", [3])
    rank = profile.rank(3)
    kernels = rank.kernels()
    assert kernels is not None
    assert (kernels.name[0], kernels.type[0], kernels.block_count[0], kernels.stream[0]) == (
        "MatMul_1",
        "MatMul",
        20,
        2,
    )
    assert rank.device == "NPU:4"
    (stream,) = [track for track in rank.tracks if track.kind is TrackKind.STREAM]
    assert stream.count == 2
    overlap = rank.overlap()
    assert overlap is not None
    assert (overlap.computing_ns, overlap.communication_ns, overlap.free_ns) == (500, 0, 0)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ascend_pytorch_profiler_0.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    with pytest.raises(InputError, match="SQLite"):
        open_profile(tmp_path).rank(0).kernels()


def test_a_database_without_tables_is_noted(tmp_path: Path) -> None:
    (tmp_path / "ascend_pytorch_profiler_0.db").write_bytes(b"")
    profile = open_profile(tmp_path)
    assert not profile.rank(0).tracks
    assert [note.text for note in profile.notes if "tables" in note.text] == ["skipped: the database holds no tables"]


@pytest.mark.parametrize("share", [0.97, 0.5, 0.2])
def test_of_a_database_that_was_cut_short_what_is_left_is_read(share: float, shared_data: Path, tmp_path: Path) -> None:
    whole = shared_data / DB / "level2" / "rank0_ascend_pt"
    folder = Path(shutil.copytree(whole, tmp_path / "rank0_ascend_pt"))
    database = next(folder.rglob("ascend_pytorch_profiler_0.db"))
    content = database.read_bytes()[: int(database.stat().st_size * share)]
    database.write_bytes(content)
    profile = open_profile(folder)
    found = sum(track.count for track in profile.rank(0).tracks)
    assert 0 < found <= sum(track.count for track in open_profile(whole).rank(0).tracks)
    assert any("cut short" in note.text for note in profile.notes)
    assert database.read_bytes() == content
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in whole.rglob("*"))


def test_columns_of_a_table_that_is_damaged_are_of_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Went wrong once: numbers and quantities were read one after the other, and one reading got further."""
    path = tmp_path / "ascend_pytorch_profiler_0.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE TASK_PMU_INFO (globalTaskId INTEGER, name INTEGER, value)")
        rows = [(row, 7, f"{row}.5" if row % 2 else None) for row in range(10)]
        connection.executemany("INSERT INTO TASK_PMU_INFO VALUES (?, ?, ?)", rows)
    connection.close()
    asked: list[tuple[Any, ...]] = []
    read = sqlite.Database._blocks

    def noted(self: sqlite.Database, *what: Any) -> Any:
        asked.append(what)
        return read(self, *what)

    monkeypatch.setattr(sqlite.Database, "_blocks", noted)
    database = sqlite.Database(path, Notebook(tmp_path))
    (task, name), (value, absent) = database.measured("TASK_PMU_INFO", ("globalTaskId", "name"), ("value", "other"))
    assert task.tolist() == list(range(10))
    assert set(name.tolist()) == {7}
    assert value[1::2].tolist() == [1.5, 3.5, 5.5, 7.5, 9.5]
    assert np.isnan(value[::2]).all()
    assert np.isnan(absent).all()
    assert len(asked) == 1


def test_measured_columns_are_never_all_objects_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Went wrong once: a window stood still while millions of rows became an array in one call."""
    path = tmp_path / "ascend_pytorch_profiler_0.db"
    rows = 5 * sqlite._ROWS + 3
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE TASK_PMU_INFO (globalTaskId INTEGER, name INTEGER, value)")
        connection.executemany("INSERT INTO TASK_PMU_INFO VALUES (?, 7, ?)", ((row, row / 4) for row in range(rows)))
    longest = 0
    array = np.array

    def noted(content: Any, *rest: Any, **named: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(content) if hasattr(content, "__len__") else 0)
        return array(content, *rest, **named)

    monkeypatch.setattr(np, "array", noted)
    database = sqlite.Database(path, Notebook(tmp_path))
    (task, _), (value,) = database.measured("TASK_PMU_INFO", ("globalTaskId", "name"), ("value",))
    monkeypatch.undo()
    assert 0 < longest <= sqlite._ROWS
    assert task.tolist() == list(range(rows))
    assert value[-1] == (rows - 1) / 4
