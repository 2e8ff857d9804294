"""
Where the curves of `memplan/align/calibration.json` come from: what the pair model said of runs of known truth.

`python -m benchmarks.calibration_fit SHARED_DATA [-o FILE] [--seeds FIRST LAST] [--recorded RUN ...] [--weight SHARE]`
aligns simulated runs and recorded ones without calibration and writes the curves, with where they come from beside
them. It takes about five minutes of CPU; runs that are not named are left for checks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from memplan.align import Alignment, align
from memplan.align.probabilities.evidence import MatchEvidence
from memplan.core.arrays import Floats
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.simulated_runs import SimulatedRun
from tests.align.torch_configs import RUNS, SEEN_RUNS

_CLAIMS = ("op", "scope")
_FEWEST, _BIN = 100, 60
"""Matches from which a way of matching has a curve, and of which a point of it stands for at least."""
_CALM, _CALMER, _BLIND = 3, 12.0, 4
"""Every so manieth simulated run is so much less disturbed, and every so manieth has no shapes."""
_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True, slots=True)
class RawClaims:
    """
    What the model said of the kernels of one run, before any curve: columns of equal length by claim.

    `told` is the kind of evidence of each kernel.
    """

    recorded: bool
    told: NDArray[np.str_]
    given: dict[str, Floats]
    right: dict[str, Floats]


def raw_alignment(plan: Plan, kernels: Kernels) -> tuple[Alignment, NDArray[np.str_], dict[str, Floats]]:
    """An alignment without calibration, the evidence of each kernel, and what is given for each claim."""
    evidence: list[NDArray[np.str_]] = []
    given: dict[str, Floats] = {}

    def noted(chance: Floats, told: MatchEvidence, claim: str) -> Floats:
        evidence.append(np.array(told.names)[told.kind])
        given[claim] = np.clip(chance, 0.0, 1.0)
        return given[claim].copy()

    with patch("memplan.align.alignment.calibrated_chance", noted):
        found = align(plan, kernels)
    return found, evidence[0], given


def simulated_claims(shared: Path, seeds: range) -> Iterator[RawClaims]:
    """Claims on simulated runs; some have no shapes, as profiles of the lowest level, some are hardly disturbed."""
    from tests.align.simulated_runs import disturbance, model_plans, simulate_run

    plans = list(model_plans(shared / "configs").values())
    for seed in seeds:
        done = disturbance(seed)
        if seed % _CALM == 0:
            done = replace(done, **{name: getattr(done, name) / _CALMER for name in ("add", "drop", "alone", "swap")})
        run = simulate_run(plans[seed % len(plans)], seed, done)
        kernels = run.kernels
        if seed % _BLIND == 0:
            none = ["N/A"] * len(kernels)
            kernels = replace(kernels, input_shapes=none, output_shapes=none, input_dtypes=none, output_dtypes=none)
        found, told, given = raw_alignment(run.plan, kernels)
        scope = [(op.phase, op.micro_batch, op.layer, op.part or op.name) for op in run.plan.ops]
        said = found.op_of_kernel().tolist()
        in_scope = [
            scope[op] in {scope[other] for other in truth} if op >= 0 else not truth
            for op, truth in zip(said, run.truth, strict=True)
        ]
        yield RawClaims(False, told, given, {"op": _pairs_right(run, found), "scope": np.array(in_scope, np.float64)})


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
    from tests.align.known_runs import outcome, recorded_run
    from tests.align.mindspore_runs import SAMPLES_RUN, mindspore_run

    for name in names:
        folder = scratch / name
        folder.mkdir()
        run = mindspore_run(name, folder) if name in SAMPLES_RUN else recorded_run(name, folder)
        found, told, given = raw_alignment(run.plan, run.kernels)
        right = np.array(outcome(run, found).right, dtype=np.float64)
        yield RawClaims(True, told, given, dict.fromkeys(_CLAIMS, right))


def fitted_curves(runs: Sequence[RawClaims], share: float) -> dict[str, dict[str, list[list[float]]]]:
    """
    Points of every curve: mean probability given and share right.

    Recorded runs weigh `share` as much as the simulated ones together, each by the root of its length.
    """
    found: dict[str, dict[str, list[list[float]]]] = {}
    for claim in _CLAIMS:
        found[claim] = {}
        kinds = sorted({kind for run in runs for kind in np.unique(run.told).tolist()})
        words = [kind.split(".") for kind in kinds]
        for name in sorted({".".join(each[:count]) for each in words for count in range(1, len(each) + 1)}):
            members = [(run.told == name) | np.char.startswith(run.told, f"{name}.") for run in runs]
            given = [run.given[claim][chosen] for run, chosen in zip(runs, members, strict=True)]
            right = [run.right[claim][chosen] for run, chosen in zip(runs, members, strict=True)]
            simulated = sum(len(part) for part, run in zip(given, runs, strict=True) if not run.recorded)
            roots = [
                len(part) / np.sqrt(len(run.given[claim])) * run.recorded for part, run in zip(given, runs, strict=True)
            ]
            scale = share * simulated / sum(roots) if sum(roots) and simulated else 1.0
            weight = [
                np.full(len(part), scale / np.sqrt(len(run.given[claim])) if run.recorded else 1.0)
                for part, run in zip(given, runs, strict=True)
            ]
            columns = [np.concatenate(column).astype(np.float64) for column in (given, right, weight)]
            if len(columns[0]) >= _FEWEST:
                found[claim][name] = _rising_curve(*columns)
    return found


def _rising_curve(given: Floats, right: Floats, weight: Floats) -> list[list[float]]:
    """Bins of what is given with the share right, pooled until they rise together and each has enough."""
    order = np.argsort(given, kind="stable")
    given, right, weight = given[order], right[order], weight[order]
    sixths = np.searchsorted(np.cumsum(weight), np.linspace(0, weight.sum(), 7)[1:-1])
    edges = np.unique(np.concatenate(([0], np.searchsorted(given, _EDGES), sixths, [len(given)])))
    points: list[tuple[float, float, float, int]] = []
    for begin, end in pairwise(edges.tolist()):
        mine = slice(begin, end)
        points.append(
            (
                float(np.average(given[mine], weights=weight[mine])),
                float(np.average(right[mine], weights=weight[mine])),
                float(weight[mine].sum()),
                end - begin,
            )
        )
        while len(points) > 1 and (points[-2][1] >= points[-1][1] or min(points[-2][3], points[-1][3]) < _BIN):
            last, before = points.pop(), points.pop()
            total = before[2] + last[2]
            given_mean, right_mean = ((before[side] * before[2] + last[side] * last[2]) / total for side in (0, 1))
            points.append((given_mean, right_mean, total, before[3] + last[3]))
    return [[round(point[0], 4), round(point[1], 4)] for point in points]


def calibration_text(source: str, curves: dict[str, dict[str, list[list[float]]]]) -> str:
    """The file as it is kept: one curve a line."""
    claims = [
        f'  "{claim}": {{\n'
        + ",\n".join(f'    "{name}": {json.dumps(points)}' for name, points in of.items())
        + "\n  }"
        for claim, of in curves.items()
    ]
    return "{\n" + ",\n".join([f'  "source": {json.dumps(source)}', *claims]) + "\n}\n"


def main() -> None:
    """Write the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("calibration.json"))
    parser.add_argument("--seeds", type=int, nargs=2, default=(5000, 5189), metavar=("FIRST", "LAST"))
    parser.add_argument(
        "--recorded",
        nargs="*",
        default=[*RUNS, *SEEN_RUNS],
    )
    parser.add_argument("--weight", type=float, default=1.0)
    options = parser.parse_args()
    first, last = options.seeds
    with tempfile.TemporaryDirectory() as scratch:
        runs = [
            *simulated_claims(options.shared, range(first, last + 1)),
            *recorded_claims(options.recorded, Path(scratch)),
        ]
    source = (
        f"{last + 1 - first} simulated runs (tests/align/simulated_runs.py, seeds {first} to {last}) and, weighing "
        f"{options.weight:g} as much together, the recorded runs {', '.join(options.recorded)} "
        "(tests/align/known_runs.py): mean probability that the pair model gave, with second opinions, and share "
        "right, by kind of evidence (memplan/align/probabilities/evidence.py) and bins of it, pooled until they rise "
        "together; by benchmarks/calibration_fit.py. Every fourth simulated run has no shapes, every third is "
        "disturbed a twelfth as much. Other seeds, other recorded runs, "
        "MindSpore's and measured profiles were not used for these curves; for the constants of the pair model see the "
        "source in pair_model.json."
    )
    options.output.write_text(calibration_text(source, fitted_curves(runs, options.weight)), encoding="utf-8")


if __name__ == "__main__":
    main()
