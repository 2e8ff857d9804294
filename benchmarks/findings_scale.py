#!/usr/bin/env python3
"""
How long a diagnosis takes: beside msprof-analyze's advisor, on a thousand ranks, and on a profile of 2 GB.

usage: benchmarks/findings_scale.py [--advisor PROFILE...] [--ranks N] [--megabytes M] [--work DIR] [--markdown FILE]

Every program is run once to warm up (compiled modules are kept in a folder of the benchmark, for all programs alike)
and then measured from its start to its end: wall time, and CPU time of all its processes. Profiles are copied for each
run, for the advisor writes beside them. Ranks are simulated; the 2 GB are made of events in a real trace's proportions.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.findings import into_section, plans
from benchmarks.profile_files import write_kernels, write_trace

_HEAD = ["| what | wall | CPU | goal |", "|---|---|---|---|"]


def timed(command: Sequence[str], folder: Path) -> tuple[float, float, str]:
    """Wall and CPU seconds of `command`, run in `folder`, and what it said; raises where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "MEMPLAN_CACHE_DIR": str(folder / "cache")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    said = (ran.stdout + ran.stderr).decode(errors="replace")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def _program(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed here")
    return found


def _row(what: str, taken: Sequence[float | str], goal: str = "") -> str:
    wall, spent = map(float, taken[:2])
    row = f"| {what} | {wall:.2f} s | {spent:.2f} s | {goal} |"
    print(row, flush=True)
    return row


def beside_advisor(profiles: Sequence[Path], folder: Path) -> list[str]:
    """
    Rows: each of `profiles` diagnosed by memplan and by `msprof-analyze advisor all`, in turns.

    Each turn has a copy of its own, and memplan no cache: the advisor leaves what it gathered of several ranks beside
    the profile, and ends early where it finds that.
    """
    rows = []
    memplan, advisor = _program("memplan"), _program("msprof-analyze")
    for number, profile in enumerate(profiles):
        best: dict[str, tuple[float, float]] = {}
        errors = 0
        for turn in range(4):
            place = folder / f"profile{number}-{turn}"
            for which in ("memplan diagnose", "msprof-analyze advisor all"):
                copy = place / which.partition(" ")[0] / profile.name
                shutil.copytree(profile, copy)
                if which.startswith("memplan"):
                    shutil.rmtree(folder / "cache", ignore_errors=True)
                    command = [memplan, "diagnose", str(copy)]
                else:
                    command = [advisor, "advisor", "all", "-d", str(copy), "-o", str(place / "advice")]
                *taken, said = timed(command, folder)
                errors += "[ERROR]" in said
                if turn:
                    best[which] = min(best.get(which, (taken[0], taken[1])), (taken[0], taken[1]))
            shutil.rmtree(place)
        ours, theirs = best.values()
        name = f"{profile.parent.name}/{profile.name}"
        rows += [_row(f"{which}, {name}", taken) for which, taken in best.items()]
        ended = ", which ends with an error and no report" if errors else ""
        rows.append(f"| memplan's share of it{ended} | {ours[0] / theirs[0]:.1%} | {ours[1] / theirs[1]:.1%} | 10 % |")
        print(rows[-1], flush=True)
    return rows


def many_ranks(count: int, folder: Path) -> list[str]:
    """Rows: a job of `count` ranks summed up on two processes and on Dask, and diagnosed."""
    memplan = _program("memplan")
    plan, job = folder / "plan.json", folder / "job"
    plans(folder, 5)["plain"].save(plan)
    made = timed([memplan, "simulate", str(plan), str(job), "--ranks", str(count), "--steps", "2", "--background",
                  "--fault", "slow-rank:strong"], folder)  # fmt: skip
    size = sum(path.stat().st_size for path in job.rglob("*") if path.is_file()) / 1e6
    rows = [_row(f"{count:,} ranks ({size:,.0f} MB) simulated", made)]
    rows.append(
        _row("memplan ranks, two processes", timed([memplan, "ranks", str(job), "--workers", "2"], folder), "60 s")
    )
    try:
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            taken = timed([memplan, "ranks", str(job), "--scheduler", cluster.scheduler_address], folder)
            rows.append(_row("memplan ranks, Dask with two workers (CPU of the client alone)", taken, "60 s"))
    except ImportError:
        rows.append("| memplan ranks, Dask | not run: not installed | | 60 s |")
    page = folder / "job.html"
    taken = timed([memplan, "diagnose", str(job), "-o", str(page)], folder)
    rows.append(_row(f"memplan diagnose of all, HTML of {page.stat().st_size / 1e6:.2f} MB (3 MB)", taken, "60 s"))
    shutil.rmtree(job)
    return rows


def large_profile(megabytes: int, folder: Path) -> list[str]:
    """Rows: a profile of one rank imported and diagnosed, and diagnosed again when it is imported."""
    memplan, rank = _program("memplan"), folder / "large" / "rank_0_ascend_pt"
    output = rank / "ASCEND_PROFILER_OUTPUT"
    write_trace(output / "trace_view.json", megabytes * 925_000)
    write_kernels(output / "kernel_details.csv", megabytes * 75_000)
    command = [memplan, "diagnose", str(rank)]
    rows = [_row(f"{megabytes:,} MB imported and diagnosed", timed(command, folder))]
    rows.append(_row("the same when imported", timed(command, folder), "10 s"))
    shutil.rmtree(folder / "large")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisor", type=Path, nargs="*", default=[], help="profiles to give both programs")
    parser.add_argument("--ranks", type=int, default=0, help="ranks of a simulated job, 1024 for instance")
    parser.add_argument("--megabytes", type=int, default=0, help="size of a profile of one rank, 2000 for instance")
    parser.add_argument("--work", type=Path, help="where profiles are made")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.work))
    rows: list[str] = []
    try:
        rows += beside_advisor(given.advisor, folder)
        rows += many_ranks(given.ranks, folder) if given.ranks else []
        rows += large_profile(given.megabytes, folder) if given.megabytes else []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.markdown:
        load = f"Load of the machine before and after: {os.getloadavg()[2]:.1f}, {os.getloadavg()[0]:.1f} on two cores."
        into_section(given.markdown, "scale", "\n".join(["## How long it takes", "", *_HEAD, *rows, "", load]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
