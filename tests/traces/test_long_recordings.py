"""Recordings of hours: bounded memory, with every peak and trough where it was."""

from __future__ import annotations

import pickle
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.core.arrays import Int64s
from memplan.core.progress import silent
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from memplan.traces.profile import MemoryCurve
from memplan.traces.readers import curve_samples
from memplan.traces.readers.curve_samples import CurveSamples, bounded
from memplan.traces.readers.memory_tables import curves_of
from memplan.traces.readers.snapshot import SnapshotReader
from memplan.traces.tables import csv_table
from memplan.traces.tables.text_table import TextTable

VALUES = st.lists(st.tuples(st.integers(-1, 50), st.integers(-1, 50)), min_size=1, max_size=400)


def added(rows: list[tuple[int, int]], most: int, at_once: int) -> tuple[CurveSamples, list[tuple[int, ...]]]:
    """Samples that were added some rows at a time, and all rows with their times."""
    samples = CurveSamples(most)
    every: list[tuple[int, ...]] = [(time, *row) for time, row in enumerate(rows)]
    for first in range(0, len(every), at_once):
        samples.add(*np.array(every[first : first + at_once], dtype=np.int64).T)
    return samples, every


@given(rows=VALUES, at_once=st.integers(1, 90))
def test_what_is_kept_are_real_samples_with_all_extremes(rows: list[tuple[int, int]], at_once: int) -> None:
    samples, every = added(rows, 64, at_once)
    kept = list(zip(*(column.tolist() for column in samples.columns()), strict=True))
    assert samples.seen == len(every)
    assert len(kept) <= 64 + at_once
    assert set(kept) <= set(every)
    assert kept == sorted(kept)
    for first in range(0, len(every), samples.bucket):
        bucket = every[first : first + samples.bucket]
        here = [row for row in kept if bucket[0][0] <= row[0] <= bucket[-1][0]]
        for place in (1, 2):
            assert max(row[place] for row in here) == max(row[place] for row in bucket)
            told = [row[place] for row in bucket if row[place] >= 0]
            assert not told or min(row[place] for row in here if row[place] >= 0) == min(told)
    if len(every) <= 64:
        assert kept == every


def test_a_curve_that_is_too_long_keeps_its_peak() -> None:
    levels = np.arange(3 * curve_samples.MOST_SAMPLES, dtype=np.int64) % 1009
    levels[777_777] = 5000
    curve, bucket = bounded(MemoryCurve("PTA", "NPU:0", np.arange(len(levels)), levels, None, None))
    assert bucket > 1
    assert len(curve.time_ns) <= curve_samples.MOST_SAMPLES
    assert curve.allocated is not None
    assert curve.reserved is None
    assert int(curve.time_ns[curve.allocated.argmax()]) == 777_777


def parts(count: int) -> Iterator[TextTable]:
    """A memory record of `count` parts with 4,096 samples each."""
    for part in range(count):
        rows = range(part * 4096, (part + 1) * 4096)
        yield TextTable(
            Path("memory_record.csv"),
            {
                "Component": ["PTA"] * len(rows),
                "Timestamp(us)": [f"{row}.125" for row in rows],
                "Total Allocated(MB)": [str(row % 97) for row in rows],
                "Total Reserved(MB)": ["100"] * len(rows),
            },
            len(rows),
        )


def peak_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    monkeypatch.setattr(CurveSamples.__init__, "__defaults__", (1 << 13,))
    tracemalloc.start()
    try:
        (curve,) = curves_of(Path("memory_record.csv"), parts(count), 1 << 20, Notebook(Path()))
        assert curve.allocated is not None
        assert int(curve.allocated.max()) == 96 << 20
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = peak_bytes(monkeypatch, 8), peak_bytes(monkeypatch, 32)
    assert long < 1.25 * short


HEADER = "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Total Active(MB),Stream Ptr,Device Type"


def record(rows: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    lines = [HEADER]
    for row in range(rows):
        lines.append(f"PTA,{1736412474000000 + row * 7}.{row % 1000:03d}\t,{rng.randrange(9000) / 8},2000.5,,17,NPU:0")
        if row % 50 == 0:
            lines.append(f"APP,{1736412474000000 + row * 7}.5\t,,2109.5,,,NPU:0")
    return lines


def curves_in(folder: Path, lines: list[str]) -> dict[str, tuple[Int64s, ...]]:
    folder.mkdir(exist_ok=True)
    (folder / "memory_record.csv").write_text("\n".join(lines) + "\n")
    curves = open_profile(folder).rank(0).memory_curves()
    absent = np.full(1, -1, dtype=np.int64)
    return {
        name: (curve.time_ns, *(absent if part is None else part for part in (curve.allocated, curve.reserved)))
        for name, curve in curves.items()
    }


@pytest.mark.parametrize("odd", [None, "PTA,17364124,3", 'PTA,1736412474999999.1,"12.5",2000.5,,17,NPU:0', "PTA,x,y,z"])
def test_large_records_read_as_small_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str | None) -> None:
    """Also where the file is out of order far behind its beginning."""
    lines = record(60_000, 3)
    if odd is not None:
        lines.insert(50_000, odd)
    small = curves_in(tmp_path / "small", lines)
    monkeypatch.setattr(csv_table, "_LARGE", 1000)
    large = curves_in(tmp_path / "large", lines)
    assert small.keys() == large.keys() == {"APP", "PTA"}
    for name, columns in small.items():
        for ours, theirs in zip(columns, large[name], strict=True):
            assert np.array_equal(ours, theirs), name


def test_thinning_is_noted_and_keeps_peak_and_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = record(6000, 5)
    whole = curves_in(tmp_path / "whole", lines)["PTA"]
    monkeypatch.setattr(CurveSamples.__init__, "__defaults__", (1024,))
    (tmp_path / "thin").mkdir()
    (tmp_path / "thin" / "memory_record.csv").write_text("\n".join(lines) + "\n")
    profile = open_profile(tmp_path / "thin")
    thin = profile.rank(0).memory("PTA")
    assert thin is not None
    assert thin.allocated is not None
    assert 300 < len(thin.time_ns) <= 1024
    assert thin.allocated.max() == whole[1].max()
    assert thin.allocated.min() == whole[1].min()
    assert (thin.time_ns[0], thin.time_ns[-1]) == (whole[0][0], whole[0][-1])
    assert any("6,000 samples of PTA" in note.text for note in profile.notes)


def test_blocks_of_a_snapshot_are_found_without_a_list_of_its_events(tmp_path: Path) -> None:
    events = [
        {
            "action": "alloc" if row % 2 == 0 else "free_completed", "addr": (1 << 40) + row // 2 * 512,
            "size": 512 + row, "time_us": 1_700_000_000_000_000 + row,
            "frames": [{"filename": "/job/a/model/with/a/long/name/attention.py", "line": row % 50, "name": "forward"}],
        }
        for row in range(20_000)
    ]  # fmt: skip
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps({"segments": [], "device_traces": [events]}))
    reader = SnapshotReader(path, Notebook(tmp_path))
    assert reader.memory_curves(silent)
    tracemalloc.start()
    try:
        found = reader.allocations(silent)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert len(found) == 10_000
    assert len(set(found.name)) == 25
    assert peak / len(events) < 150, f"{peak / len(events):.0f} bytes for each event"
