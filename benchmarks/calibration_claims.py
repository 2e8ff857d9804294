"""What the pair model said of matches in simulated, launched and recorded runs of known truth, and was it right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memplan.align import Alignment
from memplan.align.alignment import read_run
from memplan.core.arrays import Float32s, Floats, Int64s
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.known_runs import KnownRun
from tests.align.simulated_runs import SimulatedRun, planned_scopes, scopes_right

CALM, CALMER, BLIND = 3, 12.0, 2
"""Every so manieth of the mixed simulated runs is so much less disturbed, and every so manieth has no shapes."""
BLIND_SAMPLES = 4
"""Every so manieth recording of a drawn model is there without shapes, too."""
_UNEVEN = 0.3
"""Standard deviation of logarithms of factors by which kinds of kernels take longer than planned."""
_MOST = 2000
"""Kernels from which a run weighs no more: its matches share few fates."""
_OF_A_FATE = 4
"""Kernels of one class on ops of one class that are looked at."""
_LONG = 0.02
"""Share of the time of a run from which a kernel weighs no more by it."""


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
    """
    An alignment without calibration; kernels of one class on ops of one class are one fate.

    Copies stay with the ops that they are matched with: `align` names many of them as what no plan has, and a copy that
    is matched wrongly would count as right.
    """
    reading = read_run(plan, kernels)
    found, features, owner = reading.settled, reading.features, reading.owner
    rows = {"op": features.rows(found.chance), "scope": features.rows(found.scope_chance)}
    token = np.where(found.row >= 0, reading.both.sequence.token[found.row], -1).astype(np.int64)
    fate = (token + 1) * len(reading.both.kernels) + reading.both.kernel_class
    for chance in (found.chance, found.scope_chance):
        np.clip(chance, 0.0, 1.0, out=chance)
    # A scope is never less likely than an op of it.
    np.maximum(found.chance, found.scope_chance, out=found.scope_chance)
    each = found.of_each(owner)
    said = reading.alignment(each, each.chance, each.scope_chance)
    rows["place"] = rows["op"]
    return _RawAlignment(said, {claim: of[owner] for claim, of in rows.items()}, fate[owner])


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
        if mixed and seed % CALM == 0:
            done = replace(done, **{name: getattr(done, name) / CALMER for name in ("add", "drop", "alone", "swap")})
        name = names[seed % len(plans)]
        run = simulate_run(plans[name], seed, done)
        yield _run_claims(_without_shapes(run, seed) if mixed and seed % BLIND == 0 else run, seed)


def launched_claims(shared: Path, seeds: Sequence[int]) -> Iterator[RawClaims]:
    """Claims on runs of other layouts, and on those that are launched as frameworks do."""
    for run, seed in _launched_runs(shared, seeds):
        yield _run_claims(run, seed)


def blind_claims(shared: Path, seeds: Sequence[int]) -> Iterator[RawClaims]:
    """Claims on the same runs without shapes."""
    for run, seed in _launched_runs(shared, seeds):
        yield _run_claims(_without_shapes(run, seed), seed)


def _launched_runs(shared: Path, seeds: Sequence[int]) -> Iterator[tuple[SimulatedRun, int]]:
    from benchmarks.framework_runs import framework_names, framework_plan, framework_run
    from benchmarks.layout_runs import layout_plans
    from tests.align.simulated_runs import disturbance, simulate_run

    for _, plan in layout_plans(shared / "configs"):
        for seed in seeds:
            yield simulate_run(plan, seed, disturbance(seed)), seed
    for name in framework_names():
        plan = framework_plan(shared / "configs", name)
        for seed in seeds:
            yield framework_run(name, plan, seed), seed


def _without_shapes(run: SimulatedRun, seed: int) -> SimulatedRun:
    """
    The run as a profile of the lowest level has it.

    Only times tell what such kernels are, so these are not as even as planned ones: each kind takes longer or shorter.
    """
    kinds = [
        (kind, run.plan.ops[min(ops)].part if ops else None)
        for kind, ops in zip(run.kernels.type, run.truth, strict=True)
    ]
    chance = np.random.default_rng(seed)
    factor = {kind: float(np.exp(chance.normal(0.0, _UNEVEN))) for kind in dict.fromkeys(kinds)}
    took = run.kernels.duration_ns * np.array([factor[kind] for kind in kinds])
    kernels = shapeless(replace(run.kernels, duration_ns=np.maximum(took, 1).astype(np.int64)))
    return replace(run, kernels=kernels)


def shapeless(kernels: Kernels) -> Kernels:
    """Kernels as a profile of the lowest level has them: without shapes and dtypes."""
    none = ["N/A"] * len(kernels)
    return replace(kernels, input_shapes=none, output_shapes=none, input_dtypes=none, output_dtypes=none)


def _run_claims(run: SimulatedRun, seed: int) -> RawClaims:
    raw = raw_alignment(run.plan, run.kernels)
    right = {
        "op": _pairs_right(run, raw.found),
        "scope": np.array(scopes_right(run, raw.found), np.float64),
        "place": _place_right(run.plan, raw.found, run.truth),
    }
    return _some(raw, right, run.kernels.duration_ns, seed)


def _place_right(plan: Plan, found: Alignment, truth: Sequence[Set[int]]) -> Floats:
    """
    For each kernel whether phase, micro-batch and layer are right: `truth` has the planned ops that it runs.

    Those of a kernel in no plan are of the nearest before or behind it that is.
    """
    planned = [scope[:3] for scope in planned_scopes(plan)]
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


def sampled_claims(samples: Path, scratch: Path, *, blind: int = 0) -> Iterator[RawClaims]:
    """Claims on recordings of models drawn at random; where `blind`, on every so manieth of them without shapes."""
    from tests.align.known_runs import read_run
    from tests.align.torch_samples import sampled_run

    for path in sorted(samples.glob("*.csv.gz"))[:: blind or 1]:
        seed = int(path.name.removesuffix(".csv.gz"))
        run = read_run(sampled_run(seed), path, scratch)
        yield _known_claims(replace(run, kernels=shapeless(run.kernels)) if blind else run)


def _known_claims(run: KnownRun) -> RawClaims:
    from tests.align.known_runs import outcome

    raw = raw_alignment(run.plan, run.kernels)
    named = {op.name: op.index for op in run.plan.ops}
    truth = [{named[name] for name in names if name in named} for names in run.truth]
    right = np.array(outcome(run, raw.found).right, dtype=np.float64)
    place = _place_right(run.plan, raw.found, truth)
    return _some(raw, {"op": right, "scope": right, "place": place}, run.kernels.duration_ns, len(right))
