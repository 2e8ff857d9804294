"""Parts of a profile are read once, for whoever waits for them, and watched by whoever waits."""

from __future__ import annotations

import functools
import json
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memplan.core.errors import CancelledError
from memplan.core.progress import Progress, silent
from memplan.traces import open_profile
from memplan.traces.notes import Notebook
from memplan.traces.profile import Kernels, MemoryCurve, StepTimes
from memplan.traces.rank import RankProfile, RankReader
from memplan.traces.readers import text
from memplan.traces.summaries import summarise_ranks
from memplan.traces.tables import csv_table, sqlite
from memplan.traces.tables.text_table import TextTable
from memplan.traces.timeline.query import TimelineQuery

TOP = Path(__file__).resolve().parents[2]
THREADS = 16


class Watch:
    """The progress of a job: what it was told, and a way to cancel it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.stop = threading.Event()

    def __call__(self, done: int, total: int, what: str) -> None:
        if self.stop.is_set():
            raise CancelledError("cancelled")
        self.told.append(what)


class SlowReader(RankReader):
    """Counts how often each part is read, which takes a while."""

    def __init__(self) -> None:
        super().__init__(Notebook(Path("here")))
        self.read: Counter[str] = Counter()
        self.finish = threading.Event()
        self._lock = threading.Lock()

    def _slowly(self, what: str, progress: Progress) -> None:
        with self._lock:
            self.read[what] += 1
        deadline = time.monotonic() + 5
        while not self.finish.wait(0.002) and time.monotonic() < deadline:
            progress(1, 2, what)

    def device(self, progress: Progress) -> str:
        self._slowly("device", progress)
        return "NPU:0"

    def kernels(self, progress: Progress) -> Kernels | None:
        self._slowly("kernels", progress)
        return None

    def memory_curves(self, progress: Progress) -> dict[str, MemoryCurve]:
        self._slowly("memory", progress)
        return {}

    def steps(self, progress: Progress) -> list[StepTimes]:
        self._slowly("steps", progress)
        return []

    def timeline(self, kernels: Kernels | None, progress: Progress) -> TimelineQuery | None:
        self._slowly("timeline", progress)
        return None


@pytest.fixture
def reader() -> SlowReader:
    return SlowReader()


@pytest.fixture
def rank(reader: SlowReader) -> RankProfile:
    return RankProfile(0, lambda _: reader)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small profile of kernels, memory and a trace."""
    output = tmp_path / "rank0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    (output / "kernel_details.csv").write_text(
        "Name,Type,Accelerator Core,Start Time(us),Duration(us)\nm,MatMul,AI_CORE,100.000,5.000\n"
    )
    (output / "memory_record.csv").write_text(
        "Component,Timestamp(us),Total Allocated(MB),Total Reserved(MB),Device Type\nPTA,100.000,1,2,NPU:0\n"
    )
    events = [{"ph": "X", "name": "m", "pid": 1, "tid": 1, "ts": "100.000", "dur": 5.0, "args": {}}]
    (output / "trace_view.json").write_text(json.dumps(events))
    return output.parent


def test_a_part_read_late_reports_to_who_asks_for_it_now(folder: Path, tmp_path: Path) -> None:
    """Went wrong once: parts read late reported to the job that had opened the folder, long over."""
    rank = open_profile(folder, cache=tmp_path / "cache").rank(0)
    kernels, timeline = Watch(), Watch()
    assert rank.kernels(kernels) is not None
    assert kernels.told == ["kernel_details.csv"]
    assert rank.timeline(timeline) is not None
    assert "events" in timeline.told
    assert kernels.told == ["kernel_details.csv"]


def test_who_waits_can_cancel_and_the_next_who_asks_gets_the_part(folder: Path, tmp_path: Path) -> None:
    """Went wrong once: to cancel the job that waited did not reach what it waited for."""
    rank = open_profile(folder, cache=tmp_path / "cache").rank(0)
    cancelled = Watch()
    cancelled.stop.set()
    for part in (rank.kernels, rank.timeline, rank.memory_curves):
        with pytest.raises(CancelledError):
            part(cancelled)
    assert rank.kernels() is not None
    assert [track.count for track in rank.tracks] == [1]
    assert rank.memory_components() == ["PTA"]


def test_of_two_jobs_that_wait_for_one_part_either_can_be_cancelled(rank: RankProfile, reader: SlowReader) -> None:
    first, second, third = Watch(), Watch(), Watch()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(rank.timeline, watch) for watch in (first, second, third)]
        while not all(watch.told for watch in (first, second, third)):
            time.sleep(0.002)
        first.stop.set()
        with pytest.raises(CancelledError):
            jobs[0].result(5)
        second.stop.set()
        with pytest.raises(CancelledError):
            jobs[1].result(5)
        assert not jobs[2].done()
        reader.finish.set()
        assert jobs[2].result(5) is None
    assert rank.tracks == ()


def test_many_threads_read_each_part_once(rank: RankProfile, reader: SlowReader) -> None:
    """Went wrong once: from Python 3.12 on every thread read the part anew."""
    start = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        start.wait()
        for part in (rank.kernels, rank.memory_curves, rank.steps, rank.timeline):
            part(silent)
        assert rank.device == "NPU:0"
        assert rank.span_ns == (0, 0)

    reader.finish.set()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
    assert set(reader.read.values()) == {1}


def test_many_threads_read_each_file_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Went wrong once: from Python 3.12 on every thread read the file anew."""
    read: Counter[str] = Counter()
    start = threading.Barrier(THREADS)

    def counting(path: Path, notes: Notebook, unused: frozenset[str] = frozenset()) -> TextTable | None:
        read[path.name] += 1
        time.sleep(0.01)
        return csv_table.read_table(path, notes, unused)

    monkeypatch.setattr(text, "read_table", counting)
    profile = open_profile(folder, cache=tmp_path / "cache")

    def ask(_: int) -> tuple[object, object, object]:
        start.wait()
        rank = profile.rank(0)
        return rank, rank.kernels(), rank.timeline()

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask, range(THREADS)))
    assert len({tuple(map(id, parts)) for parts in found}) == 1
    assert read["kernel_details.csv"] == 1


@pytest.fixture
def strings(tmp_path: Path) -> Path:
    """A database of ten thousand strings, at which SQLite looks up often."""
    path = tmp_path / "ascend_pytorch_profiler_0.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE STRING_IDS (id INTEGER, value TEXT)")
        connection.executemany("INSERT INTO STRING_IDS VALUES (?, ?)", ((row, f"text {row}") for row in range(10_000)))
    connection.close()
    return path


def test_a_cancelled_reading_of_a_database_is_no_damage(strings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_STEPS", 100)
    notes, cancelled = Notebook(strings.parent), Watch()
    database = sqlite.Database(strings, notes)
    cancelled.stop.set()
    with pytest.raises(CancelledError):
        database.watched(cancelled).numbers("STRING_IDS", "id")
    with pytest.raises(CancelledError):
        _ = database.watched(cancelled).strings
    assert notes.notes == ()
    assert len(database.strings) == 10_000


def test_each_who_reads_a_database_is_told_of_its_own_tables(strings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_STEPS", 100)
    database = sqlite.Database(strings, Notebook(strings.parent))
    start = threading.Barrier(THREADS)

    def read(number: int) -> tuple[int, bool]:
        watch = Watch()
        if number % 2:
            watch.stop.set()
        start.wait()
        try:
            return len(database.watched(watch).numbers("STRING_IDS", "id")[0]), False
        except CancelledError:
            return 0, True

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(read, range(THREADS)))
    assert found == [(10_000, False), (0, True)] * (THREADS // 2)


def test_to_sum_ranks_up_in_one_process_can_be_stopped_within_a_rank(folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if what == "memory_record.csv":
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        summarise_ranks(folder, workers=1, progress=stop, cache=tmp_path / "cache")


def test_nothing_rests_on_a_cached_property_which_has_no_lock_from_python_3_12_on() -> None:
    """Went wrong once: cached properties were shared by threads."""
    users = [
        path.relative_to(TOP).as_posix()
        for folder in ("traces", "gui")
        for path in (TOP / folder).rglob("*.py")
        if functools.cached_property.__name__ in path.read_text(encoding="utf-8")
    ]
    assert users == []


def test_notes_from_many_threads_are_all_there(tmp_path: Path) -> None:
    notes, start = Notebook(tmp_path), threading.Barrier(THREADS)

    def write(number: int) -> None:
        start.wait()
        for line in range(50):
            notes.add(f"file {number}", f"line {line}")
            assert notes.notes

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, range(THREADS)))
    assert len(notes.notes) == THREADS * 50
