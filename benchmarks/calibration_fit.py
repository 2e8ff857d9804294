"""
Where `memplan/align/calibration.json` comes from: what the pair model said of runs of known truth.

`python -m benchmarks.calibration_fit SHARED_DATA [-o FILE] [--seeds FIRST LAST] [--mixed FIRST LAST] [--recorded RUN
...] [--samples FOLDER ...] [--launched SEED ...]` aligns simulated runs and recorded ones without calibration and fits
trees (`boosted_trees`) to what was right, with where they come from beside them. A FOLDER has recordings of models
drawn at random, which `python -m tests.align.torch_samples FOLDER FIRST LAST` makes where PyTorch is installed. It
takes about ten minutes of CPU; runs that are not named are left for checks.

`--keep PARTS` keeps what was said of the runs, part by part, and `--from PARTS` fits to that instead of aligning: from
the same parts, whose digests the file has, come the same trees to the letter.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.boosted_trees import Boosting, boosted_trees
from benchmarks.calibration_claims import (
    BLIND,
    BLIND_SAMPLES,
    CALM,
    CALMER,
    RawClaims,
    blind_claims,
    launched_claims,
    recorded_claims,
    sampled_claims,
    simulated_claims,
)
from benchmarks.calibration_parts import keep_parts, kept_parts, parts_told
from memplan.align.probabilities.boosted_chance import summed_chance
from memplan.align.probabilities.match_features import NEITHER, SHAPES, TIMES, MatchFeatures, sight_of
from memplan.core.arrays import Bools, Float32s, Floats, Int64s
from tests.align.torch_configs import RUNS, SEEN_RUNS

PARTS = ("samples", "recorded", "simulated", "mixed", "launched", "blind", "blind_samples")
"""Parts of the runs that trees are fitted to, in their order."""
_FOLDS = 3
"""Parts of the runs, each of which is asked of trees that were fitted to the others."""
_EDGES = {SHAPES: (0.5, 0.998), TIMES: (0.6, 0.998), NEITHER: (0.95, 0.998)}
"""
Where levels of what is given begin, by what tells kernels of a run apart. Runs tell no finer ones apart, for their
errors come in clumps: a level that is not wide enough is off in one run or another. Without shapes single runs are off
by far more than the mean of all.
"""
_ENOUGH, _OFF = 30, 0.05
"""Kernels from which a run tells a share, and by how much a level may be off in one."""
_CHANCE = 1.96
"""Standard errors within which a share may be another by chance, for 95 %."""
_BOOSTING = Boosting(trees=76, depth=6, rate=0.13, penalty=30.0, least_weight=40.0)


def fitted(runs: Sequence[RawClaims]) -> dict[str, Any]:
    """
    Trees for every claim, and the levels behind them.

    Trees are surer of runs that they were fitted to than of others: the levels are what runs showed of trees that were
    fitted to others. Only of kernels whose op is not told is the place asked.
    """
    every = np.ones(sum(len(run.count) for run in runs), dtype=np.bool_)
    found, likely = fitted_claim(runs, "op", every)
    claims = {"op": found}
    sights = _sights(runs)
    untold = np.zeros(len(likely), dtype=np.bool_)
    for sight, (least, _) in _EDGES.items():
        untold |= (sights == sight) & (likely < least)
    for claim, some in (("scope", every), ("place", untold)):
        claims[claim], _ = fitted_claim(runs, claim, some)
    return claims


def sight(rows: Float32s) -> str:
    """What tells the kernels of a run apart of which `rows` are features."""
    blind, agrees = (rows[:, MatchFeatures.names().index(name)] for name in ("blind", "run_agrees"))
    return sight_of(blind, agrees)


def _sights(runs: Sequence[RawClaims]) -> NDArray[np.str_]:
    """That of the run of each kernel."""
    return np.repeat([sight(run.rows["op"]) for run in runs], [len(run.count) for run in runs])


def fitted_claim(runs: Sequence[RawClaims], claim: str, some: Bools) -> tuple[Mapping[str, Any], Floats]:
    """The trees and levels of one claim, from `some` kernels, and what trees fitted to other runs say of these."""
    names = MatchFeatures.names()
    fold = np.concatenate([np.full(len(run.count), number % _FOLDS) for number, run in enumerate(runs)])[some]
    rows, right = (np.concatenate([getattr(run, side)[claim] for run in runs])[some] for side in ("rows", "right"))
    weight = np.concatenate([run.weight for run in runs])[some]
    weight *= len(weight) / weight.sum()
    shown = ShownRuns(
        np.concatenate([np.full(len(run.count), number) for number, run in enumerate(runs)])[some],
        np.concatenate([run.count for run in runs])[some],
        np.array([run.count.sum() ** -0.5 for run in runs]),
    )

    def trees(chosen: Int64s) -> Mapping[str, Any]:
        return boosted_trees(rows[chosen], right[chosen], weight[chosen], names, _BOOSTING)

    others = np.empty(len(right))
    for one in range(_FOLDS):
        mine = fold == one
        others[mine] = summed_chance(trees(np.flatnonzero(~mine)), rows[mine])
    sights = _sights(runs)[some]
    levels = {
        one: rising_levels(others[mine], right[mine], shown.of(mine), edges[:1] if claim == "place" else edges)
        for one, edges in _EDGES.items()
        for mine in [sights == one]
    }
    return {**trees(np.arange(len(right))), "levels": levels}, others


@dataclass(frozen=True, slots=True)
class ShownRuns:
    """Of kernels the number of the run of each and of how many it stands for, and what each run's kernels weigh."""

    run: Int64s
    count: Floats
    weight: Floats

    def of(self, some: Bools | slice | Int64s) -> ShownRuns:
        """Some of the kernels."""
        return replace(self, run=self.run[some], count=self.count[some])

    def sums(self, of: Floats) -> Floats:
        """For each run the sum over its kernels."""
        found: Floats = np.zeros(len(self.weight))
        np.add.at(found, self.run, self.count * of)
        return found


def rising_levels(
    given: Floats, right: Floats, shown: ShownRuns, edges: Sequence[float]
) -> list[tuple[float, float | None]]:
    """
    From which value given each level is, and what it is; pooled until shares that are right rise together.

    Below the first edge none is given.
    """
    order = np.argsort(given, kind="stable")
    right, shown = right[order], shown.of(order)
    weight = shown.weight[shown.run] * shown.count
    at = np.searchsorted(given[order], edges).tolist()
    levels: list[tuple[float, slice, float]] = []
    for least, begin, end in zip(edges, at, (*at[1:], len(given)), strict=True):
        if begin == end:
            continue
        levels.append((least, slice(begin, end), float(np.average(right[begin:end], weights=weight[begin:end]))))
        while len(levels) > 1 and levels[-2][2] >= levels[-1][2]:
            last, before = levels.pop(), levels.pop()
            some = slice(before[1].start, last[1].stop)
            levels.append((before[0], some, float(np.average(right[some], weights=weight[some]))))
    return [(0.0, None), *((least, _level(right[some], shown.of(some))) for least, some, _ in levels)]


def _level(right: Floats, shown: ShownRuns) -> float:
    """
    What a level states: the share that is right, or what of all that it may be by chance is off in the fewest runs.

    Kernels of a run share few fates, so that a run or two that are wrong by far pull the share down. Where runs are few
    the share could have been another with others of the same kind, within 95 % of chance by whole runs; of what is as
    likely then, the one counts that holds in most runs by themselves. Where runs are many the share is what they say.
    """
    kernels, found = shown.sums(np.ones(len(right))), shown.sums(right)
    total = float(shown.weight @ kernels)
    share = float(shown.weight @ found) / total
    chance = _CHANCE * float(np.sum((shown.weight * (found - share * kernels)) ** 2)) ** 0.5 / total
    low, high = np.ceil(1000 * (share - chance)), np.floor(1000 * min(1.0, share + chance))
    levels = np.append(np.arange(low, high + 1) / 1000, round(share, 4))
    told = kernels >= _ENOUGH
    off = np.abs(levels[:, np.newaxis] - found[told] / kernels[told])
    missed = (off > _OFF - 1e-9).sum(axis=1)
    return float(levels[np.lexsort((np.abs(levels - share), missed))[0]])


def calibration_text(source: str, parts: Mapping[str, Sequence[RawClaims]]) -> str:
    """The file as it is kept, fitted to `parts`: where it comes from, then one tree a line."""
    claims = fitted([run for part in parts.values() for run in part])
    told = ",\n".join(f"    {json.dumps(name)}: {json.dumps(of)}" for name, of in parts_told(parts).items())
    texts = [
        f'  "{claim}": {{\n'
        + "".join(f'    "{name}": {json.dumps(of[name])},\n' for name in ("levels", "begin"))
        + '    "trees": [\n      '
        + ",\n      ".join(json.dumps(tree) for tree in of["trees"])
        + "\n    ]\n  }"
        for claim, of in claims.items()
    ]
    head = [f'  "source": {json.dumps(source)}', '  "parts": {\n' + told + "\n  }"]
    return "{\n" + ",\n".join([*head, *texts]) + "\n}\n"


def main() -> None:
    """Write the trees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("calibration.json"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(5400, 5579), metavar=("FIRST", "LAST"))
    parser.add_argument("--mixed", type=int, nargs=2, default=(5200, 5339), metavar=("FIRST", "LAST"))
    parser.add_argument("--launched", type=int, nargs="*", default=(5200, 5201, 5202, 5203), metavar="SEED")
    parser.add_argument("--recorded", nargs="*", default=[*RUNS, *SEEN_RUNS])
    parser.add_argument("--samples", type=Path, nargs="*", default=())
    parser.add_argument("--keep", type=Path, metavar="PARTS")
    parser.add_argument("--from", type=Path, metavar="PARTS", dest="kept")
    options = parser.parse_args()
    seeds, mixed = (range(first, last + 1) for first, last in (options.seeds, options.mixed))
    parts = _parts(options, seeds, mixed) if options.kept is None else kept_parts(options.kept, PARTS)
    if options.keep is not None:
        keep_parts(options.keep, parts)
    source = calibration_source(seeds, mixed, options.recorded, len(parts["samples"]), options.launched)
    options.output.write_text(calibration_text(source, parts), encoding="utf-8")


def _parts(options: argparse.Namespace, seeds: range, mixed: range) -> dict[str, list[RawClaims]]:
    """What the pair model says of all runs that are asked for."""

    def sampled(scratch: Path, blind: int = 0) -> list[RawClaims]:
        return [claim for folder in options.samples for claim in sampled_claims(folder, scratch, blind=blind)]

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        found = (
            sampled(scratch),
            recorded_claims(options.recorded, scratch),
            simulated_claims(options.shared, seeds, mixed=False),
            simulated_claims(options.shared, mixed, mixed=True),
            launched_claims(options.shared, options.launched),
            blind_claims(options.shared, options.launched[:1]),
            sampled(scratch, BLIND_SAMPLES),
        )
        return {part: list(claims) for part, claims in zip(PARTS, found, strict=True)}


def calibration_source(
    seeds: range, mixed: range, recorded: Sequence[str], sampled: int, launched: Sequence[int]
) -> str:
    """Where the trees come from, in words."""
    return (
        f"simulated runs (tests/align/simulated_runs.py), seeds {seeds[0]} to {seeds[-1]} as they are and {mixed[0]} "
        f"to {mixed[-1]} mixed (every {BLIND}nd has no shapes, every {CALM}rd is disturbed by a {CALMER:g}th as "
        f"much), the recorded runs {', '.join(recorded) or 'none'} (tests/align/known_runs.py), {sampled} recordings "
        f"of models drawn at random (tests/align/torch_samples.py; every {BLIND_SAMPLES}th without shapes, too), and "
        "runs of every plan of benchmarks/layout_runs.py and framework_runs.py with seeds "
        f"{', '.join(map(str, launched)) or 'none'} (those of the first without shapes, too): features of matches with "
        "the probability that the pair model gave (memplan/align/probabilities/match_features.py) and whether they "
        "were right, each run weighing by the root of its kernels, half by fates and half by time; by "
        "benchmarks/calibration_fit.py. Levels: what trees say of runs that they were not fitted to, and the share of "
        "kernels that was right, or of shares that it may be by chance the one that holds in most runs. Other seeds, "
        "other recorded runs, MindSpore's and measured profiles were not used; for the constants of the pair model see "
        "the source in pair_model.json."
    )


if __name__ == "__main__":
    main()
