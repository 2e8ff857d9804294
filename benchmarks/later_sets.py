"""
Later sets of public rows, as first seen and as predicted now: `python -m benchmarks.later_sets`.

All of a set was predicted before any of it had been looked at (`first_seen` in `public_serving.json` and
`public_kernels.json`). No constant comes from it; of served rows one half of the sources is worked with since, the
other is judged in sums. Prints the tables of docs/serving.md and docs/cost.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.engine_hosts import host_spread
from benchmarks.engine_rows import EngineRow, engine_rows, shipped_hosts
from benchmarks.markdown import table
from benchmarks.public_kernels import public_cost, public_kernels
from memplan.cost import machine
from memplan.cost.uncertainty import time_interval
from memplan.hardware import chip
from memplan.serving.constants import step_interval

HERE = Path(__file__).parent
_FAR = 0.4


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of a row: its signed relative error, and whether what was measured is inside of its interval."""

    error: float
    inside: bool


@dataclass(frozen=True, slots=True)
class LaterRow:
    """A row of a later set, from `source`, of some `groups`: what was said of it when it was first seen, and now."""

    source: str
    groups: frozenset[str]
    first: Said
    now: Said


def later_served(data: Path) -> list[LaterRow]:
    """Rows of serving of later sets; `data` is the shared data folder."""
    hosts, found = shipped_hosts(), []
    for row in engine_rows(data, later=True):
        assert not row.why, row.told["name"]
        spread = host_spread(row, hosts)
        low, high = step_interval(row.engine, spread.share)
        error = row.predicted(hosts[row.engine, row.alone]) / row.measured - 1
        now = Said(error, low <= spread.times <= high)
        first = Said(row.told["first_seen"] / row.measured - 1, row.told["first_inside"])
        found.append(LaterRow(row.source, _groups(row), first, now))
    return found


def _groups(row: EngineRow) -> frozenset[str]:
    """What a served row is counted with."""
    baseline = "at_least" in row.told
    what = "first tokens" if row.first else "times a token" if row.timed else "tokens a second"
    told = "some inputs assumed" if "assumed" in row.told else "inputs told"
    once = () if row.repeated else ("each run once",)
    kind = "baselines (*at least*)" if baseline else "measured"
    return frozenset({row.half, told, kind, *once, what if not baseline else "", f"{kind}, {row.half}"} - {""})


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
    return (
        f"{median(abs(own.error) for own in said):.1%}",
        f"{median(map(median, sources.values())):.1%}",
        f"{median(own.error for own in said):+.1%}",
        str(sum(abs(own.error) > _FAR for own in said)),
        str(sum(own.inside for own in said)),
    )


SERVED_GROUPS = (
    "each run once", "inputs told", "some inputs assumed", "measured", "times a token", "tokens a second",
    "first tokens", "baselines (*at least*)", "worked with", "measured, worked with",
    "baselines (*at least*), worked with", "judged once", "measured, judged once",
    "baselines (*at least*), judged once",
)  # fmt: skip
KERNEL_GROUPS = (
    "the device's own time", "launching may decide", "MatMul", "BatchMatMul", "QuantMatmul", "GroupedMatmul",
    "FusedInferAttentionScore", "AddRmsNorm", "SoftmaxV2", "Mul",
)  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    options = parser.parse_args()
    print("\n".join(summary_table(later_kernels(), KERNEL_GROUPS)))
    print("\n".join(summary_table(later_served(options.data), SERVED_GROUPS)))


if __name__ == "__main__":
    main()
