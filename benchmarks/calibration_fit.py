"""
Where `memplan/align/calibration.json` comes from: what the pair model said of runs of known truth.

`python -m benchmarks.calibration_fit SHARED_DATA [-o FILE] [--seeds FIRST LAST] [--mixed FIRST LAST] [--recorded RUN
...] [--samples FOLDER ...] [--launched SEED ...]` aligns simulated runs and recorded ones without calibration and fits
trees (`boosted_trees`) to what was right, with where they come from beside them. A FOLDER has recordings of models
drawn at random, which `python -m tests.align.torch_samples FOLDER FIRST LAST` makes where PyTorch is installed. It
takes about ten minutes of CPU; runs that are not named are left for checks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.boosted_trees import Boosting, boosted_trees
from memplan.align import Alignment, align
from memplan.align.probabilities.boosted_chance import summed_chance
from memplan.align.probabilities.match_features import MatchFeatures
from memplan.align.update_units import update_units
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.simulated_runs import SimulatedRun
from tests.align.torch_configs import RUNS, SEEN_RUNS

_CLAIMS = ("op", "scope")
_CALM, _CALMER, _BLIND = 3, 12.0, 4
"""Every so manieth of the mixed simulated runs is so much less disturbed, and every so manieth has no shapes."""
_FOLDS, _THIN = 3, 2
"""
Parts of the runs, each of which is asked of trees that were fitted to the others; trees are fitted to every so manieth
kernel, those of others to a half of them.
"""
_EDGES = (0.1, 0.35, 0.8, 0.98, 0.995)
"""
Where one level of what is given ends: runs tell no finer ones apart, for their errors come in clumps. Of two to nine
levels these are off by the least, run by run, in kinds of runs that neither trees nor levels were fitted to.
"""
_MOST = 2000
"""Kernels of a run that are looked at: its matches share few fates."""
_BOOSTING = Boosting(trees=76, depth=6, rate=0.13, penalty=30.0, least_weight=40.0)


@dataclass(frozen=True, slots=True)
class RawClaims:
    """What the model said of kernels of one run: a row of features by claim, and whether it was right."""

    rows: dict[str, Float32s]
    right: dict[str, Floats]


def raw_alignment(plan: Plan, kernels: Kernels) -> tuple[Alignment, dict[str, Float32s]]:
    """An alignment without calibration, and the row of features of each kernel by claim."""
    from memplan.align import alignment

    rows: dict[str, Float32s] = {}
    owners: list[Int64s] = []

    def noted(chance: Floats, features: MatchFeatures, claim: str) -> Floats:
        rows[claim] = features.rows(chance)
        return np.clip(chance, 0.0, 1.0)

    def units(*of: Any) -> Any:
        found = update_units(*of)
        owners.append(found.owner)
        return found

    with patch.object(alignment, "boosted_chance", noted), patch.object(alignment, "update_units", units):
        found = align(plan, kernels)
    return found, {claim: of[owners[0]] for claim, of in rows.items()}


def simulated_claims(shared: Path, seeds: range, *, mixed: bool) -> Iterator[RawClaims]:
    """
    Claims on simulated runs.

    Of `mixed` ones some have no shapes, as profiles of the lowest level, and some are hardly disturbed.
    """
    from tests.align.simulated_runs import disturbance, model_plans, simulate_run

    plans = model_plans(shared / "configs")
    names = list(plans)
    for seed in seeds:
        done = disturbance(seed)
        if mixed and seed % _CALM == 0:
            done = replace(done, **{name: getattr(done, name) / _CALMER for name in ("add", "drop", "alone", "swap")})
        name = names[seed % len(plans)]
        run = simulate_run(plans[name], seed, done)
        yield _run_claims(_without_shapes(run) if mixed and seed % _BLIND == 0 else run, seed)


def launched_claims(shared: Path, seeds: Sequence[int]) -> Iterator[RawClaims]:
    """Claims on runs of other layouts, and on those that are launched as frameworks do."""
    from benchmarks.framework_runs import framework_names, framework_plan, framework_run
    from benchmarks.layout_runs import layout_plans
    from tests.align.simulated_runs import disturbance, simulate_run

    for _, plan in layout_plans(shared / "configs"):
        for seed in seeds:
            yield _run_claims(simulate_run(plan, seed, disturbance(seed)), seed)
    for name in framework_names():
        plan = framework_plan(shared / "configs", name)
        for seed in seeds:
            yield _run_claims(framework_run(name, plan, seed), seed)


def _without_shapes(run: SimulatedRun) -> SimulatedRun:
    none = ["N/A"] * len(run.kernels)
    kernels = replace(run.kernels, input_shapes=none, output_shapes=none, input_dtypes=none, output_dtypes=none)
    return replace(run, kernels=kernels)


def _run_claims(run: SimulatedRun, seed: int) -> RawClaims:
    found, rows = raw_alignment(run.plan, run.kernels)
    scope = [(op.phase, op.micro_batch, op.layer, op.part or op.name) for op in run.plan.ops]
    said = found.op_of_kernel().tolist()
    in_scope = [
        scope[op] in {scope[other] for other in truth} if op >= 0 else not truth
        for op, truth in zip(said, run.truth, strict=True)
    ]
    return _some(rows, {"op": _pairs_right(run, found), "scope": np.array(in_scope, np.float64)}, seed)


def _some(rows: Mapping[str, Float32s], right: Mapping[str, Floats], seed: int) -> RawClaims:
    """Some of the kernels of a run, drawn at random."""
    count = len(right["op"])
    chosen = np.random.default_rng(seed).permutation(count)[:_MOST]
    return RawClaims({claim: of[chosen] for claim, of in rows.items()}, {c: of[chosen] for c, of in right.items()})


def _pairs_right(run: SimulatedRun, found: Alignment) -> Floats:
    """For each kernel the share of the ops given to it that it runs; of one in no plan whether it is."""
    right = np.array([not truth for truth in run.truth], dtype=np.float64)
    matches = found.matches
    each = [op in run.truth[kernel] for op, kernel in zip(matches.op.tolist(), matches.kernel.tolist(), strict=True)]
    count = np.bincount(matches.kernel, minlength=len(right))
    some = count > 0
    right[some] = np.bincount(matches.kernel, each, len(right))[some] / count[some]
    return right


def recorded_claims(names: Sequence[str], scratch: Path) -> Iterator[RawClaims]:
    """Claims on recorded runs in PyTorch and on live ones of MindSpore, by name."""
    from tests.align.known_runs import recorded_run
    from tests.align.mindspore_runs import SAMPLES_RUN, mindspore_run

    for name in names:
        folder = scratch / name
        folder.mkdir()
        run = mindspore_run(name, folder) if name in SAMPLES_RUN else recorded_run(name, folder)
        yield _known_claims(run)


def sampled_claims(samples: Path, scratch: Path) -> Iterator[RawClaims]:
    """Claims on recordings of models drawn at random."""
    from tests.align.known_runs import read_run
    from tests.align.torch_samples import sampled_run

    for path in sorted(samples.glob("*.csv.gz")):
        seed = int(path.name.removesuffix(".csv.gz"))
        run = sampled_run(seed)
        yield _known_claims(read_run(run, path, scratch))


def _known_claims(run: Any) -> RawClaims:
    from tests.align.known_runs import outcome

    found, rows = raw_alignment(run.plan, run.kernels)
    right = np.array(outcome(run, found).right, dtype=np.float64)
    return _some(rows, dict.fromkeys(_CLAIMS, right), len(right))


def fitted(runs: Sequence[RawClaims]) -> dict[str, Any]:
    """
    Trees for every claim, each run weighing by the root of its kernels that are looked at, and the levels behind them.

    Trees are surer of runs that they were fitted to than of others: the levels are what runs showed of trees that were
    fitted to others.
    """
    return {claim: fitted_claim(runs, claim) for claim in _CLAIMS}


def fitted_claim(runs: Sequence[RawClaims], claim: str) -> Mapping[str, Any]:
    """The trees and levels of one claim."""
    names = MatchFeatures.names()
    fold = np.concatenate([np.full(len(run.right[claim]), number % _FOLDS) for number, run in enumerate(runs)])
    rows, right = (np.concatenate([getattr(run, side)[claim] for run in runs]) for side in ("rows", "right"))
    weight = np.concatenate([np.full(len(run.right[claim]), len(run.right[claim]) ** -0.5) for run in runs])
    weight *= len(weight) / weight.sum()

    def trees(some: Int64s) -> Mapping[str, Any]:
        return boosted_trees(rows[some], right[some], weight[some], names, _BOOSTING)

    others = np.empty(len(right))
    for one in range(_FOLDS):
        mine = fold == one
        others[mine] = summed_chance(trees(np.flatnonzero(~mine)[:: 2 * _THIN]), rows[mine])
    return {**trees(np.arange(len(right))[::_THIN]), "levels": _rising_levels(others, right, weight)}


def _rising_levels(given: Floats, right: Floats, weight: Floats) -> list[list[float]]:
    """From which value given each level is, and the share of it that is right; pooled until they rise together."""
    order = np.argsort(given, kind="stable")
    given, right, weight = given[order], right[order], weight[order]
    at = np.searchsorted(given, _EDGES).tolist()
    levels: list[tuple[float, float, float]] = []
    for least, begin, end in zip((0.0, *_EDGES), (0, *at), (*at, len(given)), strict=True):
        if begin == end:
            continue
        levels.append((least, float((weight * right)[begin:end].sum()), float(weight[begin:end].sum())))
        while len(levels) > 1 and levels[-2][1] / levels[-2][2] >= levels[-1][1] / levels[-1][2]:
            last, before = levels.pop(), levels.pop()
            levels.append((before[0], before[1] + last[1], before[2] + last[2]))
    return [[least, round(share / total, 4)] for least, share, total in levels]


def calibration_text(source: str, claims: Mapping[str, Any]) -> str:
    """The file as it is kept: one tree a line."""
    texts = [
        f'  "{claim}": {{\n    "levels": {json.dumps(of["levels"])},\n    "begin": {of["begin"]},\n'
        + '    "trees": [\n      '
        + ",\n      ".join(json.dumps(tree) for tree in of["trees"])
        + "\n    ]\n  }"
        for claim, of in claims.items()
    ]
    return "{\n" + ",\n".join([f'  "source": {json.dumps(source)}', *texts]) + "\n}\n"


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
    options = parser.parse_args()
    seeds, mixed = (range(first, last + 1) for first, last in (options.seeds, options.mixed))
    with tempfile.TemporaryDirectory() as scratch:
        sampled = [claim for folder in options.samples for claim in sampled_claims(folder, Path(scratch))]
        runs = [
            *sampled,
            *recorded_claims(options.recorded, Path(scratch)),
            *simulated_claims(options.shared, seeds, mixed=False),
            *simulated_claims(options.shared, mixed, mixed=True),
            *launched_claims(options.shared, options.launched),
        ]
    source = calibration_source(seeds, mixed, options.recorded, len(sampled), options.launched)
    options.output.write_text(calibration_text(source, fitted(runs)), encoding="utf-8")


def calibration_source(
    seeds: range, mixed: range, recorded: Sequence[str], sampled: int, launched: Sequence[int]
) -> str:
    """Where the trees come from, in words."""
    return (
        f"simulated runs (tests/align/simulated_runs.py), seeds {seeds[0]} to {seeds[-1]} as they are and {mixed[0]} "
        f"to {mixed[-1]} mixed (every {_BLIND}th has no shapes, every {_CALM}rd is disturbed by a {_CALMER:g}th as "
        f"much), the recorded runs {', '.join(recorded) or 'none'} (tests/align/known_runs.py), {sampled} recordings "
        "of models drawn at random (tests/align/torch_samples.py), and runs of every plan of benchmarks/layout_runs.py "
        f"and framework_runs.py with seeds {', '.join(map(str, launched)) or 'none'}: features of matches with the "
        "probability that the pair model gave (memplan/align/probabilities/match_features.py) and whether they were "
        "right, each run weighing by the root of its kernels; by benchmarks/calibration_fit.py. Levels: what trees "
        "say of runs that they were not fitted to, and the share that was right. Other seeds, other recorded "
        "runs, MindSpore's and measured profiles were not used; for the constants of the pair model see the source in "
        "pair_model.json."
    )


if __name__ == "__main__":
    main()
