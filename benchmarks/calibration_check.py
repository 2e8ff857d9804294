"""
Whether the probabilities of matches hold: what was given less the share that was right, by kind of run.

`python -m benchmarks.calibration_check SHARED_DATA [--seeds FIRST LAST] [--samples FOLDER ...] [--launched SEED ...]`
prints the table of `alignment.md`, in points, with 95 % of chance by whole runs (matches of one run share few fates),
the count of kernels, and how many of the runs are off by more than 5 points by themselves. Name runs to which no trees
were fitted: `memplan/align/calibration.json` says which were.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration_claims import (
    BLIND_SAMPLES,
    RawClaims,
    blind_claims,
    launched_claims,
    sampled_claims,
    simulated_claims,
)
from benchmarks.calibration_fit import sight
from memplan.align.probabilities.boosted_chance import level_of, summed_chance
from memplan.core.arrays import Float32s, Floats
from memplan.core.resources import table

_UNTOLD = "of kernels that are not told apart: phase, micro-batch and layer"
_ENOUGH, _OFF = 30, 0.05
"""Kernels from which a run's share is told, and by how much it may be off."""


def check_row(name: str, runs: Sequence[RawClaims], claim: str) -> str:
    """One row of the table: what is not stated, then each level; the place is asked where the op is not stated."""
    claims = table("memplan.align", "calibration.json")
    ops, given = ([_levels(claims[asked], run.rows[asked]) for run in runs] for asked in ("op", claim))
    if claim == "scope":
        given = [np.where(np.isnan(op), np.nan, np.fmax(op, scope)) for op, scope in zip(ops, given, strict=True)]
    asked = [np.isnan(op) if claim == "place" else np.ones(len(op), dtype=np.bool_) for op in ops]
    every = sum(float(run.count[some].sum()) for run, some in zip(runs, asked, strict=True))
    untold = sum(float(run.count[some & np.isnan(of)].sum()) for run, some, of in zip(runs, asked, given, strict=True))
    cells = [f"{untold / max(every, 1.0):.1%}"]
    seen = {level for of in given for level in np.unique(of[~np.isnan(of)]).tolist()}
    for level in sorted(seen):
        sums = []
        for run, some, of in zip(runs, asked, given, strict=True):
            at = some & (of == level)
            sums.append((float(run.count[at].sum()), float(((of - run.right[claim]) * run.count)[at].sum())))
        cells.append(f"{level}: {_off(sums)}")
    return f"| {name} | {' | '.join(cells)} |"


def _levels(told: Mapping[str, Any], rows: Float32s) -> Floats:
    return level_of(told, summed_chance(told, rows), sight(rows))


def _off(sums: Sequence[tuple[float, float]]) -> str:
    """Kernels and given less right, summed by run, in words."""
    count = sum(one for one, _ in sums)
    mean = sum(off for _, off in sums) / max(count, 1.0)
    spread = sum((off - mean * one) ** 2 for one, off in sums) ** 0.5
    told = [off / one for one, off in sums if one >= _ENOUGH]
    missed = sum(abs(off) > _OFF for off in told)
    return f"{100 * mean:+.1f} ± {196 * spread / max(count, 1.0):.1f} ({count:,.0f}), {missed} of {len(told)} runs off"


def check_table(shared: Path, seeds: range, samples: Sequence[Path], launched: Sequence[int]) -> Iterator[str]:
    """The table, a row a kind of runs and claim."""
    yield "| runs, together | not stated | lower level | upper level |"
    yield "|---|---|---|---|"
    simulated = list(simulated_claims(shared, seeds, mixed=False))
    yield check_row(f"simulated, seeds {seeds[0]} to {seeds[-1]}: ops", simulated, "op")
    yield from _places(simulated)
    with tempfile.TemporaryDirectory() as scratch:
        for number, folder in enumerate(samples):
            place = Path(scratch) / str(number)
            place.mkdir()
            drawn = list(sampled_claims(folder, place))
            first, *_, last = sorted(int(path.name.split(".")[0]) for path in folder.glob("*.csv.gz"))
            yield check_row(f"PyTorch, models drawn with seeds {first} to {last}: ops", drawn, "op")
            yield check_row(_UNTOLD, drawn, "place")
            blind = list(sampled_claims(folder, place, blind=BLIND_SAMPLES))
            yield check_row(f"every {BLIND_SAMPLES}th of them without shapes: ops", blind, "op")
            yield check_row(_UNTOLD, blind, "place")
    for seed in launched:
        runs = list(launched_claims(shared, (seed,)))
        yield check_row(f"layouts, and steps as engines and trainers launch them, seed {seed}: ops", runs, "op")
        yield from _places(runs)
        blind = list(blind_claims(shared, (seed,)))
        yield check_row(f"the same runs, seed {seed}, without shapes: ops", blind, "op")
        yield from _places(blind)


def _places(runs: Sequence[RawClaims]) -> Iterator[str]:
    yield check_row("the same: phase, micro-batch, layer and part", runs, "scope")
    yield check_row(_UNTOLD, runs, "place")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1400, 1459), metavar=("FIRST", "LAST"))
    parser.add_argument("--samples", type=Path, nargs="*", default=(), metavar="FOLDER")
    parser.add_argument("--launched", type=int, nargs="*", default=(9777,), metavar="SEED")
    options = parser.parse_args()
    seeds = range(options.seeds[0], options.seeds[1] + 1)
    for row in check_table(options.shared, seeds, options.samples, options.launched):
        print(row, flush=True)


if __name__ == "__main__":
    main()
