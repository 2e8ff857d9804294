"""
Simulated runs of many layouts and phases, aligned with their plans: some disturbed, some that begin inside a step.

Sharding, schedules, parallel attention and kinds of layers beyond the plans of the large table of simulated runs, each
of a few layers of a published model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import memplan
from benchmarks.framework_runs import right_shares
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph, training_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from tests.align.simulated_runs import Disturbance, disturbance, simulate_run

_DEEPSEEK, _QWEN3 = "deepseek-ai--DeepSeek-V3", "Qwen--Qwen3-8B"
_TRAININGS = {
    "latent attention, experts, PP2 EP4": (_DEEPSEEK, 6, Layout(pipeline=2, data=4, expert=4), Recipe(2048, 1, 3), 0),
    "the same, last stage": (_DEEPSEEK, 6, Layout(pipeline=2, data=4, expert=4), Recipe(2048, 1, 3), 1),
    "interleaved PP2 of 2 chunks": (
        "Qwen--Qwen3-1.7B", 8, Layout(pipeline=2, data=2),
        Recipe(4096, 1, 4, schedule=Schedule.INTERLEAVED, chunks=2), 0,
    ),
    "the same, last stage of 2 chunks": (
        "Qwen--Qwen3-1.7B", 8, Layout(pipeline=2, data=2),
        Recipe(4096, 1, 4, schedule=Schedule.INTERLEAVED, chunks=2), 1,
    ),
    "ZeRO-2, recomputed": (
        _QWEN3, 4, Layout(data=8), Recipe(2048, 1, 2, sharding=Sharding.ZERO2, recompute_layers=4), 0,
    ),
    "sequence parallel, TP2 PP2": (
        _QWEN3, 6, Layout(tensor=2, pipeline=2, data=2), Recipe(4096, 1, 4, sequence_parallel=True), 0,
    ),
    "ring attention, CP2": (_QWEN3, 4, Layout(context=2, data=2), Recipe(8192, 1, 2), 0),
    "Ulysses, CP2": (_QWEN3, 4, Layout(context=2, data=2), Recipe(8192, 1, 2, ulysses=True), 0),
    "windows, TP4": (
        "google--gemma-3-27b-it", 6, Layout(tensor=4, data=2), Recipe(4096, 1, 2, sequence_parallel=True), 0,
    ),
    "experts, PP4 EP8, second stage": (
        "Qwen--Qwen3-30B-A3B", 8, Layout(pipeline=4, data=8, expert=8), Recipe(4096, 1, 6), 1,
    ),
    "experts, TP2 EP4": (
        "mistralai--Mixtral-8x7B-v0.1", 4, Layout(tensor=2, data=4, expert=4),
        Recipe(4096, 1, 2, sequence_parallel=True), 0,
    ),
}  # fmt: skip
_SERVED = {
    "decode, latent attention, EP8": (_DEEPSEEK, 8, Layout(data=8, expert=8), ServedStep(Phase.DECODE, 64, 4096)),
    "decode, sparse attention, TP8": (
        "deepseek-ai--DeepSeek-V3.2", 6, Layout(tensor=8), ServedStep(Phase.DECODE, 16, 8192),
    ),
    "decode, linear attention, TP2": (
        "Qwen--Qwen3-Next-80B-A3B-Instruct", 8, Layout(tensor=2), ServedStep(Phase.DECODE, 32, 4096),
    ),
    "prefill, experts, TP4": ("openai--gpt-oss-120b", 8, Layout(tensor=4), ServedStep(Phase.PREFILL, 1, 4096)),
    "decode, state space, TP8": (
        "nvidia--Nemotron-H-56B-Base-8K", 10, Layout(tensor=8), ServedStep(Phase.DECODE, 32, 4096),
    ),
}  # fmt: skip
_CALM = Disturbance(split=0.4, fuse=0.02, alone=0.003, add=0.02, drop=0.0, swap=0.005, noise=0.2)
_RUNS = (
    (9303, disturbance(9303)),
    (9304, replace(_CALM, steps=2, cut=0.5)),
    (9307, disturbance(9307)),
)


def layout_plans(configs: Path) -> Iterator[tuple[str, Plan]]:
    """A plan of every layout, with its name."""

    def model(name: str, layers: int) -> ModelConfig:
        config = load_config(configs / f"{name}.json")
        return replace(config, layers=config.layers[:layers])

    for name, (config, layers, layout, recipe, stage) in _TRAININGS.items():
        yield (
            name,
            memplan.plan(training_graph(model(config, layers), layout, recipe, stage=stage), chip="910B2", quick=True),
        )
    for name, (config, layers, layout, step) in _SERVED.items():
        yield name, memplan.plan(model_graph(model(config, layers), None, layout, step), chip="910B2", quick=True)


def layout_table(shared: Path) -> Iterator[str]:
    """Lines of the table: share of compute time that is right, and planned communication ops that are."""
    yield "| layout | ops | disturbed, cut (9303) | two steps, cut (9304) | disturbed, two steps, cut (9307) |"
    yield "|---|---|---|---|---|"
    for name, plan in layout_plans(shared / "configs"):
        shares = [right_shares(plan, simulate_run(plan, seed, what)) for seed, what in _RUNS]
        yield f"| {name} | {len(plan.ops)} | {' | '.join(shares)} |"


__all__ = ["layout_plans", "layout_table"]
