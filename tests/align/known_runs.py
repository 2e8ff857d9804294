"""Runs whose truth is known: recorded ops with the planned ops they may be, and how an alignment does on them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import memplan
from memplan.align import Alignment, align
from memplan.core.arrays import Int64s
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph, training_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from memplan.traces.readers.host_ops import host_kernels
from tests.align.torch_configs import TorchRun
from tests.align.torch_kinds import ALL_RUNS
from tests.align.torch_runs import ANY_UPDATE

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A plan, what ran, without names, and for each kernel the names of planned ops that it may be; `-what` if none."""

    plan: Plan
    kernels: Kernels
    truth: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of each kernel: whether it is matched right, the probability given (NaN: not told apart), its time in ns."""

    right: list[bool]
    chance: list[float]
    duration_ns: list[int]

    @property
    def time_right(self) -> float:
        """Share of the time of all kernels that is matched right."""
        return sum(time for time, right in zip(self.duration_ns, self.right, strict=True) if right) / sum(
            self.duration_ns
        )

    @property
    def told(self) -> float:
        """Share of kernels of which it is stated what they are."""
        return 1.0 - float(np.isnan(self.chance).mean())


def recorded_run(name: str, folder: Path, source: Path | None = None) -> KnownRun:
    """The recorded run of a model in PyTorch (`torch_runs`) with a plan from its config; `folder` is scratch."""
    return read_run(ALL_RUNS[name], source or RECORDED / f"{name}.csv.gz", folder)


def read_run(run: TorchRun, source: Path, folder: Path) -> KnownRun:
    """The run whose recording is `source`."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    alike = [f"{row['type']} {row['input_shapes']}" for row in rows]
    kernels = host_kernels(
        [int(row["start_ns"]) for row in rows],
        without_stalls(np.array([int(row["duration_ns"]) for row in rows], dtype=np.int64), alike).tolist(),
        [0] * len(rows),
        [""] * len(rows),
        [row["type"] for row in rows],
        [row["input_shapes"] for row in rows],
        [row["input_dtypes"] for row in rows],
    )
    plan = torch_plan(run, folder)
    updates = frozenset(op.name for op in plan.ops if op.name.endswith(".adam"))
    named = [frozenset(row["truth"].split("|")) for row in rows]
    return KnownRun(plan, kernels, tuple(updates if ANY_UPDATE in names else names for names in named))


def without_stalls(duration_ns: Int64s, alike: Sequence[str]) -> Int64s:
    """The median duration of kernels that are `alike`: where a busy machine stops a thread, the time is nobody's."""
    _, kind = np.unique(np.array(alike), return_inverse=True)
    times = duration_ns.copy()
    for members in np.split(np.argsort(kind, kind="stable"), np.cumsum(np.bincount(kind))[:-1]):
        times[members] = int(np.median(duration_ns[members]))
    return times


def nameless(kernels: Kernels) -> Kernels:
    """Kernels without names, at the medians of those that are alike."""
    alike = [f"{type_} {shapes}" for type_, shapes in zip(kernels.type, kernels.input_shapes, strict=True)]
    return replace(kernels, name=[""] * len(kernels), duration_ns=without_stalls(kernels.duration_ns, alike))


def torch_plan(run: TorchRun, folder: Path) -> Plan:
    """The plan of a step of that model, from its config alone."""
    path = folder / "config.json"
    path.write_text(json.dumps(run.config), encoding="utf-8")
    model = load_config(path)
    if not run.trains:
        return memplan.plan(
            model_graph(model, None, Layout(), ServedStep(Phase.PREFILL, run.batch, run.sequence)), chip="910B2"
        )
    again = len(model.layers) if run.checkpoints else 0
    recipe = Recipe(
        sequence=run.sequence, micro_batch=run.batch, micro_batches=run.micro_batches, recompute_layers=again
    )
    return memplan.plan(training_graph(model, Layout(), recipe), chip="910B2")


def outcome(run: KnownRun, found: Alignment) -> Outcome:
    """How an alignment does on a run: an unplanned kernel is right when it is named as what it is."""
    names = named_matches(run.plan, found)
    right = [name in truth for name, truth in zip(names, run.truth, strict=True)]
    return Outcome(right, claimed_chance(found), run.kernels.duration_ns.tolist())


def named_matches(plan: Plan, found: Alignment) -> Sequence[str]:
    """For each kernel the name of its planned op, `-what` where it has none."""
    scopes = found.scopes
    return [
        plan.ops[op].name if op >= 0 else f"-{scopes.whats[scopes.what[kernel]] if scopes.what[kernel] >= 0 else ''}"
        for kernel, op in enumerate(found.op_of_kernel().tolist())
    ]


def claimed_chance(found: Alignment) -> list[float]:
    """For each kernel the probability of what `named_matches` says: of its (first) op, or of being in no plan."""
    chance = found.scopes.probability.copy()
    chance[found.matches.kernel[::-1]] = found.matches.probability[::-1]
    return list(chance.tolist())


def aligned(run: KnownRun) -> Outcome:
    """The outcome of aligning a run."""
    return outcome(run, align(run.plan, run.kernels))
