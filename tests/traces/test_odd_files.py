"""Trouble that files meet on their way: copies in copies, renamed files, exports in one file, unclosed databases."""

from __future__ import annotations

import gzip
import json
import math
import os
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.tables import csv_table
from memplan.traces.timeline import events
from tests.traces.test_field_kinds import BEGIN_US, HEADERS, kernel_times, output_folder, rows_of, table, texts

KERNELS = 8
RECORD = "Component,Timestamp(us),Total Allocated({0}),Total Reserved({0}),Device Type"


def slices(count: int = KERNELS) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": 7, "tid": 0, "args": {"name": "Ascend Hardware"}}
    ]
    for number in range(count):
        time = f"{BEGIN_US + 100 * number}.125"
        found.append({"ph": "X", "name": f"MatMul{number}", "pid": 7, "tid": 2, "ts": time, "dur": 50.125, "args": {}})
    return found


def written(root: Path) -> Path:
    output = output_folder(root)
    (output / "kernel_details.csv").write_text(table(rows_of(KERNELS)))
    (output / "trace_view.json").write_text(json.dumps(slices()))
    return output


def zipped(root: Path, name: str) -> Path:
    """All below `root` as an archive in its place."""
    with zipfile.ZipFile(root / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file() and file.name != name:
                archive.write(file, file.relative_to(root))
    for entry in root.iterdir():
        if entry.name != name:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return root / name


def count_in(path: Path) -> int:
    return len(kernel_times(open_profile(path)))


@pytest.mark.parametrize("by_path", [True, False])
def test_an_archive_within_an_archive_is_read(tmp_path: Path, by_path: bool) -> None:
    output = written(tmp_path)
    for name in ("kernel_details.csv", "trace_view.json"):
        with gzip.open(output / f"{name}.gz", "wb") as packed:
            packed.write((output / name).read_bytes())
        (output / name).unlink()
    zipped(tmp_path, "run.zip")
    outer = zipped(tmp_path, "all.zip")
    assert count_in(outer if by_path else tmp_path) == KERNELS


def encrypted(path: Path) -> None:
    """Mark every entry as encrypted."""
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("trouble", "words"), [(encrypted, "encrypted"), (cut, "cut off"), (lambda path: path.write_bytes(b""), "cut off")]
)
def test_an_archive_that_cannot_be_read_is_refused_by_its_own_reason(
    tmp_path: Path, trouble: Callable[[Path], object], words: str
) -> None:
    written(tmp_path)
    trouble(zipped(tmp_path, "run.zip"))
    with pytest.raises(InputError, match=words):
        open_profile(tmp_path)


@pytest.mark.parametrize("name", ["run.7z", "run.rar", "run.tar.zst", "kernel_details.csv.lz4"])
def test_other_packers_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"7z\xbc\xaf")
    with pytest.raises(InputError, match="packed in a way that is not read"):
        open_profile(tmp_path)
    with pytest.raises(InputError, match="packed in a way that is not read"):
        open_profile(tmp_path / name)


def test_a_cut_archive_keeps_what_came_before(tmp_path: Path) -> None:
    output = written(tmp_path)
    (output / "zz.csv").write_bytes(os.urandom(1 << 16))
    with tarfile.open(tmp_path / "run.tar.gz", "w:gz") as archive:
        archive.add(output.parent, output.parent.name)
    shutil.rmtree(output.parent)
    cut(tmp_path / "run.tar.gz")
    profile = open_profile(tmp_path)
    assert "up to the damage only" in texts(profile)
    assert len(kernel_times(profile)) == KERNELS


def test_links_in_circles_lose_no_other_file(tmp_path: Path) -> None:
    output = written(tmp_path)
    (output / "a.csv").symlink_to(output / "a.csv")
    (output / "loop").symlink_to(tmp_path)
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == KERNELS
    assert "a.csv: not read: a link to itself" in texts(profile)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kernel_details.csv.txt", "rename it to kernel_details.csv"),
        ("trace_view.json.txt", "rename it to trace_view.json"),
        ("kernel_details.xlsx", "save its sheet as CSV"),
        ("kernel_details.csv.bak", "unknown name"),
    ],
)
def test_renamed_files_are_named(tmp_path: Path, name: str, words: str) -> None:
    output = written(tmp_path)
    (output / name).write_bytes(b"PK")
    assert f"{name}: not read" in texts(open_profile(tmp_path))
    assert words in texts(open_profile(tmp_path))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("new", [0, 3])
def test_two_exports_in_one_table_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, new: int
) -> None:
    if large:
        monkeypatch.setattr(csv_table, "_LARGE", 10)
    output = output_folder(tmp_path)
    (output / "kernel_details.csv").write_text(table(rows_of(KERNELS)) + table(rows_of(KERNELS + new)))
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == KERNELS + new
    assert f"its header comes again in line {KERNELS + 2}; {KERNELS} rows" in texts(profile)


@pytest.mark.parametrize("large", [False, True])
def test_a_trace_written_twice_into_its_file_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    from memplan.traces.readers import trace_file

    if large:
        monkeypatch.setattr(trace_file, "SMALL", 10)
    output = output_folder(tmp_path)
    (output / "trace_view.json").write_text(2 * (json.dumps(slices()) + "\n"))
    profile = open_profile(tmp_path, cache=tmp_path / "cache")
    assert sum(track.count for track in profile.rank(0).tracks) == KERNELS
    assert f"{KERNELS} slices that this file itself repeats" in texts(profile)


def test_equal_slices_of_a_trace_stay(tmp_path: Path) -> None:
    """Marks without length, and a few equal slices, are what a trace may hold."""
    output = output_folder(tmp_path)
    found = slices()
    (output / "trace_view.json").write_text(json.dumps([*found, found[1], found[1]]))
    assert sum(track.count for track in open_profile(tmp_path).rank(0).tracks) == KERNELS + 2


@pytest.mark.parametrize("large", [False, True])
def test_counters_without_a_number_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    from memplan.traces.readers import trace_file

    if large:
        monkeypatch.setattr(trace_file, "SMALL", 10)
    counters = [
        {"ph": "C", "name": "HBM", "pid": 9, "tid": 0, "ts": BEGIN_US + n, "args": {"MB/s": n if n % 3 else math.nan}}
        for n in range(30)
    ]
    output = output_folder(tmp_path)
    (output / "trace_view.json").write_text(json.dumps([*slices(), *counters]))
    profile = open_profile(tmp_path, cache=tmp_path / "cache")
    assert sum(track.count for track in profile.rank(0).tracks) == KERNELS + 20
    assert f"10 {str(events.unusable_note(10)).partition(' ')[2]}" in texts(profile)


def test_steps_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    rows = [(f"Step {n}" if n % 2 else "1.0", *row[1:]) for n, row in enumerate(rows_of(KERNELS))]
    output = output_folder(tmp_path)
    (output / "kernel_details.csv").write_text(table(rows))
    profile = open_profile(tmp_path)
    kernels = profile.rank(0).kernels()
    assert kernels is not None
    assert sorted(kernels.step.tolist()) == [-1] * 4 + [1] * 4
    assert "4 kernels in steps that are no numbers ('Step 1')" in texts(profile)


@pytest.mark.parametrize(("unit", "nbytes"), [("MB", 2**20), ("KB", 2**10), ("GB", 2**30), ("Byte", 1)])
def test_sizes_follow_the_unit_of_their_header(tmp_path: Path, unit: str, nbytes: int) -> None:
    output = output_folder(tmp_path)
    (output / "memory_record.csv").write_text(f"{RECORD.format(unit)}\nPTA,{BEGIN_US},3,4,NPU:0\n")
    curve = open_profile(tmp_path).rank(0).memory("PTA")
    assert curve is not None
    assert curve.allocated is not None
    assert curve.allocated.tolist() == [3 * nbytes]


def test_bars_separate_as_well(tmp_path: Path) -> None:
    output = output_folder(tmp_path)
    rows = [row[:-1] for row in rows_of(KERNELS)]
    (output / "kernel_details.csv").write_text("\n".join("|".join(row) for row in (HEADERS[:-1], *rows)) + "\n")
    assert count_in(tmp_path) == KERNELS


# Databases


def database(root: Path) -> Path:
    path = output_folder(root) / "ascend_pytorch_profiler_0.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, globalTaskId INTEGER, streamId INTEGER)")
        db.execute("CREATE TABLE COMPUTE_TASK_INFO (name INTEGER, globalTaskId INTEGER, opType INTEGER)")
        db.execute("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)")
        db.execute("INSERT INTO STRING_IDS VALUES (0, 'MatMul')")
        for n in range(KERNELS):
            db.execute("INSERT INTO TASK VALUES (?, ?, ?, 2)", (10**18 + n * 100_000, 10**18 + n * 100_000 + 50_125, n))
            db.execute("INSERT INTO COMPUTE_TASK_INFO VALUES (0, ?, 0)", (n,))
    return path


def test_a_database_is_read_with_its_open_log(tmp_path: Path) -> None:
    path = database(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("DELETE FROM COMPUTE_TASK_INFO WHERE globalTaskId >= 6")
        before = sorted(file.name for file in path.parent.iterdir())
        profile = open_profile(tmp_path)
        assert len(kernel_times(profile)) == 6
        assert "read together with its write-ahead log" in texts(profile)
        assert sorted(file.name for file in path.parent.iterdir()) == before


def test_an_empty_log_says_nothing_and_a_journal_is_not_obeyed(tmp_path: Path) -> None:
    path = database(tmp_path)
    path.with_name(path.name + "-wal").write_bytes(b"")
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == KERNELS
    assert not profile.notes
    path.with_name(path.name + "-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    profile = open_profile(tmp_path)
    assert len(kernel_times(profile)) == KERNELS
    assert "a change to it was cut off" in texts(profile)


def test_names_of_tables_and_columns_have_no_case(tmp_path: Path) -> None:
    path = database(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE TASK RENAME TO t_")
        db.execute("ALTER TABLE t_ RENAME TO task")
        db.execute("ALTER TABLE task RENAME COLUMN startNs TO STARTNS")
    assert count_in(tmp_path) == KERNELS


def test_tasks_without_the_table_that_names_them_are_told(tmp_path: Path) -> None:
    path = database(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE COMPUTE_TASK_INFO RENAME TO COMPUTE_TASK_INFO_V2")
    profile = open_profile(tmp_path)
    assert not kernel_times(profile)
    assert f"what its {KERNELS} tasks compute is not known" in texts(profile)


def test_a_packed_database_is_refused_as_such(tmp_path: Path) -> None:
    path = database(tmp_path)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(InputError, match="is packed; unpack it with gunzip"):
        kernel_times(open_profile(tmp_path))


@pytest.mark.parametrize("content", ['{"model_type": "llama"}', '{"a": ', "[1, 2]", "hello", ""])
@pytest.mark.parametrize("name", ["settings.json", "settings.json.gz"])
def test_a_json_file_that_is_no_trace_is_no_profile(tmp_path: Path, name: str, content: str) -> None:
    """Went wrong once: any JSON file was a profile of one rank with nothing in it."""
    packed = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(InputError, match="is not a file of a CANN profile"):
        open_profile(tmp_path / name)


@pytest.mark.parametrize("name", ["renamed.json", "renamed.json.gz"])
@pytest.mark.parametrize("lost", [0, 40])
def test_a_renamed_trace_is_a_profile_even_cut_short(tmp_path: Path, name: str, lost: int) -> None:
    text = json.dumps({"displayTimeUnit": "ns", "traceEvents": slices(40)}).encode()
    packed = gzip.compress(text) if name.endswith(".gz") else text
    (tmp_path / name).write_bytes(packed[: len(packed) - lost])
    assert len(open_profile(tmp_path / name).ranks) == 1
