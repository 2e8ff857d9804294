"""
Later sets of public rows, as first seen and as predicted now: `python -m benchmarks.later_sets`.

All of a set was predicted before any of it had been looked at (`first_seen` in `public_serving.json`,
`public_kernels.json` and `training_frameworks.json`, `first_seen_ms` in `training_published.json`). No constant of a
prediction comes from what the tables count, as a row that gave one since is in none; how much wider intervals of served
steps are does, so that those of now have seen these rows.
Of all but kernels and the last two sets of services one half of the sources is worked with since, the other judged in
sums; those sets are judged whole. Prints the tables of docs/cost.md, docs/serving.md and benchmarks/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_hosts import host_spread
from benchmarks.engine_rows import EngineRow, engine_rows, shipped_hosts
from benchmarks.framework_memory import KINDS, figure_bytes, figure_interval, framework_runs, fullest_stage, told
from benchmarks.markdown import table
from benchmarks.measured_row import Said, later_set, sums
from benchmarks.public_kernels import public_cost, public_kernels
from benchmarks.training_rows import PUBLISHED, run_time, runs_of
from memplan.core.units import GIB
from memplan.cost import machine
from memplan.cost.uncertainty import time_interval
from memplan.hardware import chip
from memplan.serving.constants import step_interval

HERE = Path(__file__).parent
MEASURED, BASELINES, FOREIGN = "measured", "baselines (*at least*)", "another engine stands in"
HALVES = "worked with", "judged once"


@dataclass(frozen=True, slots=True)
class LaterRow:
    """A row of a later set, from `source`, of some `groups`: what was said of it when it was first seen, and now."""

    source: str
    groups: frozenset[str]
    first: Said
    now: Said


def later_served(data: Path) -> dict[int, list[LaterRow]]:
    """Rows of serving that gave no constant, by the number of their set; `data` is the shared data folder."""
    hosts = shipped_hosts()
    found: dict[int, list[LaterRow]] = {}
    for row in engine_rows(data, later=True):
        assert not row.why, row.told["name"]
        if row.gave_constant:
            continue
        spread = host_spread(row, hosts)
        low, high = step_interval(row.engine, spread.share)
        error = row.predicted(hosts[row.engine, row.alone]) / row.measured - 1
        now = Said(error, low <= spread.times <= high)
        first = Said(row.told["first_seen"] / row.measured - 1, row.told["first_inside"])
        found.setdefault(row.told["set"], []).append(LaterRow(row.source, _groups(row), first, now))
    return found


def _inputs(told: Mapping[str, Any]) -> str:
    return "some inputs assumed" if "assumed" in told else "inputs told"


def _groups(row: EngineRow) -> frozenset[str]:
    """What a served row is counted with."""
    what = "first tokens" if row.first else "times a token" if row.timed else "tokens a second"
    once = () if row.repeated else ("each run once",)
    kind = BASELINES if "at_least" in row.told else FOREIGN if "foreign" in row.told else MEASURED
    own = {row.half, _inputs(row.told), kind, *once, f"{kind}, {row.half}"}
    return frozenset({*own, what} if kind == MEASURED else own)


def later_trained(data: Path) -> dict[int, list[LaterRow]]:
    """Trained steps by the number of their set, of those that were predicted when they were first seen."""
    found: dict[int, list[LaterRow]] = {}
    for run in runs_of(PUBLISHED):
        if not later_set(run) or "first_seen_ms" not in run:
            continue
        time = run_time(run, data / "configs")
        low, high = time.interval_ns
        first = Said(run["first_seen_ms"] / run["step_ms"] - 1, run["first_inside"])
        now = Said(time.duration_ns / 1e6 / run["step_ms"] - 1, low <= run["step_ms"] * 1e6 <= high)
        groups = frozenset({time.engine, run["half"], _inputs(run)})
        found.setdefault(run["set"], []).append(LaterRow(run["source"], groups, first, now))
    return found


def later_memory(data: Path) -> dict[int, list[LaterRow]]:
    """What allocators of trained runs took, as `later_trained` has their steps."""
    found: dict[int, list[LaterRow]] = {}
    for run in framework_runs():
        if not later_set(run) or "first_seen" not in run:
            continue
        figure = told(run)
        memory = fullest_stage(run, data / "configs", figure)
        low, high = figure_interval(memory, run, figure)
        now = Said(figure_bytes(memory, run, figure) / GIB / run[figure] - 1, low <= run[figure] * GIB <= high)
        first = Said(run["first_seen"] / run[figure] - 1, run["first_inside"])
        groups = frozenset({memory.kind.value, run["half"], f"{KINDS[figure]}, {run['half']}"})
        found.setdefault(run["set"], []).append(LaterRow(run["source"], groups, first, now))
    return found


def later_kernels() -> list[LaterRow]:
    """Kernels of later sets."""
    found = []
    for row, kernel in public_kernels():
        if "seen" not in row:
            continue
        core = machine(chip(row["chip"]))
        cost = public_cost(row, kernel, core)
        interval = time_interval(kernel, cost, core)
        measured = row["us"] * 1e3
        inside = interval is not None and interval.low_ns <= measured <= interval.high_ns
        first = Said(row["first_seen"] / row["us"] - 1, row["first_inside"])
        groups = {row["type"], "launching may decide" if "doubtful" in row else "the device's own time"}
        found.append(LaterRow(row["source"], frozenset(groups), first, Said(cost.duration_ns / measured - 1, inside)))
    return found


def summary_table(rows: Sequence[LaterRow], groups: Iterable[str]) -> Iterator[str]:
    """A line of all rows and one of each group, each cell as first seen -> now."""
    lines = []
    for name in ("all", *groups):
        own = [row for row in rows if name == "all" or name in row.groups]
        if own:
            first, now = _summed(own, [row.first for row in own]), _summed(own, [row.now for row in own])
            pairs = (f"{then} -> {here}" for then, here in zip(first, now, strict=True))
            lines.append((name, f"{len(own)} of {len({row.source for row in own})}", *pairs))
    yield from table(("rows", "of sources", "median", "median by source", "bias", "beyond 40 %", "inside"), lines)


def _summed(rows: Sequence[LaterRow], said: Sequence[Said]) -> tuple[str, ...]:
    """Median error over rows and over sources, bias, how many are far off and how many inside."""
    sources: dict[str, list[float]] = {}
    for row, own in zip(rows, said, strict=True):
        sources.setdefault(row.source, []).append(abs(own.error))
    middle, *others = sums(said)
    return middle, f"{median(map(median, sources.values())):.1%}", *others


SERVED_GROUPS = (
    "each run once", "inputs told", "some inputs assumed", MEASURED, "times a token", "tokens a second",
    "first tokens", BASELINES, FOREIGN, *(
        name for half in HALVES for name in (half, f"{MEASURED}, {half}", f"{BASELINES}, {half}")
    ),
)  # fmt: skip
STEP_GROUPS = ("captured", "megatron", "inputs told", "some inputs assumed", *HALVES)
MEMORY_GROUPS = (
    "adapters", "megatron", "pytorch", *HALVES,
    *(f"{kind}, {half}" for kind in KINDS.values() for half in HALVES),
)  # fmt: skip
KERNEL_GROUPS = (
    "the device's own time", "launching may decide", "MatMul", "BatchMatMul", "QuantMatmul", "GroupedMatmul",
    "FusedInferAttentionScore", "AddRmsNorm", "SoftmaxV2", "Mul",
)  # fmt: skip


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    options = parser.parse_args()
    print("\n".join(summary_table(later_kernels(), KERNEL_GROUPS)))
    for title, sets, groups in (
        ("Served", later_served(options.data), SERVED_GROUPS),
        ("Trained steps", later_trained(options.data), STEP_GROUPS),
        ("Memory of training", later_memory(options.data), MEMORY_GROUPS),
    ):
        for number, rows in sorted(sets.items()):
            print(f"{title}, set {number}:\n")
            print("\n".join(summary_table(rows, groups)))


if __name__ == "__main__":
    main()
