"""Training and serving steps of published models lose nothing, in any budget."""

from __future__ import annotations

from pathlib import Path

import pytest

import memplan
from memplan.graph import Graph
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.steps.served_step import step_graph
from memplan.models.steps.training_step import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Tier
from memplan.schema.contents import content_violations

SHARES = (0.9, 0.75, 0.6, 0.45, 0.3)
MODELS = (
    "Qwen--Qwen3-8B",
    "Qwen--Qwen3-32B",
    "Qwen--Qwen3-30B-A3B",
    "deepseek-ai--DeepSeek-R1",
    "meta-llama--Meta-Llama-3.1-8B",
    "meta-llama--Meta-Llama-3.1-70B",
)


def nothing_lost(graph: Graph, shares: tuple[float, ...]) -> None:
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    for share in shares:
        plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * share))
        assert plan.transfers
        assert content_violations(plan) == []


def served(shared_data: Path, name: str, phase: Phase) -> Graph:
    model = load_config(shared_data / "configs" / f"{name}.json")
    layout = Layout(tensor=8, expert=8) if "DeepSeek" in name else Layout(tensor=8)
    batch = 16 if phase is Phase.DECODE else 1
    return step_graph(model, layout, ServedStep(phase, batch=batch, context=4096))


def test_decoding_loses_nothing(shared_data: Path) -> None:
    nothing_lost(served(shared_data, "Qwen--Qwen3-8B", Phase.DECODE), (0.6,))


@pytest.mark.slow
@pytest.mark.parametrize("phase", [Phase.PREFILL, Phase.DECODE])
@pytest.mark.parametrize("name", MODELS)
def test_serving_loses_nothing(name: str, phase: Phase, shared_data: Path) -> None:
    nothing_lost(served(shared_data, name, phase), SHARES)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_training_loses_nothing(name: str, shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / f"{name}.json")
    layout = Layout(tensor=8, expert=8) if "DeepSeek" in name or "A3B" in name else Layout(tensor=8)
    nothing_lost(training_graph(model, layout, Recipe(sequence=4096)), SHARES)
