"""
Planted faults on plans that nothing was made with: every run of `benchmarks/findings.py --plans fresh` is on others.

Models, graphs, layouts, phases, numbers of ranks and steps, strengths, files of three frameworks, and whether the plan
is given, are drawn by the seed. A fault that adds less than a fiftieth of a step is drawn again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

import memplan
from benchmarks.fresh_plans import Draw, computing_ops, fresh_plans
from benchmarks.planted import cost_of, faults_of, off_by
from memplan.core.resources import table
from memplan.findings import Finding, diagnose
from memplan.graph.op_names import op_family
from memplan.schema import Plan
from memplan.simulator import FAULTS, LAYOUTS, STRENGTHS, chosen_fault, simulate_job

_KERNELS = 6_000
"""Of a run, over all ranks and steps: more take long to write and show nothing else."""
_SEEN = 0.02
_TRIES = 6


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run is of; `told` is what the diagnosis is told beside the profile: its plan, its chip, or nothing."""

    name: str
    plan: Plan
    layout: str
    ranks: int
    steps: int
    seed: int
    told: str
    files: str

    def words(self) -> str:
        given = {"plan": "with its plan", "chip": "with its chip", "": "alone"}[self.told]
        return f"{self.name}, {self.layout}, {self.ranks} ranks, {self.steps} steps, {self.files}, {given}, {self.seed}"


@dataclass(frozen=True, slots=True)
class _Outcome:
    kind: str
    good: bool
    off: float | None
    words: str


def fresh_trial(folder: Path, seed: int, *, faulty: int, clean: int, models: int, graphs: int) -> tuple[str, bool]:
    """The report of a trial in Markdown, and whether it reaches what is aimed at."""
    plans = fresh_plans(folder, seed, models=models, graphs=graphs)
    lines = [f"Seed {seed}; {len(plans)} plans: {', '.join(plans)}.", ""]
    found = list(_faulty(plans, folder, seed, faulty))
    quiet = list(_clean(plans, folder, seed, clean))
    right, silent = sum(one.good for one in found), sum(one.good for one in quiet)
    off = {kind: [abs(one.off) for one in found if one.kind == kind and one.off is not None] for kind in FAULTS}
    each = [one for errors in off.values() for one in errors]
    far = sum(one > 0.15 for one in each)
    middle = median([median(errors) for errors in off.values() if errors] or [0.0])
    lines += [
        f"Planted fault ranked first: {right} of {len(found)}, {right / max(len(found), 1):.1%}.",
        f"Clean runs without a finding: {silent} of {len(quiet)}, {silent / max(len(quiet), 1):.1%}.",
        f"Error of cost, median over kinds: {middle:.1%}; above 15 % in {far} of {len(each)}.",
    ]
    odd = [one for one in (*found, *quiet) if not one.good or abs(one.off or 0) > 0.15]
    if odd:
        lines += [
            "",
            "| not first, not silent, or off by more than 15 % | cost off by | run, and what is told |",
            "|---|---|---|",
        ]
        lines += [f"| {one.kind} | {'–' if one.off is None else f'{one.off:+.1%}'} | {one.words} |" for one in odd]
    good = right >= 0.95 * len(found) and silent >= 0.95 * len(quiet) and middle <= 0.15
    return "\n".join(lines), good


def _faulty(plans: Mapping[str, Plan], folder: Path, seed: int, count: int) -> Iterator[_Outcome]:
    kinds: list[str] = []
    draw = Draw(seed, 2)
    for number in range(count):
        if not kinds:
            kinds = sorted(FAULTS, key=lambda _: draw.share())
        outcome = _with_fault(kinds.pop(), plans, folder, Draw(seed, 3, number))
        if outcome is not None:
            print("first" if outcome.good else "NOT FIRST", outcome, flush=True)
            yield outcome


def _with_fault(kind: str, plans: Mapping[str, Plan], folder: Path, draw: Draw) -> _Outcome | None:
    fault = FAULTS[kind]
    fitting = {
        name: plan
        for name, plan in plans.items()
        if (fault.layout != "expert" or any(op.type == "GroupedMatmul" for op in plan.ops))
        and (kind != "needless-recompute" or "train" in name)
    }
    for _ in range(_TRIES if fitting else 0):
        run = _drawn(fitting, draw, fault.layout, at_least=fault.ranks, planned=fault.planned)
        strength = draw.one_of(tuple(STRENGTHS))
        chosen = chosen_fault(f"{kind}:{strength}")
        target = folder / "run"
        try:
            simulate_job(run.plan, target, fault=chosen, ranks=run.ranks, steps=run.steps, seed=run.seed)
        except memplan.InputError as refused:
            print(f"refused: {kind} {run.words()}: {refused}", flush=True)
            continue
        cost = cost_of(run.plan, chosen, ranks=run.ranks, steps=run.steps, seed=run.seed)
        alone = run.steps * sum(op.duration_ns for op in computing_ops(run.plan))
        if not fault.memory and kind != "kv-over-commit" and cost < _SEEN * alone:
            shutil.rmtree(target)
            continue
        found = _found(run, folder, bubble="pipeline.bubble" in fault.findings)
        named = [one for one in found if one.kind in fault.findings]
        off = None
        if any(one.cost_ns or one.cost_bytes for one in named):
            off = off_by(cost, chosen, named)
        good = bool(found) and found[0].kind in fault.findings
        return _Outcome(kind, good, off, f"{strength}, {run.words()}: {_told(found)}")
    return None


def _clean(plans: Mapping[str, Plan], folder: Path, seed: int, count: int) -> Iterator[_Outcome]:
    number = done = 0
    while done < count and number < 3 * count:
        number += 1
        draw = Draw(seed, 4, number)
        run = _drawn(plans, draw, draw.one_of(LAYOUTS))
        try:
            simulate_job(
                run.plan, folder / "run", ranks=run.ranks, steps=run.steps, seed=run.seed, layout=run.layout,
                background=draw.share() < 0.75,
            )  # fmt: skip
        except memplan.InputError:
            continue
        done += 1
        found = _found(run, folder)
        outcome = _Outcome("clean", not found, None, f"{run.words()}: {_told(found)}")
        print("silent" if outcome.good else "NOT SILENT", outcome, flush=True)
        yield outcome


def _told_anyway(plan: Plan) -> bool:
    """Whether what the plan does is found in it by anybody who isn't given the plan: what it has was asked for."""
    ops = computing_ops(plan)
    whole = sum(op.duration_ns for op in ops)
    converting, casting, plain = (
        {op_family(name) for name in table("memplan.findings", "kernel_kinds.json")[kind]["names"]}
        for kind in ("formats", "casts", "elementwise")
    )
    moving, cast = (sum(op.duration_ns for op in ops if op_family(op.type) in names) for names in (converting, casting))
    chained = 0
    for together, chain in groupby(ops, key=lambda op: op_family(op.type) in plain):
        lengths = [op.duration_ns for op in chain]
        chained += sum(lengths) - max(lengths) if together and len(lengths) > 2 else 0
    often = max(moving, chained) >= 0.01 * whole or cast >= 0.02 * whole
    return often or any(op.phase == "recompute" for op in ops)


def _drawn(plans: Mapping[str, Plan], draw: Draw, layout: str, *, at_least: int = 2, planned: bool = True) -> _Run:
    # A plan of one micro-batch and all layers is not what a stage of a pipeline runs.
    planned = planned and layout != "pipeline"
    name = draw.one_of([name for name, plan in plans.items() if planned or not _told_anyway(plan)])
    ranks = max(draw.one_of((2, 2, 3, 4, 4, 8, 16)), at_least)
    if layout in ("tensor", "pipeline"):
        ranks += ranks % 2
    steps = draw.whole(4, 6)
    kernels = len(computing_ops(plans[name]))
    while ranks * steps * kernels > _KERNELS and (ranks > max(at_least, 2) or steps > 4):
        ranks, steps = max(ranks // 2, at_least, 2), max(steps - 1, 4)
        ranks += ranks % 2 if layout in ("tensor", "pipeline") else 0
    told = "plan" if planned and (draw.share() < 0.6 or _told_anyway(plans[name])) else draw.one_of(("chip", ""))
    return _Run(
        name,
        plans[name],
        layout,
        ranks,
        steps,
        draw.number(),
        told,
        draw.one_of(("torch", "torch", "mindspore", "vllm")),
    )


def _found(run: _Run, folder: Path, *, bubble: bool = False) -> list[Finding]:
    """Faults told of the run in `folder`, which is taken away."""
    target, cache = folder / "run", folder / "cache"
    as_left_by(target, run.files)
    profile = memplan.open_profile(target, cache=cache)
    plan = run.plan if run.told == "plan" else None
    found = faults_of(diagnose(profile, plan=plan, chip=run.plan.chip if run.told == "chip" else None).findings)
    for path in (target, cache):
        shutil.rmtree(path, ignore_errors=True)
    # A pipeline has a bubble by its schedule, with a fault and without.
    return [one for one in found if bubble or run.layout != "pipeline" or one.kind != "pipeline.bubble"]


def _told(found: list[Finding]) -> str:
    words = [f"`{one.kind}` {one.title}" for one in found[:2]]
    return "; ".join(words) or "nothing"


def as_left_by(folder: Path, framework: str) -> None:
    """Change the simulated job in `folder` to what `framework`, of torch, mindspore and vllm, leaves."""
    for rank in sorted(folder.glob("rank_*_ascend_pt")):
        info = next(rank.glob("profiler_info_*.json"), None)
        if framework == "mindspore" and info is not None:
            for name in ("memory_record.csv", "operator_memory.csv"):
                table = rank / "ASCEND_PROFILER_OUTPUT" / name
                if table.exists():
                    table.write_text(table.read_text(encoding="utf-8").replace("PTA,", "MindSpore,"), encoding="utf-8")
            told = json.loads(info.read_text(encoding="utf-8"))
            info.write_text(json.dumps(told | {"mindspore_version": "2.10.0"}), encoding="utf-8")
            rank.rename(rank.with_name(rank.name.replace("_ascend_pt", "_ascend_ms")))
        elif framework == "vllm":
            log = rank / "engine.log"
            said = log.read_text(encoding="utf-8") if log.exists() else ""
            log.write_text(_ENGINE_STARTS + said, encoding="utf-8")


_ENGINE_STARTS = (
    "INFO 09-01 10:00:00 [__init__.py:44] Available plugins for group vllm.platform_plugins:\n"
    "INFO 09-01 10:00:00 [__init__.py:217] Platform plugin ascend is activated\n"
)
