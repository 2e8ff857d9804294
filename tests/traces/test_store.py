"""Large traces are imported once, into the cache directory and nowhere else."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.profile import TrackKind
from memplan.traces.readers import trace_file
from memplan.traces.timeline import store
from memplan.traces.timeline.store import Store

SAMPLE = Path(str(resources.files("memplan.samples"))) / "llama_train_profile"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled profile; every trace counts as large."""
    monkeypatch.setattr(trace_file, "SMALL", 1000)
    return Path(shutil.copytree(SAMPLE, tmp_path / "rank0_ascend_pt"))


def everything(path: Path, cache: Path) -> dict[str, object]:
    """What a rank's timeline says, for comparing."""
    rank = open_profile(path, cache=cache).rank(0)
    found: dict[str, object] = {"tracks": list(rank.tracks), "overlap": rank.overlap(), "span": rank.span_ns}
    for track in rank.tracks:
        if track.kind is TrackKind.COUNTER:
            found[track.label] = [
                (s.name, s.unit, s.time_ns.tolist(), [float(f"{value:.12g}") for value in s.values])
                for s in rank.counters(track.id)
            ]
            continue
        slices = rank.slices(track.id)
        names = [slices.names[name] for name in slices.name.tolist()]
        kinds = [slices.categories[kind] for kind in slices.category.tolist()]
        at = int(slices.start_ns[0])
        found[track.label] = (
            slices.start_ns.tolist(), slices.duration_ns.tolist(), slices.depth.tolist(), names, kinds,
            rank.arguments(track.id, at), rank.flows(track.id, at),
        )  # fmt: skip
    return found


def test_stored_and_plain_timelines_are_the_same(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    imported = everything(profile, cache)
    reopened = everything(profile, cache)
    monkeypatch.setattr(trace_file, "SMALL", 1 << 40)
    assert imported == reopened == everything(profile, cache)


def test_the_source_folder_is_left_alone(profile: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in profile.rglob("*")}
    everything(profile, tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in profile.rglob("*")} == before


def test_a_changed_trace_is_imported_again(profile: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    everything(profile, cache)
    trace = profile / "ASCEND_PROFILER_OUTPUT/trace_view.json"
    trace.write_text('[{"ph":"X","name":"only","pid":1,"tid":2,"ts":"5.000","dur":1' + " " * 2000 + "}]")
    (track,) = open_profile(profile, cache=cache).rank(0).tracks
    assert track.count == 1
    assert len(Store(cache).entries()) == 2


@pytest.mark.parametrize("name", ["entry.json", "slices.start_ns.arrow", "strings.arrow"])
def test_a_broken_entry_is_replaced(profile: Path, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    wanted = everything(profile, cache)
    (entry,) = Store(cache).entries()
    file = entry.folder / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert everything(profile, cache) == wanted
    assert len(Store(cache).entries()) == 1


def test_a_failed_import_leaves_nothing_behind(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"

    def fail(path: Path, column: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", fail)
    opened = open_profile(profile, cache=cache)
    assert len(opened.rank(0).tracks) == 7, "held in memory instead"
    assert any("No space left" in note.text for note in opened.notes)
    assert list(cache.iterdir()) == []


def test_an_unwritable_cache_is_no_obstacle(profile: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    opened = open_profile(profile, cache=tmp_path / "file" / "cache")
    assert len(opened.rank(0).tracks) == 7
    assert any("can't be kept" in note.text for note in opened.notes)


def test_packed_traces_are_unpacked_into_the_cache(profile: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wanted = everything(profile, cache)
    trace = profile / "ASCEND_PROFILER_OUTPUT/trace_view.json"
    (trace.parent / "trace_view.json.gz").write_bytes(gzip.compress(trace.read_bytes()))
    trace.unlink()
    assert everything(profile, cache) == wanted
    assert everything(profile, cache) == wanted, "reopened"


def test_a_damaged_packed_trace_gives_what_can_be_unpacked(profile: Path, tmp_path: Path) -> None:
    trace = profile / "ASCEND_PROFILER_OUTPUT/trace_view.json"
    packed = gzip.compress(trace.read_bytes())
    (trace.parent / "trace_view.json.gz").write_bytes(packed[: len(packed) * 2 // 3])
    trace.unlink()
    opened = open_profile(profile, cache=tmp_path / "cache")
    assert len(opened.rank(0).tracks) >= 3
    assert any("damaged" in note.text for note in opened.notes)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memplan.traces.tables import gzip_files

    monkeypatch.setattr(gzip_files, "_HARMLESS", 1 << 20)
    (tmp_path / "trace_view.json.gz").write_bytes(gzip.compress(b"[" + b" " * (16 << 20) + b"]"))
    with pytest.raises(InputError, match="unpacks to far more"):
        _ = open_profile(tmp_path, cache=tmp_path / "cache").rank(0).tracks


def test_several_slices_of_one_export_are_one_timeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [{"ph": "M", "name": "process_name", "pid": 9, "args": {"name": "Ascend Hardware"}}]
    parts = []
    for part in range(12):
        events = [
            {
                "ph": "X",
                "name": f"op{part}",
                "pid": 9,
                "tid": 2,
                "ts": f"{part * 10 + n}.000",
                "dur": 1,
                "args": {"n": part},
            }
            for n in range(10)
        ]
        repeated = [{"ph": "X", "name": "both", "pid": 9, "tid": 2, "ts": "1000.000", "dur": 1}]
        parts.append(json.dumps([*names, *events, *repeated]))
        (tmp_path / f"msprof_slice_{part}_20260101000000.json").write_text(parts[-1])
    for small in (1 << 30, 10):
        monkeypatch.setattr(trace_file, "SMALL", small)
        opened = open_profile(tmp_path, cache=tmp_path / "cache")
        rank = opened.rank(0)
        (track,) = rank.tracks
        assert track.count == 121
        assert rank.slices(0).start_ns.tolist() == [*range(0, 120_000, 1000), 1_000_000]
        assert rank.arguments(0, 110_000) == {"n": 11}
        assert any("11 slices that further files" in note.text for note in opened.notes)


def test_listing_and_clearing(profile: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    everything(profile, cache)
    (cache / "abc.new-crashed").mkdir()
    (entry,) = Store(cache).entries()
    assert entry.sources[0].endswith("trace_view.json")
    assert entry.size > 10_000
    assert Store(cache).clear() >= entry.size
    assert list(cache.iterdir()) == []


def test_reopening_needs_no_compiler(profile: Path, tmp_path: Path) -> None:
    everything(profile, tmp_path / "cache")
    code = (
        "import sys; from pathlib import Path; from memplan.traces import open_profile\n"
        "from memplan.traces.readers import trace_file; trace_file.SMALL = 1000\n"
        f"rank = open_profile({str(profile)!r}, cache=Path({str(tmp_path / 'cache')!r})).rank(0)\n"
        "rank.slices(0); rank.busy_ns(0, *rank.span_ns); print('numba' in sys.modules, 'pandas' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False False\n"
    )


def test_importing_needs_no_pandas(profile: Path, tmp_path: Path) -> None:
    """What is installed beside makes a window stand still while it is imported, and nothing here needs it."""
    code = (
        "import sys; from pathlib import Path; from memplan.traces import open_profile\n"
        "from memplan.traces.readers import trace_file; trace_file.SMALL = 1000\n"
        f"open_profile({str(profile)!r}, cache=Path({str(tmp_path / 'cache')!r})).rank(0).span_ns\n"
        "print('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    assert len(Store(tmp_path / "cache").entries()) == 1


def test_numbers_in_the_store_are_mapped_not_read(profile: Path, tmp_path: Path) -> None:
    everything(profile, tmp_path / "cache")
    rank = open_profile(profile, cache=tmp_path / "cache").rank(0)
    assert not rank.slices(0).start_ns.flags.owndata
    assert rank.slices(0).start_ns.dtype == np.int64
