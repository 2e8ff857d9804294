"""Runs of several steps that begin inside one: every micro-batch keeps its own place, none is drawn to the last."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.align import align
from memplan.align.classes.likelihood import likelihoods
from memplan.align.pairs.pair_prices import pair_prices
from memplan.align.planned.planned_sequence import planned_sequence
from memplan.core.arrays import Float32s
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from tests.align.made_assignments import made_run
from tests.align.simulated_runs import Disturbance, model_plans, simulate_run


def test_all_ops_left_out_between_extra_ones_lead_on_like_one(shared_data: Path) -> None:
    plan = model_plans(shared_data / "configs")["llama prefill"]
    assert (_passed(plan) == 1.0).all()
    plan = model_plans(shared_data / "configs")["qwen3 moe EP4"]
    passed = _passed(plan)
    inside = np.flatnonzero(np.diff(np.concatenate(([0], (passed < 1.0).astype(np.int8), [0]))))
    sections = list(pairwise(inside.tolist()))[::2]
    assert max(end - begin for begin, end in sections) > 3
    for begin, end in sections:
        assert passed[begin:end].sum() <= 1.0 + 1e-5
        assert passed[end] == 1.0  # from the last of them what follows is reached as if there were none


def _passed(plan: Plan) -> Float32s:
    sequence = planned_sequence(plan, [op.index for op in plan.ops if op.launches or op.kernel is not None])
    ratios = likelihoods(sequence.classes, sequence.rules, sequence.classes)
    return pair_prices(made_run(sequence, [], sequence.classes, ratios)).ops.passed


@pytest.mark.slow
def test_activations_as_large_as_weights_of_experts_keep_their_micro_batch(shared_data: Path) -> None:
    """Went wrong once: any norm of 384 weights could take them, and the last micro-batch had all."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    layout = Layout(pipeline=2, data=4, expert=4)
    graph = training_graph(replace(model, layers=model.layers[:6]), layout, Recipe(2048, 1, 3), stage=1)
    plan = memplan.plan(graph, chip="910B2")
    calm = Disturbance(split=0.4, fuse=0.02, alone=0.003, add=0.02, drop=0.0, swap=0.005, noise=0.2, steps=2, cut=0.5)
    run = simulate_run(plan, 9004, calm)
    found = align(plan, run.kernels).op_of_kernel().tolist()
    micro_batches = [op.micro_batch for op in plan.ops]
    right = [
        micro_batches[op] in {micro_batches[each] for each in truth}
        for op, truth in zip(found, run.truth, strict=True)
        if op >= 0 and truth
    ]
    assert np.mean(right) > 0.99
