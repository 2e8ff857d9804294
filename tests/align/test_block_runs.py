"""Engines that run a layer in a few kernels: experts with exchanges, all before attention, norms across layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import memplan
from benchmarks.served_runs import block_plan, block_verdict
from memplan.align import Alignment, align
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.schema import Plan
from tests.align.block_runs import EITHER, block_run
from tests.align.simulated_runs import SimulatedRun

ENOUGH = 0.97


@pytest.fixture(scope="module")
def latent(shared_data: Path) -> Plan:
    """A decode step with latent attention and experts over a sequence-parallel residual stream."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    step = ServedStep(Phase.DECODE, 32, 2048, sequence_parallel=True, whole_shared=True, precision="w8a8")
    layout = Layout(tensor=4, data=2, expert=8)
    return memplan.plan(
        model_graph(replace(model, layers=model.layers[:6]), None, layout, step), chip="910B1", quick=True
    )


def runs_with(plan: Plan, kernel: str, most: int = 30) -> Iterator[tuple[SimulatedRun, Alignment]]:
    """Runs that have such a kernel."""
    for seed in range(100, 100 + most):
        run = block_run(plan, seed, steps=1)
        if any(type_.startswith(kernel) for type_ in run.kernels.type):
            yield run, align(plan, run.kernels)


@pytest.mark.parametrize(
    "kernel", ["DispatchFFNCombine", "DispatchGmmCombineDecode", "FusedDeepMoe", "MlaProlog", "mla_preprocess"]
)
def test_a_kernel_of_a_block_runs_all_its_ops(latent: Plan, kernel: str) -> None:
    run, found = next(runs_with(latent, kernel))
    matched: dict[int, set[int]] = {}
    for row, op in zip(found.matches.kernel.tolist(), found.matches.op.tolist(), strict=True):
        matched.setdefault(row, set()).add(op)
    blocks = [row for row, type_ in enumerate(run.kernels.type) if type_.startswith(kernel)]
    for row in blocks:  # all but at most one: what quantises ahead of it may seem to be left out
        assert matched[row] <= run.truth[row]
        assert len(run.truth[row] - matched[row]) <= 1


def test_a_norm_with_the_sum_before_it_is_of_its_own_layer(latent: Plan) -> None:
    """The sum ends a layer, the norm begins the next one and takes longer."""
    run, found = next(runs_with(latent, "AddRmsNorm"))
    crossing = [
        (row, max(layers))
        for row, truth in enumerate(run.truth)
        if len(layers := {latent.ops[op].layer for op in truth - {EITHER}} - {None}) > 1
    ]
    assert crossing
    assert all(found.scopes.layer[row] == layer for row, layer in crossing)


def test_the_latents_that_are_normed_turned_and_kept_find_their_op(latent: Plan) -> None:
    """Went wrong once: what is cached is far larger than what is written, and queries are turned before."""
    run, found = next(runs_with(latent, "KvRmsNormRopeCache"))
    ops = found.op_of_kernel()
    rows = [row for row, type_ in enumerate(run.kernels.type) if type_ == "KvRmsNormRopeCache"]
    assert all(ops[row] in run.truth[row] for row in rows)


def test_copies_of_an_engine_are_called_what_they_are(latent: Plan) -> None:
    run, found = next(runs_with(latent, "_compute_slot_mapping"))
    moved = [row for row, type_ in enumerate(run.kernels.type) if type_ == "TensorMove" and not run.truth[row]]
    named = [found.scopes.named(row) for row in moved]
    assert moved
    assert named.count("inputs and outputs of the step") / len(named) > 0.8


@pytest.mark.parametrize(
    "name",
    [
        "Qwen3-32B prefill, TP8, sequence parallel",
        "gpt-oss-120b decode, TP2 EP2",
        "GLM-5.2 decode, TP4 EP16, 8 bits",
        "Nemotron 3 Nano 30B-A3B decode, TP2 EP2",
    ],
)
@pytest.mark.parametrize("seed", [90, 91])
def test_steps_in_few_kernels_are_matched(name: str, seed: int, shared_data: Path) -> None:
    found = block_verdict(block_plan(shared_data / "configs", name), seed)
    assert found.time > ENOUGH
    assert found.exchanged[0] >= 0.97 * found.exchanged[1]
    stated = np.array(found.claims)
    assert abs(stated[:, 0].mean() - stated[:, 1].mean()) < 0.05


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("Qwen3-Next-80B-A3B decode, TP2 EP4", 81),
        ("Llama 4 Maverick decode, TP4 EP8, 8 bits", 82),
        ("Nemotron 3 Nano 30B-A3B decode, TP2 EP2", 501),
    ],
)
def test_no_exchange_is_before_what_makes_it_or_behind_what_reads_it(name: str, seed: int, shared_data: Path) -> None:
    """Went wrong once: what sends tokens to experts seemed to bring back what these had not made yet."""
    verdict = block_verdict(block_plan(shared_data / "configs", name), seed)
    right, every = verdict.exchanged
    assert right == every > 0
