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
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.boosted_trees import Boosting, boosted_trees
from memplan.align import Alignment, align
from memplan.align.assignment import KernelAssignment
from memplan.align.likelihood import Likelihoods
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.probabilities.boosted_chance import summed_chance
from memplan.align.probabilities.match_features import MatchFeatures, match_features
from memplan.align.tokens import TokenClasses
from memplan.align.update_units import update_units
from memplan.core.arrays import Bools, Float32s, Floats, Int32s, Int64s
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.known_runs import KnownRun
from tests.align.simulated_runs import SimulatedRun
from tests.align.torch_configs import RUNS, SEEN_RUNS

_CLAIMS = ("op", "scope", "place")
"""What a probability is of: the op, its scope (phase, micro-batch, layer and part), or the place without the part."""
_CALM, _CALMER, _BLIND = 3, 12.0, 4
"""Every so manieth of the mixed simulated runs is so much less disturbed, and every so manieth has no shapes."""
_FOLDS = 3
"""Parts of the runs, each of which is asked of trees that were fitted to the others."""
_EVEN = 0.5
"""Less than even odds are not stated: the kernel is not told apart."""
_EDGES = {"op": (_EVEN, 0.998), "scope": (_EVEN, 0.998), "place": (_EVEN,)}
"""
Where levels of what is given begin. Runs tell no finer ones apart, for their errors come in clumps: a level that is not
wide enough is off in one run or another.
"""
_MOST = 2000
"""Kernels from which a run weighs no more: its matches share few fates."""
_OF_A_FATE = 4
"""Kernels of one class on ops of one class that are looked at."""
_LONG = 0.02
"""Share of the time of a run from which a kernel weighs no more by it."""
_BOOSTING = Boosting(trees=76, depth=6, rate=0.13, penalty=30.0, least_weight=40.0)


@dataclass(frozen=True, slots=True)
class RawClaims:
    """
    What the model said of kernels of one run: a row of features by claim, and whether it was right.

    Each kernel stands for so many of its run (`count`) and counts so much for trees (`weight`).
    """

    rows: dict[str, Float32s]
    right: dict[str, Floats]
    count: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class _RawAlignment:
    """An alignment with all that it withholds, the row of features of each kernel by claim, and its fate's number."""

    found: Alignment
    rows: dict[str, Float32s]
    fate: Int64s


def raw_alignment(plan: Plan, kernels: Kernels) -> _RawAlignment:
    """An alignment without calibration; kernels of one class on ops of one class are one fate."""
    from memplan.align import alignment
    from memplan.align.probabilities import told_apart

    rows: dict[str, Float32s] = {}
    owners: list[Int64s] = []
    fates: list[Int64s] = []

    def noted(chance: Floats, features: MatchFeatures, claim: str) -> Floats:
        if claim != "place":
            rows[claim] = features.rows(chance)
        return np.clip(chance, 0.0, 1.0)

    def as_found(*of: Any) -> Any:
        return of[0]

    def units(*of: Any) -> Any:
        found = update_units(*of)
        owners.append(found.owner)
        return found

    def features_of(
        sequence: PlannedSequence,
        ratios: Likelihoods,
        classes: TokenClasses,
        kernel_class: Int32s,
        found: KernelAssignment,
        missed: int,
    ) -> MatchFeatures:
        token = np.where(found.row >= 0, sequence.token[found.row], -1).astype(np.int64)
        fates.append((token + 1) * len(classes) + kernel_class)
        return match_features(sequence, ratios, classes, kernel_class, found, missed)

    with (
        patch.object(told_apart, "boosted_chance", noted),
        patch.object(told_apart, "stated_chance", as_found),
        patch.object(alignment, "update_units", units),
        patch.object(alignment, "match_features", features_of),
    ):
        found = align(plan, kernels)
    rows["place"] = rows["op"]
    return _RawAlignment(found, {claim: of[owners[0]] for claim, of in rows.items()}, fates[0][owners[0]])


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
    raw = raw_alignment(run.plan, run.kernels)
    places = _places(run.plan)
    in_scope = [
        places[op] in {places[other] for other in truth} if op >= 0 else not truth
        for op, truth in zip(raw.found.op_of_kernel().tolist(), run.truth, strict=True)
    ]
    right = {
        "op": _pairs_right(run, raw.found),
        "scope": np.array(in_scope, np.float64),
        "place": _place_right(run.plan, raw.found, run.truth),
    }
    return _some(raw, right, run.kernels.duration_ns, seed)


def _places(plan: Plan) -> list[tuple[str | None, int | None, int | None, str]]:
    """Phase, micro-batch, layer and part of every planned op."""
    return [(op.phase, op.micro_batch, op.layer, op.part or op.name) for op in plan.ops]


def _place_right(plan: Plan, found: Alignment, truth: Sequence[Set[int]]) -> Floats:
    """
    For each kernel whether phase, micro-batch and layer are right: `truth` has the planned ops that it runs.

    Those of a kernel in no plan are of the nearest before or behind it that is.
    """
    planned = [place[:3] for place in _places(plan)]
    places = [{planned[op] for op in ops} for ops in truth]
    near = [set(mine) for mine in places]
    for order in (range(len(places)), reversed(range(len(places)))):
        last: Set[tuple[str | None, int | None, int | None]] = set()
        for kernel in order:
            last = places[kernel] or last
            near[kernel] |= set() if places[kernel] else last
    scopes = found.scopes
    said = zip(scopes.phase.tolist(), scopes.micro_batch.tolist(), scopes.layer.tolist(), near, strict=True)
    return np.array(
        [
            (scopes.phases[phase] if phase >= 0 else None, *(None if of < 0 else of for of in (batch, layer))) in right
            for phase, batch, layer, right in said
        ],
        dtype=np.float64,
    )


def _some(raw: _RawAlignment, right: Mapping[str, Floats], duration_ns: Int64s, seed: int) -> RawClaims:
    """
    A few kernels of each fate of a run, drawn at random.

    Half of a run's weight is its fates', by the root of how many kernels share each, half its time: long kernels are
    few, and what is given of them counts.
    """
    count = len(raw.fate)
    order = np.random.default_rng(seed).permutation(count)
    order = order[np.argsort(raw.fate[order], kind="stable")]
    _, first, members = np.unique(raw.fate[order], return_index=True, return_counts=True)
    chosen = order[np.arange(count) - np.repeat(first, members) < _OF_A_FATE]
    of_fate = np.repeat(members, members)[np.argsort(order)]
    stands_for = (of_fate / np.minimum(of_fate, _OF_A_FATE))[chosen]
    shared, time = of_fate**-0.5, np.minimum(duration_ns / max(1, int(duration_ns.sum())), _LONG)
    weight = 0.5 * shared / max(shared.sum(), 1e-9) + 0.5 * time / max(time.sum(), 1e-9)
    return RawClaims(
        {claim: of[chosen] for claim, of in raw.rows.items()},
        {claim: of[chosen] for claim, of in right.items()},
        stands_for,
        weight[chosen] * stands_for * min(count, _MOST) ** 0.5,
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
        yield _known_claims(run)


def sampled_claims(samples: Path, scratch: Path) -> Iterator[RawClaims]:
    """Claims on recordings of models drawn at random."""
    from tests.align.known_runs import read_run
    from tests.align.torch_samples import sampled_run

    for path in sorted(samples.glob("*.csv.gz")):
        seed = int(path.name.removesuffix(".csv.gz"))
        run = sampled_run(seed)
        yield _known_claims(read_run(run, path, scratch))


def _known_claims(run: KnownRun) -> RawClaims:
    from tests.align.known_runs import outcome

    raw = raw_alignment(run.plan, run.kernels)
    named = {op.name: op.index for op in run.plan.ops}
    truth = [{named[name] for name in names if name in named} for names in run.truth]
    right = np.array(outcome(run, raw.found).right, dtype=np.float64)
    place = _place_right(run.plan, raw.found, truth)
    return _some(raw, {"op": right, "scope": right, "place": place}, run.kernels.duration_ns, len(right))


def fitted(runs: Sequence[RawClaims]) -> dict[str, Any]:
    """
    Trees for every claim, and the levels behind them.

    Trees are surer of runs that they were fitted to than of others: the levels are what runs showed of trees that were
    fitted to others. Only of kernels whose op is not told is the place asked.
    """
    every = np.ones(sum(len(run.count) for run in runs), dtype=np.bool_)
    found, likely = fitted_claim(runs, "op", every)
    claims = {"op": found}
    for claim, some in (("scope", every), ("place", likely < _EVEN)):
        claims[claim], _ = fitted_claim(runs, claim, some)
    return claims


def fitted_claim(runs: Sequence[RawClaims], claim: str, some: Bools) -> tuple[Mapping[str, Any], Floats]:
    """The trees and levels of one claim, from `some` kernels, and what trees fitted to other runs say of these."""
    names = MatchFeatures.names()
    fold = np.concatenate([np.full(len(run.count), number % _FOLDS) for number, run in enumerate(runs)])[some]
    rows, right = (np.concatenate([getattr(run, side)[claim] for run in runs])[some] for side in ("rows", "right"))
    weight = np.concatenate([run.weight for run in runs])[some]
    weight *= len(weight) / weight.sum()
    count = np.concatenate([run.count / run.count.sum() ** 0.5 for run in runs])[some]

    def trees(chosen: Int64s) -> Mapping[str, Any]:
        return boosted_trees(rows[chosen], right[chosen], weight[chosen], names, _BOOSTING)

    others = np.empty(len(right))
    for one in range(_FOLDS):
        mine = fold == one
        others[mine] = summed_chance(trees(np.flatnonzero(~mine)), rows[mine])
    return {**trees(np.arange(len(right))), "levels": _rising_levels(others, right, count, _EDGES[claim])}, others


def _rising_levels(
    given: Floats, right: Floats, weight: Floats, edges: Sequence[float]
) -> list[tuple[float, float | None]]:
    """
    From which value given each level is, and the share of it that is right; pooled until they rise together.

    Below even odds none is given.
    """
    order = np.argsort(given, kind="stable")
    given, right, weight = given[order], right[order], weight[order]
    at = np.searchsorted(given, edges).tolist()
    levels: list[tuple[float, float, float]] = []
    for least, begin, end in zip(edges, at, (*at[1:], len(given)), strict=True):
        if begin == end:
            continue
        levels.append((least, float((weight * right)[begin:end].sum()), float(weight[begin:end].sum())))
        while len(levels) > 1 and levels[-2][1] / levels[-2][2] >= levels[-1][1] / levels[-1][2]:
            last, before = levels.pop(), levels.pop()
            levels.append((before[0], before[1] + last[1], before[2] + last[2]))
    return [(0.0, None), *((least, round(share / total, 4)) for least, share, total in levels)]


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
        "right, each run weighing by the root of its kernels, half by fates and half by time; by "
        "benchmarks/calibration_fit.py. Levels: what trees say of runs that they were not fitted to, and the share of "
        "kernels that was right. Other seeds, other recorded "
        "runs, MindSpore's and measured profiles were not used; for the constants of the pair model see the source in "
        "pair_model.json."
    )


if __name__ == "__main__":
    main()
