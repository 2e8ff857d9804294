"""Plans of another number of tokens than the run's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import memplan
from memplan.align import align
from memplan.align.classes.tokens import kernel_tokens
from memplan.align.planned.token_ratio import tokens_of_run
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import model_graph, training_graph
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from tests.align.engine_runs import engine_run
from tests.align.trainer_runs import trainer_run

_MODELS: Mapping[str, tuple[str, Layout, ServedStep, ServedStep]] = {
    "experts": (
        "Qwen--Qwen3-30B-A3B",
        Layout(tensor=4),
        ServedStep(Phase.DECODE, 48, 3000),
        ServedStep(Phase.DECODE, 41, 3000),
    ),
    "as many tokens as wide": (
        "Qwen--Qwen3-8B",
        Layout(tensor=4),
        ServedStep(Phase.PREFILL, 1, 4096),
        ServedStep(Phase.PREFILL, 1, 3700),
    ),
    "tokens that ranks share, rounded up": (
        "Qwen--Qwen3-235B-A22B",
        Layout(tensor=4, data=4, expert=16),
        ServedStep(Phase.DECODE, 128, 2048),
        ServedStep(Phase.DECODE, 92, 2048),
    ),
}


def _planned(shared: Path, config: str, layout: Layout, step: ServedStep) -> Plan:
    model = load_config(shared / "configs" / f"{config}.json")
    return memplan.plan(
        model_graph(replace(model, layers=model.layers[:6]), None, layout, step), chip="910B2", quick=True
    )


@pytest.mark.parametrize("name", _MODELS)
def test_a_plan_of_another_batch_meets_the_run(name: str, shared_data: Path) -> None:
    config, layout, *steps = _MODELS[name]
    plan, of_run = (_planned(shared_data, config, layout, step) for step in steps)
    for seed in (60, 61):
        run = engine_run(of_run, seed, steps=2)
        found = align(plan, run.kernels).op_of_kernel().tolist()
        right = [op in truth if op >= 0 else not truth for op, truth in zip(found, run.truth, strict=True)]
        assert np.average(right, weights=run.kernels.duration_ns) > 0.95


def test_a_plan_of_the_same_batch_stays_as_it_is(shared_data: Path) -> None:
    plan = _planned(shared_data, *_MODELS["experts"][:3])
    assert not tokens_of_run(plan, *kernel_tokens(engine_run(plan, 62, steps=1).kernels))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_trained_step_of_few_layers_has_its_own_number_of_tokens(shared_data: Path, layers: int) -> None:
    """Went wrong once: a gradient of as many tokens as something is wide told of others, some of the plan's."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    model = replace(model, layers=model.layers[:layers])
    plan, of_run = (
        memplan.plan(training_graph(model, Layout(data=2), Recipe(tokens, 1, 2)), chip="910B2", quick=True)
        for tokens in (4096, 3072)
    )
    assert tokens_of_run(plan, *kernel_tokens(trainer_run(of_run, 63).kernels)) == {4096: 3072}
    for same in (plan, of_run):
        assert not tokens_of_run(same, *kernel_tokens(trainer_run(same, 64).kernels))
