"""
How fast profiles are read, in how much memory, beside other libraries on the same files in the same run.

    python -m benchmarks.profiles [--work DIR] [--sizes 500 2000] [--fuzz 10000] [-o benchmarks/profiles.md]

Every measurement is a process of its own: wall and processor seconds are its own, and so is its peak memory. The
machine's load is printed beside them; with other work on the processors, compare processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.profile_files import write_kernels, write_memory, write_trace

MB = 10**6


class Stopwatch:
    """Wall and processor seconds of a block, children included."""

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, _cpu() - self._cpu

    def report(self, **more: object) -> dict[str, object]:
        """What is printed for one measurement."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
        return {"wall": self.wall, "cpu": self.cpu, "peak_mb": peak, **more}


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def parse_with_orjson(path: Path) -> dict[str, object]:
    """`orjson.loads` on the whole file."""
    import orjson

    data = path.read_bytes()
    with Stopwatch() as watch:
        events = orjson.loads(data)
    return watch.report(events=len(events))


def import_trace(path: Path, *, warm: bool) -> dict[str, object]:
    """Import into an empty cache; `warm`: with the library and its compiled code loaded by a small import before."""
    cache = path.parent.parent / f"cache-{os.getpid()}"
    if warm:
        small = path.parent.parent / "warm" / "trace_view.json"
        write_trace(small, 12 * MB)
        _open(small.parent, cache)
    with Stopwatch() as watch:
        tracks = _open(path.parent, cache).tracks
    shutil.rmtree(cache)
    return watch.report(slices=sum(track.count for track in tracks))


def _open(folder: Path, cache: Path) -> Any:
    from memplan.traces import open_profile

    rank = open_profile(folder, cache=cache).rank(0)
    _ = rank.tracks
    return rank


def reopen(folder: Path) -> dict[str, object]:
    """Open 5 million stored slices: the first time in a process and again; then ask."""
    started = time.perf_counter()
    from memplan.traces.timeline.query import TimelineQuery
    from memplan.traces.timeline.store import EntryKey, Store

    key, store = EntryKey("five-million", []), Store(folder / "store")
    if not (folder / "store").exists():
        _store_slices(store, key, 5_000_000)
        return {}

    def first_query() -> TimelineQuery:
        found = store.load(key)
        assert found is not None
        view = TimelineQuery(found[0], lambda _at, _size: {})
        span = view.span_ns
        assert span is not None
        view.slices(0, span[0], span[0] + 10**7)
        return view

    view = first_query()
    cold = time.perf_counter() - started
    with Stopwatch() as warm:
        first_query()
    span = view.span_ns
    assert span is not None
    rng = np.random.default_rng(0)
    starts = rng.integers(*span, 300).tolist()
    with Stopwatch() as ranges:
        for start in starts:
            view.slices(int(rng.integers(0, 48)), start, start + 10**7)
    with Stopwatch() as busy:
        for start in starts:
            view.busy_ns(3, start, start + (span[1] - span[0]) // 3)
    from memplan.traces.profile import TrackKind

    view.top_categories(TrackKind.STREAM, 20)
    with Stopwatch() as top:
        view.top_categories(TrackKind.STREAM, 20)
    return {
        "cold_ms": cold * 1e3, "warm_ms": warm.cpu * 1e3, "range_ms": ranges.cpu / 300 * 1e3,
        "busy_ms": busy.cpu / 300 * 1e3, "top_ms": top.cpu * 1e3,
    }  # fmt: skip


def _store_slices(store: Any, key: Any, count: int) -> None:
    """48 streams of nested slices with 3000 names."""
    from memplan.traces.timeline.events import Events, FlowRows, SampleRows, SliceRows
    from memplan.traces.timeline.tracks import build

    rng = np.random.default_rng(0)
    thread = rng.integers(0, 48, count).astype(np.int32)
    start = np.sort(rng.integers(0, 600 * 10**9, count))
    none, empty = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
    events = Events(
        ["", *(f"kernel {number}" for number in range(3000))],
        [("9", str(stream)) for stream in range(48)],
        SliceRows(
            start, rng.integers(100, 10**7, count), thread, rng.integers(1, 3001, count).astype(np.int32),
            rng.integers(1, 60, count).astype(np.int32), np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int32),
        ),
        SampleRows(none, empty, empty, empty, none, np.empty(0)),
        FlowRows(none, empty, empty, empty, none),
        [{"name": "process_name", "pid": "9", "args": {"name": "Ascend Hardware"}}],
    )  # fmt: skip
    store.save(key, build(events, {}), [], [])


def read_kernels(path: Path) -> dict[str, object]:
    """Read one table with pyarrow.csv and with memplan by turns; the least processor time of four rounds each."""
    from pyarrow import csv

    from memplan.traces import open_profile

    times: dict[str, list[float]] = {"pyarrow": [], "memplan": []}
    rows = {}
    for _ in range(5):
        with Stopwatch() as watch:
            rows["pyarrow"] = csv.read_csv(path).num_rows
        times["pyarrow"].append(watch.cpu)
        with Stopwatch() as watch:
            kernels = open_profile(path.parent).rank(0).kernels()
        times["memplan"].append(watch.cpu)
        assert kernels is not None
        rows["memplan"] = len(kernels)
        assert kernels.start_ns[1] == 1_790_000_000_000_083_333, "times are exact"
    assert rows["pyarrow"] == rows["memplan"]
    return {name: min(values[1:]) for name, values in times.items()} | {"rows": rows["memplan"]}


def read_memory(folder: Path, part: str) -> dict[str, object]:
    """Read the memory curves or the allocations of `folder`."""
    from memplan.traces import open_profile

    with Stopwatch() as watch:
        rank = open_profile(folder).rank(0)
        if part == "blocks":
            blocks = rank.allocations()
            assert blocks is not None
            kept = len(blocks)
        else:
            kept = sum(len(curve.time_ns) for curve in rank.memory_curves().values())
    return watch.report(kept=kept)


def sum_up(folder: Path, *, workers: int | None, dask: bool = False) -> dict[str, object]:
    """Summarise all ranks below `folder` into an empty cache."""
    from memplan.traces.summaries import summarise_ranks

    cache = folder.parent / f"cache-{os.getpid()}"
    if dask:
        from distributed import LocalCluster

        with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Stopwatch() as watch:
            found = summarise_ranks(folder, scheduler=cluster.scheduler_address, cache=cache)
    else:
        with Stopwatch() as watch:
            found = summarise_ranks(folder, workers=workers, cache=cache)
    shutil.rmtree(cache)
    digest = hash(json.dumps([(one.rank, one.slices, one.span_ns, str(one.ops), str(one.overlap)) for one in found]))
    return watch.report(ranks=len(found), errors=sum(one.error is not None for one in found), digest=digest)


def fuzz(data: Path, work: Path, count: int) -> dict[str, object]:
    """Read `count` damaged variants of real files."""
    from tests.traces.mutants import check, mutant, originals

    rng = random.Random(20260101)
    files = originals(data)
    outcomes: Counter[str] = Counter()
    folder = work / "fuzz"
    with Stopwatch() as watch:
        for _ in range(count):
            outcomes[check(mutant(rng, files), folder)] += 1
    return watch.report(**outcomes)


def _measured(arguments: argparse.Namespace, *command: object) -> dict[str, Any]:
    """One measurement in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.profiles", "--work", str(arguments.work), "--data", str(arguments.data)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*words, "--measure", *map(str, command)], check=True, capture_output=True, text=True, env=environment
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(" ".join(map(str, command)), found, f"load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return found


def _run(arguments: argparse.Namespace) -> str:
    work: Path = arguments.work
    lines = [
        "# Reading profiles",
        "",
        f"`python -m benchmarks.profiles` on {os.cpu_count()} processors ({platform.machine()}), Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start. Seconds are wall / processor.",
        "",
        "| what | seconds | peak MB | note |",
        "|---|---|---|---|",
    ]

    def row(what: str, found: dict[str, Any], note: str = "") -> None:
        lines.append(f"| {what} | {found['wall']:.2f} / {found['cpu']:.2f} | {found['peak_mb']:.0f} | {note} |")

    for size in arguments.sizes:
        path = work / f"trace-{size}" / "trace_view.json"
        write_trace(path, size * MB)
        real = path.stat().st_size
        limit = 300 + real / 4 / MB
        warm = _measured(arguments, "warm", path)
        cold = _measured(arguments, "cold", path)
        if size <= 500:
            peer = _measured(arguments, "orjson", path)
            row(f"{size} MB trace: orjson.loads", peer, f"{real / MB / peer['wall']:.0f} MB/s")
            ratio = f"{peer['wall'] / warm['wall']:.1f} times orjson, {peer['cpu'] / warm['cpu']:.1f} by processor"
            cold_ratio = f"{peer['wall'] / cold['wall']:.1f} times orjson, {peer['cpu'] / cold['cpu']:.1f} by processor"
        else:
            ratio, cold_ratio = f"{real / MB / warm['wall']:.0f} MB/s", f"{real / MB / cold['wall']:.0f} MB/s"
        row(f"{size} MB trace: import, library loaded", warm, f"{ratio}; {warm['slices']:,} slices and samples")
        row(f"{size} MB trace: import, fresh process", cold, f"{cold_ratio}; memory limit {limit:.0f} MB")
        shutil.rmtree(path.parent)
    _measured(arguments, "reopen", work)
    found = _measured(arguments, "reopen", work)
    lines += [
        f"| 5 million slices: fresh process to first answer | {found['cold_ms'] / 1e3:.2f} | | limit 1 s |",
        f"| 5 million slices: opened again | {found['warm_ms'] / 1e3:.4f} | | limit 0.05 s |",
        f"| 10 ms of one track | {found['range_ms'] / 1e3:.6f} | | limit 0.001 s |",
        f"| busy time in a third of one track | {found['busy_ms'] / 1e3:.6f} | | |",
        f"| top ops of everything | {found['top_ms'] / 1e3:.4f} | | limit 0.1 s |",
    ]
    memory = work / "memory" / "ASCEND_PROFILER_OUTPUT"
    write_memory(memory, 1000 * MB)
    found = _measured(arguments, "curves", memory.parent)
    row("1 GB memory_record.csv", found, f"{found['kept']:,} samples kept, with every peak")
    found = _measured(arguments, "blocks", memory.parent)
    row("1 GB operator_memory.csv", found, f"{found['kept']:,} allocations")
    shutil.rmtree(memory.parent)
    path = work / "kernels" / "kernel_details.csv"
    write_kernels(path, 200 * MB)
    found = _measured(arguments, "kernels", path)
    both = f"{found['pyarrow']:.2f} / {found['memplan']:.2f} (processor)"
    lines.append(
        f"| 200 MB kernel_details.csv: pyarrow.csv / memplan | {both} "
        f"| | {found['pyarrow'] / found['memplan']:.2f} of its speed, times exact, {found['rows']:,} rows |"
    )
    shutil.rmtree(path.parent)
    ranks = work / "ranks"
    for rank in range(64):
        write_trace(ranks / f"rank_{rank}_ascend_pt" / "ASCEND_PROFILER_OUTPUT" / "trace_view.json", 10 * MB, rank)
    one, two = _measured(arguments, "one", ranks), _measured(arguments, "two", ranks)
    row("64 ranks of 10 MB: one process", one, f"{one['ranks']} ranks, {one['errors']} errors")
    same = "same result" if one["digest"] == two["digest"] else "DIFFERENT result"
    row("64 ranks of 10 MB: two processes", two, f"{two['cpu'] / one['cpu']:.2f} of the processor time; {same}")
    try:
        spread = _measured(arguments, "dask", ranks)
        same = "same result" if one["digest"] == spread["digest"] else "DIFFERENT result"
        row("64 ranks of 10 MB: Dask, two workers", spread, same)
    except subprocess.CalledProcessError as error:
        lines.append(f"| 64 ranks of 10 MB: Dask | | | not run: {error.stderr.splitlines()[-1]} |")
    shutil.rmtree(ranks)
    if arguments.fuzz and arguments.data.is_dir():
        found = _measured(arguments, "fuzz", arguments.fuzz)
        outcomes = ", ".join(f"{found[name]} {name}" for name in ("read", "noted", "refused") if name in found)
        row(f"{arguments.fuzz:,} damaged files", found, f"{outcomes}; no other outcome")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything and print the table, or one thing and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="folder for large files, removed")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real files, for damaged ones")
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000], help="trace sizes in MB")
    parser.add_argument("--fuzz", type=int, default=10_000, help="how many damaged files to read")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "OF"), help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.measure:
        what, of = arguments.measure
        kinds: dict[str, Callable[[], dict[str, object]]] = {
            "orjson": lambda: parse_with_orjson(Path(of)),
            "cold": lambda: import_trace(Path(of), warm=False),
            "warm": lambda: import_trace(Path(of), warm=True),
            "reopen": lambda: reopen(Path(of)),
            "kernels": lambda: read_kernels(Path(of)),
            "curves": lambda: read_memory(Path(of), "curves"),
            "blocks": lambda: read_memory(Path(of), "blocks"),
            "one": lambda: sum_up(Path(of), workers=1),
            "two": lambda: sum_up(Path(of), workers=2),
            "dask": lambda: sum_up(Path(of), workers=None, dask=True),
            "fuzz": lambda: fuzz(arguments.data, arguments.work, int(of)),
        }
        print(json.dumps(kinds[what]()))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    table = _run(arguments)
    print(table)
    if arguments.output is not None:
        arguments.output.write_text(table)
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
