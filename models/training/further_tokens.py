"""Layers that predict further tokens (multi-token prediction) while a model is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.models.architecture import ModelConfig
from memplan.models.families.common import numbered_mtp
from memplan.models.parallel import Layout
from memplan.models.training.saved import Saved
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4


def trained_model(model: ModelConfig, recipe: Recipe) -> ModelConfig:
    """`model` with as many layers that predict further tokens as `recipe` trains, each built like those it has."""
    count = recipe.mtp_layers
    if count == len(model.mtp_layers):
        return model
    like = (*model.layers, *model.mtp_layers)[-1]
    return replace(model, mtp_layers=numbered_mtp(count, len(model.layers), like))


def kept_around(model: ModelConfig, layout: Layout, recipe: Recipe) -> Iterator[Saved]:
    """
    What such a layer keeps per token before and behind its decoder layer (MindSpeed-LLM's `multi_token_prediction.py`).

    Embedding and hidden state are normed and joined for a projection, which is not recomputed.
    """
    hidden = _HALF * model.hidden_size / (layout.tensor if recipe.sequence_parallel else 1)
    yield Saved("embedding of the further token", "residual", hidden)
    yield Saved("embedding and hidden state, joined", "residual", 2 * hidden)
    yield Saved("input of the head", "residual", hidden)
