"""A plan of a training step has every word of a recipe that moves bytes, or refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.graph import live_curve
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps.model_graph import model_graph
from memplan.models.training.memory import training_memory
from memplan.models.training.recipe_choices import Gpu, Loss, Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.requests.recipe_request import RecipeRequest

RECIPE = Recipe(sequence=256, micro_batches=4)
OTHERWISE = {
    "sharding": Sharding.NONE,
    "schedule": Schedule.GPIPE,
    "loss": Loss.EAGER,
    "gpu": Gpu.HOPPER,
    "noop_layers": (0,),
    "run_layers": (1, 3),
    "expert_capacity": 2.0,
    "padded_heads": 256,
}
"""Another value than the default where neither its opposite nor 2 is one."""
BESIDE_PLANS = {"fused_indexer", "fused_indexer_loss", "variable_lengths"}
"""Graphs have the kernels of indexers that keep nothing, and end with their step."""


def peak(model: ModelConfig, layout: Layout, recipe: Recipe, stage: int) -> int:
    return int(live_curve(model_graph(model, None, layout, recipe, stage=stage), alignment=512).max())


def changed(name: str) -> Recipe:
    """The recipe with another value of the field `name`."""
    default = getattr(RECIPE, name)
    value = OTHERWISE.get(name, not default if isinstance(default, bool) else 2)
    words: dict[str, Any] = {name: value}
    return replace(RECIPE, **words)


@pytest.mark.parametrize("family", ["qwen2", "glm4_moe"])
def test_no_word_that_moves_bytes_is_left_out(family_models: Mapping[str, ModelConfig], family: str) -> None:
    """Went wrong once: gradients in 16 bits, dropout and other losses were read, and the plan was as without them."""
    whole = family_models[family]
    model = replace(whole, layers=whole.layers[:4], mtp_layers=())
    layout = Layout(pipeline=2, data=2, expert=2 if family == "glm4_moe" else 1)
    plain = [(training_memory(model, layout, RECIPE, stage), peak(model, layout, RECIPE, stage)) for stage in (0, 1)]
    refused, had = set(), set()
    for name in (item.name for item in fields(Recipe) if item.name not in BESIDE_PLANS):
        try:
            recipe = changed(name)
            memory = [training_memory(model, layout, recipe, stage) for stage in (0, 1)]
        except InputError:
            continue
        if memory == [found for found, _ in plain]:
            continue
        try:
            peaks = [peak(model, layout, recipe, stage) for stage in (0, 1)]
        except InputError:
            refused.add(name)
            continue
        assert peaks != [found for _, found in plain], name
        had.add(name)
    assert had >= {"half_gradients", "half_moments", "reuse_fp32", "dropout", "recompute_layers", "swap_optimizer"}
    assert refused >= {"fp8", "muon", "loss", "norms_in_steps", "ulysses", "transformer_engine", "gpu"}


def test_deepspeed_adds_gradients_up_in_half_the_bits(family_models: Mapping[str, ModelConfig]) -> None:
    """Went wrong once: a plan had them in float32; the formula had no copies of them when the optimiser steps."""
    whole = family_models["qwen2"]
    model, recipe = replace(whole, layers=whole.layers[:4]), replace(RECIPE, sharding=Sharding.ZERO1)
    for layout in (Layout(), Layout(data=4)):
        predicted = training_memory(model, layout, recipe, 0).peak_bytes
        assert peak(model, layout, recipe, 0) == pytest.approx(predicted, rel=0.04)


@pytest.mark.parametrize("name", ["half_gradients", "reuse_fp32", "dropout"])
def test_what_recipes_change_of_states_is_the_same_by_graph_and_by_formula(
    family_models: Mapping[str, ModelConfig], name: str
) -> None:
    whole = family_models["qwen2"]
    model, layout = replace(whole, layers=whole.layers[:4]), Layout(pipeline=2, data=2)
    told = changed(name)
    by_graph = peak(model, layout, told, 0) - peak(model, layout, RECIPE, 0)
    formula = [training_memory(model, layout, recipe, 0).peak_bytes for recipe in (RECIPE, told)]
    assert by_graph == pytest.approx(formula[1] - formula[0], rel=0.01)


def test_windows_of_latents_have_no_masks(shared_data: Path) -> None:
    """Only those of grouped attention are counted: of others the option would change nothing."""
    windows, latents = (
        load_config(shared_data / "configs" / f"{name}.json")
        for name in ("openai--gpt-oss-120b", "deepseek-ai--DeepSeek-V4-Flash")
    )
    with pytest.raises(InputError, match="--window-masks is about sliding windows"):
        RecipeRequest(window_masks=True).check_parts(latents)
    RecipeRequest(window_masks=True).check_parts(windows)
