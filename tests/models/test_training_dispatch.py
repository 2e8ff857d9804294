"""Experts with places: what masks of every place take, and what stays of layers made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.memory import training_memory
from memplan.models.training.step_recipe import Recipe
from tests.models.memory_parts import part

RECIPE = Recipe(sequence=4096, sequence_parallel=True, recompute_layers=4, grouped_experts=False)
LAYOUT = Layout(tensor=2, data=4, expert=4, expert_tensor=2)


def test_experts_with_places_keep_masks_and_inputs(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "mistralai--Mixtral-8x7B-v0.1.json")
    model = replace(model, layers=model.layers[:4])
    experts, per_token, hidden, seen = 8, 2, model.hidden_size, 4096 // 2
    places = 1024
    plain, placed = (training_memory(model, LAYOUT, replace(RECIPE, expert_capacity=cap)) for cap in (0.0, 2.0))
    held = 2 * 4 * 2 * hidden * seen
    gathered = 2 * hidden * (4 * 2 * places - 4096)
    assert part(placed, "gathered input") - part(plain, "gathered input") == gathered
    assert placed.between_steps - plain.between_steps == held + gathered
    phases = dict(placed.phases)
    assert "dispatch by masks" not in dict(plain.phases)
    masks = (9 * experts + 4 * per_token) * seen * places
    assert phases["dispatch by masks"] > placed.between_steps - held + masks
