"""
Offset assignment on the field's instances: `python benchmarks/offsets.py [--out FILE] [TABLE ...]`.

Tables: capacity, minimise, large, generated, onchip, cold. Instances are read from the shared data folder beside the
project (or `--data`). Times are user CPU seconds of one process after the kernels are compiled, except in `cold`. Where
a `minimalloc` binary is on PATH, or named by the variable MINIMALLOC, it runs on the same instances in the same run.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from memplan.placement.offsets import Assignment, Buffer, Limits, Problem, assign, validate
from memplan.placement.offsets.formats import read_problem

PROJECT = Path(__file__).resolve().parents[1]
CAPACITY = 1_048_576


def timed(problem: Problem, limits: Limits, seed: int = 0) -> tuple[Assignment, float]:
    """The checked answer and the CPU seconds it took without the check."""
    before = time.process_time()
    answer = assign(problem, limits=limits, seed=seed, check=False)
    seconds = time.process_time() - before
    broken = validate(problem, answer)
    if broken:
        raise SystemExit(f"invalid placement: {broken[0]}")
    return answer, seconds


def peer(path: Path, *options: str, timeout: float = 100) -> tuple[float | None, int | None]:
    """User CPU seconds and peak of the minimalloc binary; the peak is `None` without an answer."""
    binary = os.environ.get("MINIMALLOC") or shutil.which("minimalloc")
    if binary is None:
        return None, None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        try:
            run = subprocess.run(
                [binary, f"--input={path}", f"--output={out}", "--validate", *options],
                capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
            text = run.stdout + run.stderr
        except subprocess.TimeoutExpired:
            text = ""
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    marker = "Validation PASS, height "
    return seconds, int(text.split(marker)[1].split()[0]) if marker in text else None


def shown(value: float | int | None, form: str = "{:,}") -> str:
    """`value` for a table, a dash for none."""
    return "-" if value is None else form.format(value)


def capacity(data: Path) -> Iterator[str]:
    """A to K at the published capacity."""
    yield "| instance | buffers | fits | CPU s | minimalloc fits | minimalloc CPU s |"
    yield "|-|-|-|-|-|-|"
    ours = theirs = 0.0
    solved = 0
    for path in sorted((data / "dsa/minimalloc").glob("[A-K].*.csv")):
        problem = replace(read_problem(path, capacity=CAPACITY), objective=("capacity_overflow", "reuse_cost"))
        answer, seconds = timed(problem, Limits(time_s=60))
        peer_seconds, peer_peak = peer(path, f"--capacity={CAPACITY}")
        ours, theirs, solved = ours + seconds, theirs + (peer_seconds or 0), solved + answer.within_capacity
        yield (
            f"| {path.stem.split('.')[0]} | {len(problem.buffers)} | {'yes' if answer.within_capacity else 'no'} | "
            f"{seconds:.2f} | {'-' if peer_seconds is None else 'yes' if peer_peak else 'no'} | "
            f"{shown(peer_seconds, '{:.2f}')} |"
        )
    yield f"| all | | {solved} of 11 | {ours:.2f} | | {shown(theirs or None, '{:.2f}')} |"


def minimise(data: Path) -> Iterator[str]:
    """A to K as low as 60 CPU seconds allow."""
    yield "| instance | bound | peak | proven | CPU s | minimalloc --minimize_capacity, 80 s | its CPU s |"
    yield "|-|-|-|-|-|-|-|"
    for path in sorted((data / "dsa/minimalloc").glob("[A-K].*.csv")):
        problem = read_problem(path)
        answer, seconds = timed(problem, Limits(time_s=60))
        peer_seconds, peer_peak = peer(path, f"--capacity={CAPACITY}", "--minimize_capacity", "--timeout=80s")
        result = answer.pools[0]
        yield (
            f"| {path.stem.split('.')[0]} | {result.lower_bound:,} | {result.peak:,} | "
            f"{'yes' if result.proven_optimal else 'no'} | {seconds:.2f} | {shown(peer_peak)} | "
            f"{shown(peer_seconds, '{:.2f}')} |"
        )


def large(data: Path) -> Iterator[str]:
    """Real graphs: MindSpore SOMAS tensors and contest graphs."""
    yield "| instance | buffers | allowed s | bound | peak | above bound | CPU s |"
    yield "|-|-|-|-|-|-|-|"
    rows = (
        ("somas_tensors/resnet50", 1), ("iopddl/G_1", 1), ("somas_tensors/pangu_2.6B", 10), ("iopddl/S_1", 30),
        ("iopddl/Y_1", 15),
    )  # fmt: skip
    for name, allowed in rows:
        problem = read_problem(data / f"dsa/idealloc/{name}.csv")
        answer, seconds = timed(problem, Limits(time_s=allowed))
        result = answer.pools[0]
        yield (
            f"| {name} | {len(problem.buffers):,} | {allowed} | {result.lower_bound:,} | {result.peak:,} | "
            f"{100 * result.gap:.4f} % | {seconds:.2f} |"
        )


def million(count: int = 1_000_000, seed: int = 1) -> Problem:
    """
    A generated graph: many short buffers, some that outlive a layer, a few that stay; sizes over six decades.

    A tenth of a per cent live for a large part of the run, 3 % for about a hundredth, the rest for a few steps.
    """
    draw = random.Random(seed)
    buffers = []
    for i in range(count):
        kind = draw.random()
        if kind < 0.001:
            length = int(count * draw.uniform(0.2, 0.9))
        elif kind < 0.03:
            length = int(count * draw.uniform(0.0002, 0.004))
        else:
            length = draw.randint(2, 40)
        start = draw.randint(0, count - 1)
        size = max(1, int(2 ** draw.uniform(9, 28 if kind < 0.03 else 24)) // 512) * 512
        buffers.append(Buffer(i, size, ((start, min(start + length, count + 40)),), alignment=512))
    return Problem(tuple(buffers))


def generated(_: Path) -> Iterator[str]:
    """A million buffers, in a process of its own so that its memory can be seen."""
    code = (
        "import resource, runpy, sys, time\n"
        f"bench = runpy.run_path({str(Path(__file__).resolve())!r}, run_name='bench')\n"
        "from memplan.placement.offsets import assign, validate\n"
        "problem = bench['million']()\n"
        "start = time.process_time(); answer = assign(problem); seconds = time.process_time() - start\n"
        "r = answer.pools[0]\n"
        "print(len(problem.buffers), r.lower_bound, r.peak, r.gap, seconds, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    buffers, bound, peak, gap, seconds, memory = run.stdout.split()
    yield "| buffers | bound | peak | above bound | CPU s, checked | resident GB |"
    yield "|-|-|-|-|-|-|"
    yield (
        f"| {int(buffers):,} | {int(bound):,} | {int(peak):,} | {100 * float(gap):.3f} % | {float(seconds):.1f} | "
        f"{int(memory) / 1e9:.2f} |"
    )


def onchip(data: Path) -> Iterator[str]:
    """All captured on-chip problems with the default limits."""
    count = fits = proven_out = bounded = peaks = paid = 0
    seconds = []
    open_cases = []
    for path in sorted((data / "dsa/onchip").glob("p*/**/*.json")):
        problem = read_problem(path)
        answer, took = timed(problem, Limits())
        count += 1
        seconds.append(took)
        fits += answer.within_capacity
        if not answer.within_capacity:
            proven_out += answer.infeasibility is not None and answer.infeasibility.proven
        if problem.objective[0] == "total_peak":
            peaks += 1
            bounded += all(result.proven_optimal for result in answer.pools)
        proven = answer.reuse_cost == answer.reuse_cost_bound
        paid += proven
        if not proven:
            open_cases.append(f"{path.stem} ({answer.reuse_cost}, bound {answer.reuse_cost_bound})")
    mean = math.exp(sum(map(math.log, seconds)) / len(seconds))
    yield "| | |"
    yield "|-|-|"
    yield f"| problems, all answers valid | {count} |"
    yield f"| within capacity | {fits} |"
    yield f"| shown that they can't be within capacity | {proven_out} |"
    yield f"| objective is the peak | {peaks} |"
    yield f"| of these every pool at its proven bound | {bounded} |"
    yield f"| reuse cost proven least | {paid} ({100 * paid / count:.1f} %) |"
    yield f"| geometric mean CPU time | {1000 * mean:.1f} ms |"
    yield f"| longest CPU time | {max(seconds):.1f} s |"
    yield ""
    yield f"Reuse cost not proven: {', '.join(open_cases) or 'none'}."


def cold(data: Path) -> Iterator[str]:
    """What a first call costs with an empty kernel cache, and the second one in another process."""
    code = (
        "import sys, time\nstart = time.perf_counter()\n"
        "from pathlib import Path\n"
        "from memplan.placement.offsets import assign\n"
        "from memplan.placement.offsets.formats import read_problem\n"
        "answer = assign(read_problem(Path(sys.argv[1])))\n"
        "print(time.perf_counter() - start, answer.method)\n"
    )
    yield "| problem | found by | first call s | second call s |"
    yield "|-|-|-|-|"
    for name in ("iopddl/G_1", "somas_tensors/resnet50"):
        path = data / f"dsa/idealloc/{name}.csv"
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            took = []
            for _ in range(2):
                run = subprocess.run(
                    [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=environment
                )
                wall, _, method = run.stdout.strip().partition(" ")
                took.append(float(wall))
        yield f"| {name} | {method} | {took[0]:.1f} | {took[1]:.1f} |"


TABLES: dict[str, tuple[str, Callable[[Path], Iterator[str]]]] = {
    "capacity": ("A to K at capacity 1,048,576", capacity),
    "minimise": ("A to K, minimising for 60 s", minimise),
    "large": ("Real graphs", large),
    "generated": ("Generated million buffers", generated),
    "onchip": ("On-chip problems", onchip),
    "cold": ("Empty kernel cache (wall seconds with imports)", cold),
}


def main() -> None:
    """Run the tables asked for and print them, or write them to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    unknown = [name for name in options.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    if not (options.data / "dsa").is_dir():
        parser.error(f"no dsa folder in {options.data}")
    warm = tuple(Buffer(i, 3 + i % 5, ((i % 4, i % 4 + 3),)) for i in range(12))
    assign(Problem(warm, separations=((0, 1),)))
    assign(Problem(warm))
    lines = [
        "# Offset assignment", "", "Made by `python benchmarks/offsets.py --out benchmarks/offsets.md`.", "",
        f"Python {platform.python_version()} on {platform.machine()}, one process; CPU is user time, so other load on "
        "the machine hardly counts. Every placement passed the validator.",
    ]  # fmt: skip
    for name in options.tables or TABLES:
        title, table = TABLES[name]
        lines += ["", f"## {title}", ""]
        for line in table(options.data):
            lines.append(line)
            print(line, flush=True)
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
