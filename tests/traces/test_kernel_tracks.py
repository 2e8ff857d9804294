"""A kernel table without a trace still has a timeline: its kernels, stream by stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memplan.traces import open_profile
from memplan.traces.profile import TrackKind

HEADER = "Name,Type,Accelerator Core,Stream ID,Start Time(us),Duration(us),Input Shapes,aic_mac_time(us)\n"
ROWS = (
    'mm1,MatMul,AI_CORE,2,1764246877073569.640,10.5,"4,4;4,4",3.25\n'
    'add1,Add,AI_VECTOR_CORE,7,1764246877073570.000,2,"4",N/A\n'
    "hcom_allReduce__1,hcom_allReduce_,HCCL,N/A,1764246877073600.000,5,N/A,N/A\n"
    'mm2,MatMul,AI_CORE,2,1764246877073590.000,1,"4,4;4,4",0\n'
)


def write(folder: Path, rows: str = ROWS) -> Path:
    (folder / "kernel_details.csv").write_text(HEADER + rows)
    return folder


def test_every_stream_of_a_kernel_table_is_a_track_and_collectives_are_one(tmp_path: Path) -> None:
    rank = open_profile(write(tmp_path)).rank(0)
    assert {(track.label, track.kind, track.count) for track in rank.tracks} == {
        ("Ascend Hardware / Stream 2", TrackKind.STREAM, 2),
        ("Ascend Hardware / Stream 7", TrackKind.STREAM, 1),
        ("HCCL / Communication", TrackKind.COMMUNICATION, 1),
    }
    assert sum(track.count for track in rank.tracks) == 4


def test_their_slices_have_the_kernels_names_types_and_exact_times(tmp_path: Path) -> None:
    rank = open_profile(write(tmp_path)).rank(0)
    track = next(track for track in rank.tracks if track.thread == "Stream 2")
    slices = rank.slices(track.id)
    assert [slices.names[code] for code in slices.name] == ["mm1", "mm2"]
    assert [slices.categories[code] for code in slices.category] == ["MatMul", "MatMul"]
    np.testing.assert_array_equal(slices.start_ns, [1764246877073569640, 1764246877073590000])
    np.testing.assert_array_equal(slices.duration_ns, [10_500, 1_000])


def test_what_else_the_table_says_is_a_slices_arguments(tmp_path: Path) -> None:
    rank = open_profile(write(tmp_path)).rank(0)
    track = next(track for track in rank.tracks if track.thread == "Stream 2")
    assert rank.arguments(track.id, 1764246877073569640) == {
        "core": "AI_CORE", "input shapes": "4,4;4,4", "aic_mac_time(us)": 3.25,
    }  # fmt: skip
    vector = next(track for track in rank.tracks if track.thread == "Stream 7")
    assert "aic_mac_time(us)" not in rank.arguments(vector.id, 1764246877073570000)


def test_a_note_says_where_the_timeline_comes_from(tmp_path: Path) -> None:
    profile = open_profile(write(tmp_path))
    assert profile.rank(0).tracks
    assert any("made of its kernels" in note.text for note in profile.notes)


def test_a_trace_with_slices_is_left_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "trace_view.json").write_text(
        '[{"ph":"X","pid":1,"tid":2,"ts":"1764246877073569.640","dur":1,"name":"a"}]'
    )
    profile = open_profile(tmp_path)
    assert [track.count for track in profile.rank(0).tracks] == [1]
    assert not any("made of its kernels" in note.text for note in profile.notes)


@pytest.mark.parametrize("rows", ["", "mm,MatMul,AI_CORE,2,N/A,N/A,N/A,N/A\n"])
def test_a_table_without_kernels_has_no_tracks(rows: str, tmp_path: Path) -> None:
    assert not open_profile(write(tmp_path, rows)).rank(0).tracks
