"""
Where `memplan/align/calibration.json` comes from: what the pair model said of runs of known truth.

`python -m benchmarks.calibration_fit SHARED_DATA [-o FILE] [--seeds FIRST LAST] [--recorded RUN ...] [--samples
FOLDER] [--launched SEED ...] [--keep-trees]` aligns simulated runs and recorded ones without calibration and fits trees
(`boosted_trees`) to what was right, with where they come from beside them; with `--keep-trees` the curves behind them
alone, to runs that the trees were not fitted to. FOLDER has recordings of models drawn at random, which `python -m
tests.align.torch_samples FOLDER FIRST LAST` makes where PyTorch is installed. It takes about ten minutes of CPU; runs
that are not named are left for checks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.boosted_trees import boosted_trees
from memplan.align import Alignment, align
from memplan.align.probabilities.boosted_chance import summed_chance
from memplan.align.probabilities.match_features import MatchFeatures
from memplan.align.update_units import update_units
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.core.resources import table
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.simulated_runs import SimulatedRun
from tests.align.torch_configs import RUNS, SEEN_RUNS

_CLAIMS = ("op", "scope")
_CALM, _CALMER, _BLIND = 3, 12.0, 4
"""Every so manieth simulated run is so much less disturbed, and every so manieth has no shapes."""
_FOLDS, _THIN = 3, 3
"""Parts of the kinds of runs; each is asked of trees that were fitted to the others, to every so manieth kernel."""
_EDGES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.985, 0.995)
_MOST = 4000
"""Kernels of a run that are looked at: its matches share few fates."""


@dataclass(frozen=True, slots=True)
class RawClaims:
    """What the model said of kernels of one run: a row of features by claim, whether it was right; the run's kind."""

    kind: str
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


def simulated_claims(shared: Path, seeds: range) -> Iterator[RawClaims]:
    """Claims on simulated runs; some have no shapes, as profiles of the lowest level, some are hardly disturbed."""
    from tests.align.simulated_runs import disturbance, model_plans, simulate_run

    plans = model_plans(shared / "configs")
    names = list(plans)
    for seed in seeds:
        done = disturbance(seed)
        if seed % _CALM == 0:
            done = replace(done, **{name: getattr(done, name) / _CALMER for name in ("add", "drop", "alone", "swap")})
        name = names[seed % len(plans)]
        run = simulate_run(plans[name], seed, done)
        yield _run_claims(name, _without_shapes(run) if seed % _BLIND == 0 else run, seed)


def launched_claims(shared: Path, seeds: Sequence[int]) -> Iterator[RawClaims]:
    """Claims on runs of other layouts, and on those that are launched as frameworks do."""
    from benchmarks.framework_runs import framework_names, framework_plan, framework_run
    from benchmarks.layout_runs import layout_plans
    from tests.align.simulated_runs import disturbance, simulate_run

    for name, plan in layout_plans(shared / "configs"):
        for seed in seeds:
            yield _run_claims(name, simulate_run(plan, seed, disturbance(seed)), seed)
    for name in framework_names():
        plan = framework_plan(shared / "configs", name)
        for seed in seeds:
            yield _run_claims(name, framework_run(name, plan, seed), seed)


def _without_shapes(run: SimulatedRun) -> SimulatedRun:
    none = ["N/A"] * len(run.kernels)
    kernels = replace(run.kernels, input_shapes=none, output_shapes=none, input_dtypes=none, output_dtypes=none)
    return replace(run, kernels=kernels)


def _run_claims(kind: str, run: SimulatedRun, seed: int) -> RawClaims:
    found, rows = raw_alignment(run.plan, run.kernels)
    scope = [(op.phase, op.micro_batch, op.layer, op.part or op.name) for op in run.plan.ops]
    said = found.op_of_kernel().tolist()
    in_scope = [
        scope[op] in {scope[other] for other in truth} if op >= 0 else not truth
        for op, truth in zip(said, run.truth, strict=True)
    ]
    return _some(kind, rows, {"op": _pairs_right(run, found), "scope": np.array(in_scope, np.float64)}, seed)


def _some(kind: str, rows: Mapping[str, Float32s], right: Mapping[str, Floats], seed: int) -> RawClaims:
    """Some of the kernels of a run, drawn at random."""
    count = len(right["op"])
    chosen = np.random.default_rng(seed).permutation(count)[:_MOST]
    return RawClaims(
        kind, {claim: of[chosen] for claim, of in rows.items()}, {c: of[chosen] for c, of in right.items()}
    )


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
        yield _known_claims(name, run)


def sampled_claims(samples: Path, scratch: Path) -> Iterator[RawClaims]:
    """Claims on recordings of models drawn at random."""
    from tests.align.known_runs import read_run
    from tests.align.torch_samples import sampled_run

    for path in sorted(samples.glob("*.csv.gz")):
        seed = int(path.name.removesuffix(".csv.gz"))
        run = sampled_run(seed)
        yield _known_claims(run.config["model_type"], read_run(run, path, scratch))


def _known_claims(kind: str, run: Any) -> RawClaims:
    from tests.align.known_runs import outcome

    found, rows = raw_alignment(run.plan, run.kernels)
    right = np.array(outcome(run, found).right, dtype=np.float64)
    return _some(kind, rows, dict.fromkeys(_CLAIMS, right), len(right))


def fitted(runs: Sequence[RawClaims]) -> dict[str, Any]:
    """
    Trees for every claim, each run weighing by the root of its kernels that are looked at, and the curve behind them.

    Trees are surer of runs that they were fitted to than of others: the curve is what runs showed of trees that were
    fitted to those of other kinds.
    """
    found = {}
    kinds = sorted({run.kind for run in runs})
    parts = [kinds.index(run.kind) % _FOLDS for run in runs]
    for claim in _CLAIMS:
        fold = np.concatenate([np.full(len(run.right[claim]), part) for part, run in zip(parts, runs, strict=True)])
        rows, right = (np.concatenate([getattr(run, side)[claim] for run in runs]) for side in ("rows", "right"))
        weight = np.concatenate([np.full(len(run.right[claim]), len(run.right[claim]) ** -0.5) for run in runs])
        weight *= len(weight) / weight.sum()
        others = np.empty(len(right))
        for one in range(_FOLDS):
            rest, mine = np.flatnonzero(fold != one)[::_THIN], fold == one
            trees = boosted_trees(rows[rest], right[rest], weight[rest], MatchFeatures.names())
            others[mine] = summed_chance(trees, rows[mine])
        found[claim] = {
            **boosted_trees(rows, right, weight, MatchFeatures.names()),
            "curve": _rising_curve(others, right, weight),
        }
    return found


def curves_alone(runs: Sequence[RawClaims]) -> dict[str, Any]:
    """The trees of the package with curves that show what they are worth on `runs`, which they were not fitted to."""
    found = {}
    for claim in _CLAIMS:
        told = table("memplan.align", "calibration.json")[claim]
        rows, right = (np.concatenate([getattr(run, side)[claim] for run in runs]) for side in ("rows", "right"))
        weight = np.concatenate([np.full(len(run.right[claim]), len(run.right[claim]) ** -0.5) for run in runs])
        found[claim] = {**told, "curve": _rising_curve(summed_chance(told, rows), right, weight)}
    return found


def _rising_curve(given: Floats, right: Floats, weight: Floats) -> list[list[float]]:
    """Bins of what is given with the share right, pooled until they rise together."""
    order = np.argsort(given, kind="stable")
    given, right, weight = given[order], right[order], weight[order]
    edges = np.unique(np.concatenate(([0], np.searchsorted(given, _EDGES), [len(given)])))
    points: list[tuple[float, float, float]] = []
    for begin, end in pairwise(edges.tolist()):
        mine = slice(begin, end)
        sums = [float((weight[mine] * of[mine]).sum()) for of in (given, right, np.ones(len(given)))]
        points.append((sums[0], sums[1], sums[2]))
        while len(points) > 1 and points[-2][1] / points[-2][2] >= points[-1][1] / points[-1][2]:
            last, before = points.pop(), points.pop()
            points.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    return [[round(point[0] / point[2], 4), round(point[1] / point[2], 4)] for point in points]


def calibration_text(source: str, claims: Mapping[str, Any]) -> str:
    """The file as it is kept: one tree a line."""
    texts = [
        f'  "{claim}": {{\n    "curve": {json.dumps(of["curve"])},\n    "begin": {of["begin"]},\n    "trees": [\n      '
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
    parser.add_argument("--seeds", type=int, nargs=2, default=(5000, 5119), metavar=("FIRST", "LAST"))
    parser.add_argument("--launched", type=int, nargs="*", default=(), metavar="SEED")
    parser.add_argument("--recorded", nargs="*", default=[*RUNS, *SEEN_RUNS])
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--keep-trees", action="store_true", help="fit curves behind the trees of the package")
    options = parser.parse_args()
    first, last = options.seeds
    with tempfile.TemporaryDirectory() as scratch:
        sampled = list(sampled_claims(options.samples, Path(scratch))) if options.samples else []
        runs = [
            *sampled,
            *recorded_claims(options.recorded, Path(scratch)),
            *simulated_claims(options.shared, range(first, last + 1)),
            *launched_claims(options.shared, options.launched),
        ]
    which = (
        f"{last + 1 - first} simulated runs (tests/align/simulated_runs.py, seeds {first} to {last}), the recorded "
        f"runs {', '.join(options.recorded) or 'none'} (tests/align/known_runs.py), {len(sampled)} recordings of "
        "models drawn at random (tests/align/torch_samples.py) and runs of every plan of benchmarks/layout_runs.py and "
        f"framework_runs.py with seeds {', '.join(map(str, options.launched)) or 'none'}"
    )
    if options.keep_trees:
        trees = table("memplan.align", "calibration.json")["source"].partition(" Curves: ")[0]
        source = f"{trees} Curves: what trees say of runs that they were not fitted to: {which}."
        claims: Mapping[str, Any] = curves_alone(runs)
    else:
        source, claims = _source(which), fitted(runs)
    options.output.write_text(calibration_text(source, claims), encoding="utf-8")


def _source(which: str) -> str:
    return (
        f"{which}: features of matches with the probability that the pair model gave "
        "(memplan/align/probabilities/match_features.py) and whether they were right, each run weighing by the root of "
        f"its kernels; by benchmarks/calibration_fit.py. Every {_BLIND}th simulated run has no shapes, every {_CALM}rd "
        f"is disturbed by a {_CALMER:g}th as much. Other seeds, other recorded runs, MindSpore's and measured profiles "
        "were not used; for the constants of the pair model see the source in pair_model.json."
    )


if __name__ == "__main__":
    main()
