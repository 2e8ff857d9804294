"""
Whether the probabilities of matches hold: what was given less the share that was right, by kind of run.

`python -m benchmarks.calibration_check SHARED_DATA [--seeds FIRST LAST] [--samples FOLDER ...] [--launched SEED ...]`
prints the table of `alignment.md`, in points, with 95 % of chance by whole runs (matches of one run share few fates)
and the count of kernels. Name runs to which no trees were fitted: `memplan/align/calibration.json` says which were.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.calibration_fit import RawClaims, launched_claims, sampled_claims, simulated_claims
from memplan.align.probabilities.boosted_chance import level_of, summed_chance
from memplan.core.resources import table

_BINS = (0.0, 0.5, 0.8, 0.95, 1.001)


def check_row(name: str, runs: Sequence[RawClaims], claim: str) -> str:
    """One row of the table."""
    told = table("memplan.align", "calibration.json")[claim]
    given = [level_of(told, summed_chance(told, run.rows[claim])) for run in runs]
    cells = []
    for least, most in pairwise(_BINS):
        some = [(chance >= least) & (chance < most) for chance in given]
        off = [float((chance - run.right[claim])[at].sum()) for chance, run, at in zip(given, runs, some, strict=True)]
        count = sum(int(at.sum()) for at in some)
        mean = sum(off) / max(count, 1)
        spread = sum((each - mean * int(at.sum())) ** 2 for each, at in zip(off, some, strict=True)) ** 0.5
        cells.append(f"{100 * mean:+.1f} ± {196 * spread / max(count, 1):.1f} ({count:,})")
    return f"| {name} | {' | '.join(cells)} |"


def check_table(shared: Path, seeds: range, samples: Sequence[Path], launched: Sequence[int]) -> Iterator[str]:
    """The table, a row a kind of runs and claim."""
    yield "| runs, together | 0 to 0.5 | 0.5 to 0.8 | 0.8 to 0.95 | 0.95 to 1 |"
    yield "|---|---|---|---|---|"
    simulated = list(simulated_claims(shared, seeds, mixed=False))
    yield check_row(f"simulated, seeds {seeds[0]} to {seeds[-1]}: ops", simulated, "op")
    yield check_row("the same: phase, micro-batch, layer and part", simulated, "scope")
    with tempfile.TemporaryDirectory() as scratch:
        for number, folder in enumerate(samples):
            place = Path(scratch) / str(number)
            place.mkdir()
            drawn = list(sampled_claims(folder, place))
            first, *_, last = sorted(int(path.name.split(".")[0]) for path in folder.glob("*.csv.gz"))
            yield check_row(f"PyTorch, models drawn with seeds {first} to {last}", drawn, "op")
    for seed in launched:
        runs = list(launched_claims(shared, (seed,)))
        yield check_row(f"layouts, and steps as engines and trainers launch them, seed {seed}: ops", runs, "op")
        yield check_row("the same: phase, micro-batch, layer and part", runs, "scope")


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
