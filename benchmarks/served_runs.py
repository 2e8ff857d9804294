"""
Steps of engines that run a layer in a few kernels (`tests/align/block_runs.py`), aligned with plans of served models.

The plans of `_SEEN` were in view when rules were made, those of `_OTHERS` were tried when these stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import memplan
from benchmarks.profile_labels import given_less_right
from memplan.align import align
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.schema import Plan
from tests.align.block_runs import EITHER, block_run
from tests.align.simulated_runs import planned_scopes

_Served = tuple[str, int, Layout, ServedStep]
_DECODE, _PREFILL = Phase.DECODE, Phase.PREFILL
_DEEPSEEK = ServedStep(
    _DECODE, 32, 4096, speculative=1, sequence_parallel=True, whole_shared=True, precision="w8a8"
)  # fmt: skip
_SEEN: Mapping[str, _Served] = {
    "DeepSeek-V3 decode with a draft, TP8 EP16": (
        "deepseek-ai--DeepSeek-V3", 9, Layout(tensor=8, data=2, expert=16), _DEEPSEEK,
    ),
    "Qwen3-235B-A22B decode, TP4 EP16, 8 bits": (
        "Qwen--Qwen3-235B-A22B", 8, Layout(tensor=4, data=4, expert=16),
        ServedStep(_DECODE, 128, 2048, precision="w8a8"),
    ),
    "Qwen3-32B prefill, TP8, sequence parallel": (
        "Qwen--Qwen3-32B", 10, Layout(tensor=8), ServedStep(_PREFILL, 2, 2048, sequence_parallel=True),
    ),
    "Qwen3-8B decode, TP4, 8 bits": (
        "Qwen--Qwen3-8B", 12, Layout(tensor=4), ServedStep(_DECODE, 32, 4096, precision="w8a8"),
    ),
    "gpt-oss-120b decode, TP2 EP2": (
        "openai--gpt-oss-120b", 10, Layout(tensor=2, expert=2), ServedStep(_DECODE, 24, 2048, precision="bf16"),
    ),
    "DeepSeek-R1 decode, TP4 EP32, 8 bits": (
        "deepseek-ai--DeepSeek-R1", 8, Layout(tensor=4, data=8, expert=32),
        ServedStep(_DECODE, 96, 6000, precision="w8a8"),
    ),
    "Qwen3.5-397B-A17B decode, TP4 EP16, 8 bits": (
        "Qwen--Qwen3.5-397B-A17B", 12, Layout(tensor=4, data=4, expert=16),
        ServedStep(_DECODE, 96, 3000, precision="w8a8"),
    ),
}  # fmt: skip
_OTHERS: Mapping[str, _Served] = {
    "Kimi K2.5 decode, EP32, 8 bits": (
        "moonshotai--Kimi-K2.5", 10, Layout(data=32, expert=32), ServedStep(_DECODE, 256, 4096, precision="w8a8"),
    ),
    "Kimi K2.5 prefill, TP8 EP8, 8 bits": (
        "moonshotai--Kimi-K2.5", 6, Layout(tensor=8, expert=8), ServedStep(_PREFILL, 1, 2500, precision="w8a8"),
    ),
    "GLM-5.2 decode, TP4 EP16, 8 bits": (
        "zai-org--GLM-5.2", 8, Layout(tensor=4, data=4, expert=16), ServedStep(_DECODE, 64, 8192, precision="w8a8"),
    ),
    "GLM-5.2 prefill, TP8 EP8, sequence parallel": (
        "zai-org--GLM-5.2", 8, Layout(tensor=8, expert=8),
        ServedStep(_PREFILL, 1, 3000, sequence_parallel=True, precision="w8a8"),
    ),
    "MiniMax-M2.5 decode, TP4 EP8": (
        "MiniMaxAI--MiniMax-M2.5", 10, Layout(tensor=4, data=2, expert=8),
        ServedStep(_DECODE, 48, 4096, precision="bf16"),
    ),
    "DeepSeek-V3.2 decode with a draft, TP8 EP16": (
        "deepseek-ai--DeepSeek-V3.2", 8, Layout(tensor=8, data=2, expert=16), replace(_DEEPSEEK, batch=48),
    ),
    "DeepSeek-V3.2 prefill, TP4 EP16, 8 bits": (
        "deepseek-ai--DeepSeek-V3.2", 8, Layout(tensor=4, data=4, expert=16),
        ServedStep(_PREFILL, 4, 2048, precision="w8a8"),
    ),
    "DeepSeek-V4-Flash decode, EP8": (
        "deepseek-ai--DeepSeek-V4-Flash", 8, Layout(data=8, expert=8), ServedStep(_DECODE, 64, 8192),
    ),
    "Qwen3-Next-80B-A3B decode, TP2 EP4": (
        "Qwen--Qwen3-Next-80B-A3B-Instruct", 12, Layout(tensor=2, data=2, expert=4),
        ServedStep(_DECODE, 32, 3000, precision="bf16"),
    ),
    "Llama 4 Maverick decode, TP4 EP8, 8 bits": (
        "meta-llama--Llama-4-Maverick-17B-128E-Instruct", 8, Layout(tensor=4, data=2, expert=8),
        ServedStep(_DECODE, 40, 3000, precision="w8a8"),
    ),
    "Llama 3.1 405B prefill, TP8, sequence parallel": (
        "meta-llama--Meta-Llama-3.1-405B", 8, Layout(tensor=8),
        ServedStep(_PREFILL, 2, 1000, sequence_parallel=True, precision="bf16"),
    ),
    "Mixtral 8x7B decode, TP4, 8 bits": (
        "mistralai--Mixtral-8x7B-v0.1", 8, Layout(tensor=4), ServedStep(_DECODE, 24, 3000, precision="w8a8"),
    ),
    "Gemma 3 27B decode, TP2": (
        "google--gemma-3-27b-it", 10, Layout(tensor=2), ServedStep(_DECODE, 24, 3000),
    ),
    "Nemotron 3 Nano 30B-A3B decode, TP2 EP2": (
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 16, Layout(tensor=2, expert=2),
        ServedStep(_DECODE, 32, 3000),
    ),
}  # fmt: skip
_SEEDS = (80, 81, 82)


@dataclass(frozen=True, slots=True)
class BlockVerdict:
    """
    Of one run: share of compute time that is right, planned communication ops that are and all, kernels of no plan that
    are named as such and all, and of every kernel the probability given with whether its place was right.
    """

    time: float
    exchanged: tuple[int, int]
    unplanned: tuple[int, int]
    claims: list[tuple[float, bool]]


def block_names() -> tuple[str, ...]:
    """What the plans are called."""
    return *_SEEN, *_OTHERS


def block_plan(configs: Path, name: str) -> Plan:
    """The plan of that name."""
    config, layers, layout, step = {**_SEEN, **_OTHERS}[name]
    model = load_config(configs / f"{config}.json")
    graph = model_graph(replace(model, layers=model.layers[:layers]), None, layout, step)
    return memplan.plan(graph, chip="910B1", quick=True)


def block_verdict(plan: Plan, seed: int) -> BlockVerdict:
    """What the alignment gets right of one run of `plan`; what is of either side may be said of both, or of no plan."""
    run = block_run(plan, seed, steps=2)
    found = align(plan, run.kernels)
    ops = found.op_of_kernel().tolist()
    none = [not truth or EITHER in truth for truth in run.truth]
    pairs = list(zip(ops, run.truth, none, strict=True))
    right = np.array([op in truth if op >= 0 else free for op, truth, free in pairs])
    where = planned_scopes(plan)
    placed = [where[op] in {where[own] for own in truth - {EITHER}} if op >= 0 else free for op, truth, free in pairs]
    exchanged = np.array([core == "COMMUNICATION" for core in run.kernels.core])
    planned, free = ~np.array(none), np.array([not truth for truth in run.truth])
    chances = found.scopes.probability.tolist()
    return BlockVerdict(
        float(np.average(right[~exchanged], weights=run.kernels.duration_ns[~exchanged])),
        (int((right & exchanged & planned).sum()), int((exchanged & planned).sum())),
        (int((right & free).sum()), int(free.sum())),
        [pair for pair in zip(chances, placed, strict=True) if not np.isnan(pair[0])],
    )


def block_table(shared: Path) -> Iterator[str]:
    """Lines of the table: share of compute time that is right, communication ops and kernels of no plan, by run."""
    yield f"| steps | ops | {' | '.join(f'seed {seed}' for seed in _SEEDS)} | given less right |"
    yield f"|---|---|{'---|' * len(_SEEDS)}---|"
    for name in block_names():
        plan = block_plan(shared / "configs", name)
        verdicts = [block_verdict(plan, seed) for seed in _SEEDS]
        cells = [
            f"{item.time:.1%}, {item.exchanged[0]} of {item.exchanged[1]}, {item.unplanned[0]} of {item.unplanned[1]}"
            for item in verdicts
        ]
        claims = [pair for item in verdicts for pair in item.claims]
        yield f"| {name} | {len(plan.ops)} | {' | '.join(cells)} | {given_less_right(claims)} |"


__all__ = ["BlockVerdict", "block_names", "block_plan", "block_table", "block_verdict"]
