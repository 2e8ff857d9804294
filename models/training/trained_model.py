"""The layers of a model as they are trained: those that do nothing, and those that predict further tokens (MTP)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.families.common import numbered_mtp
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.parallel import Layout
from memplan.models.training.saved_item import Saved
from memplan.models.training.step_recipe import Recipe


def trained_model(model: ModelConfig, recipe: Recipe) -> ModelConfig:
    """
    `model` with as many layers that predict further tokens as `recipe` trains, each built like those it has, with
    layers that do nothing where it says (MindSpeed's `--noop-layers`), and with norms of queries and keys; a model that
    has all of it already as it is.

    Raises `InputError` for numbers of layers that there can't be.
    """
    if recipe.qk_norm:
        model = _with_norms(model)
    like = model.predictions[-1] if model.mtp_layers else model.layers[-1:]
    layers, idle = model.layers, recipe.noop_layers
    if idle and not any(_idle(layer) for layer in layers):
        count = len(layers) + len(idle)
        if len(set(idle)) < len(idle) or not all(0 <= number < count for number in idle):
            shown = ", ".join(map(str, idle))
            raise InputError("layers that do nothing can't be {} among {}", shown, count)
        rest = iter(layers)
        layers = tuple(
            Layer(number, None, None, 0) if number in idle else replace(next(rest), index=number)
            for number in range(count)
        )
    if recipe.mtp_layers == len(model.predictions) and layers is model.layers:
        return model
    further = numbered_mtp(recipe.mtp_layers, len(layers), *like)
    return replace(model, layers=layers, mtp_layers=further, mtp_span=len(like))


def _idle(layer: Layer) -> bool:
    return layer.mixer is None and layer.ffn is None


def _with_norms(model: ModelConfig) -> ModelConfig:
    """`model` with norms of queries and keys in all layers, those that predict further tokens among them."""
    layers, further = (tuple(map(_normed, held)) for held in (model.layers, model.mtp_layers))
    same = layers == model.layers and further == model.mtp_layers
    return model if same else replace(model, layers=layers, mtp_layers=further)


def _normed(layer: Layer) -> Layer:
    mixer = layer.mixer
    if isinstance(mixer, GroupedAttention) and mixer.qk_norm is QkNorm.NONE:
        return replace(layer, mixer=replace(mixer, qk_norm=QkNorm.PER_HEAD))
    return layer


def kept_around(model: ModelConfig, layout: Layout, recipe: Recipe) -> Iterator[Saved]:
    """
    What such a layer keeps per token before and behind its decoder layer (MindSpeed-LLM's `multi_token_prediction.py`).

    Embedding and hidden state are normed and joined for a projection, which is not recomputed.
    """
    hidden = recipe.each * model.hidden_size / (layout.tensor if recipe.sequence_parallel else 1)
    yield Saved("embedding of the further token", "residual", hidden)
    yield Saved("embedding and hidden state, joined", "residual", 2 * hidden)
    yield Saved("input of the head", "residual", hidden)
