"""
Steps as serving engines and trainers launch them, aligned with plans of published models.

Serving: the kernels of vllm-ascend (`tests/align/engine_runs.py`); training: those of Megatron-LM with MindSpeed on
torch_npu (`tests/align/trainer_runs.py`). Options of a run are drawn with its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import memplan
from memplan.align import align
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph, training_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from tests.align.engine_runs import engine_run
from tests.align.simulated_runs import SimulatedRun
from tests.align.trainer_runs import trainer_run

_SERVED: Mapping[str, tuple[str, int, Layout, ServedStep]] = {
    "Qwen3-8B decode, TP4": ("Qwen--Qwen3-8B", 36, Layout(tensor=4), ServedStep(Phase.DECODE, 32, 4096)),
    "Qwen3-8B decode": ("Qwen--Qwen3-8B", 36, Layout(), ServedStep(Phase.DECODE, 16, 2048)),
    "Qwen3-32B prefill, TP8": ("Qwen--Qwen3-32B", 24, Layout(tensor=8), ServedStep(Phase.PREFILL, 2, 2048)),
    "Llama 3.1 8B decode, TP2": (
        "meta-llama--Meta-Llama-3.1-8B", 32, Layout(tensor=2), ServedStep(Phase.DECODE, 48, 2048),
    ),
    "Qwen3-30B-A3B decode, EP4": (
        "Qwen--Qwen3-30B-A3B", 24, Layout(data=4, expert=4), ServedStep(Phase.DECODE, 64, 2048),
    ),
    "Qwen3-30B-A3B decode, TP2 EP2": (
        "Qwen--Qwen3-30B-A3B", 24, Layout(tensor=2, expert=2), ServedStep(Phase.DECODE, 64, 2048),
    ),
    "Qwen3-30B-A3B prefill, TP4": (
        "Qwen--Qwen3-30B-A3B", 24, Layout(tensor=4), ServedStep(Phase.PREFILL, 1, 4096),
    ),
    "DeepSeek-V3 decode, EP16": (
        "deepseek-ai--DeepSeek-V3", 14, Layout(data=16, expert=16), ServedStep(Phase.DECODE, 128, 4096),
    ),
    "Qwen3-235B-A22B decode, TP4 EP16": (
        "Qwen--Qwen3-235B-A22B", 16, Layout(tensor=4, data=4, expert=16), ServedStep(Phase.DECODE, 128, 2048),
    ),
    "Kimi K2.5 decode, EP32": (
        "moonshotai--Kimi-K2.5", 10, Layout(data=32, expert=32), ServedStep(Phase.DECODE, 256, 4096),
    ),
}  # fmt: skip
_TRAINED: Mapping[str, tuple[str, int, Layout, Recipe, int]] = {
    "Qwen3-0.6B training, PP2, last stage": (
        "Qwen--Qwen3-0.6B", 28, Layout(pipeline=2, data=2), Recipe(4096, 1, 2), 1,
    ),
    "Qwen3-8B training, TP2 PP2, last stage, recomputed": (
        "Qwen--Qwen3-8B", 16, Layout(tensor=2, pipeline=2, data=2),
        Recipe(4096, 1, 4, sequence_parallel=True, recompute_layers=8), 1,
    ),
    "Qwen3-8B training, TP4": (
        "Qwen--Qwen3-8B", 12, Layout(tensor=4, data=2), Recipe(4096, 1, 2, sequence_parallel=True), 0,
    ),
    "Llama 3.1 8B training, CP2": (
        "meta-llama--Meta-Llama-3.1-8B", 8, Layout(context=2, data=4), Recipe(8192, 1, 2), 0,
    ),
    "Qwen3-30B-A3B training, EP8 PP2": (
        "Qwen--Qwen3-30B-A3B", 12, Layout(pipeline=2, data=8, expert=8), Recipe(4096, 1, 3), 0,
    ),
    "Qwen3-30B-A3B training, EP8 PP2, last stage": (
        "Qwen--Qwen3-30B-A3B", 12, Layout(pipeline=2, data=8, expert=8), Recipe(4096, 1, 3), 1,
    ),
    "Qwen3-1.7B training, recomputed": (
        "Qwen--Qwen3-1.7B", 14, Layout(data=8), Recipe(4096, 2, 2, recompute_layers=14), 0,
    ),
}  # fmt: skip
_OTHER_BATCHES: Mapping[str, ServedStep] = {
    "Qwen3-8B decode, TP4": ServedStep(Phase.DECODE, 29, 4096),
    "Qwen3-8B decode": ServedStep(Phase.DECODE, 13, 2048),
    "Qwen3-32B prefill, TP8": ServedStep(Phase.PREFILL, 2, 1500),
    "Llama 3.1 8B decode, TP2": ServedStep(Phase.DECODE, 37, 2048),
    "Qwen3-30B-A3B decode, EP4": ServedStep(Phase.DECODE, 60, 2048),
    "Qwen3-30B-A3B decode, TP2 EP2": ServedStep(Phase.DECODE, 58, 2048),
    "Qwen3-30B-A3B prefill, TP4": ServedStep(Phase.PREFILL, 1, 1000),
    "DeepSeek-V3 decode, EP16": ServedStep(Phase.DECODE, 112, 4096),
    "Qwen3-235B-A22B decode, TP4 EP16": ServedStep(Phase.DECODE, 100, 2048),
    "Kimi K2.5 decode, EP32": ServedStep(Phase.DECODE, 200, 4096),
}
"""What ran where the plan is of the step in `_SERVED`."""
_SEEDS = (20, 21, 22, 23)
_BATCH_SEEDS = (220, 221, 222, 223)


def framework_names() -> tuple[str, ...]:
    """What the plans are called."""
    return *_SERVED, *_TRAINED


def framework_plan(configs: Path, name: str, most: int | None = None, step: ServedStep | None = None) -> Plan:
    """The plan of that name, of no more than `most` layers, or of another `step` of that served model."""
    config, layers, layout, *_ = _SERVED.get(name) or _TRAINED[name]
    model = load_config(configs / f"{config}.json")
    model = replace(model, layers=model.layers[: min(layers, most or layers)])
    if name in _SERVED:
        graph = model_graph(model, None, layout, step or _SERVED[name][3])
    else:
        recipe, stage = _TRAINED[name][3:]
        graph = training_graph(model, layout, recipe, stage=stage)
    return memplan.plan(graph, chip="910B2", quick=True)


def framework_run(name: str, plan: Plan, seed: int) -> SimulatedRun:
    """A run of the plan of that name."""
    return engine_run(plan, seed) if name in _SERVED else trainer_run(plan, seed)


def framework_table(shared: Path) -> Iterator[str]:
    """Lines of the table: share of compute time that is right and planned communication ops that are, by run."""
    yield from _head(_SEEDS)
    for name in framework_names():
        plan = framework_plan(shared / "configs", name)
        shares = [right_shares(plan, framework_run(name, plan, seed)) for seed in _SEEDS]
        yield f"| {name} | {len(plan.ops)} | {' | '.join(shares)} |"


def batch_table(shared: Path) -> Iterator[str]:
    """The same where a batch of another size ran than was planned."""
    yield from _head(_BATCH_SEEDS)
    for name, step in _OTHER_BATCHES.items():
        plan, ran = (framework_plan(shared / "configs", name, step=given) for given in (None, step))
        shares = [right_shares(plan, engine_run(ran, seed)) for seed in _BATCH_SEEDS]
        yield f"| {name} | {len(plan.ops)} | {' | '.join(shares)} |"


def _head(seeds: Sequence[int]) -> Iterator[str]:
    yield f"| steps | ops | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield f"|---|---|{'---|' * len(seeds)}"


def right_shares(plan: Plan, run: SimulatedRun) -> str:
    """Share of compute time that `plan` gets right, and how many planned communication ops."""
    found = align(plan, run.kernels).op_of_kernel().tolist()
    right = np.array([op in truth if op >= 0 else not truth for op, truth in zip(found, run.truth, strict=True)])
    exchanged = np.array([core == "COMMUNICATION" for core in run.kernels.core])
    planned = exchanged & np.array([bool(truth) for truth in run.truth])
    share = np.average(right[~exchanged], weights=run.kernels.duration_ns[~exchanged])
    return f"{share:.1%}, {(right & planned).sum()} of {planned.sum()}"


__all__ = ["batch_table", "framework_names", "framework_plan", "framework_run", "framework_table", "right_shares"]
