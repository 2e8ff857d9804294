"""
The scores of attention that indexers of sparse attention learn from.

Without a fused kernel they are made for all heads and every pair of tokens (MindSpeed-LLM's `dsa_indexer.py`): a 16-bit
buffer that stays from the first layer on, beside it a product of that size, its float32 copy and the softmax of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.models.architecture import Layer
from memplan.models.mixers.compressed_attention import CompressedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout
from memplan.models.training.entries import met_pairs
from memplan.models.training.phases import MemoryPart
from memplan.models.training.saved_item import FED_FORWARD, Saved
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4
_SCORES = _HALF + _SINGLE + _SINGLE
"""Bytes of a head's score of a pair of tokens while the loss is made: the product, its copy, and the softmax."""


def kept_scores(layers: Sequence[Layer], layout: Layout, recipe: Recipe) -> list[MemoryPart]:
    """The buffer that stays, of a score of every head and pair of tokens."""
    scores = _scores(layers, layout, recipe)
    if not scores:
        return []
    return [MemoryPart("buffer of attention's scores", _HALF * scores, f"2 B x {scores:,} of every head and pair")]


def scores_of_loss(
    layers: Sequence[Layer], kept: Sequence[tuple[Saved, ...]], layout: Layout, recipe: Recipe, tokens: float
) -> list[MemoryPart]:
    """What is alive when a layer's scores are made for the indexer's loss; empty where kernels are fused."""
    scores = _scores(layers, layout, recipe)
    if not scores:
        return []
    formula = f"{_SCORES} B x {scores:,}: the product, its float32 copy and the softmax"
    parts = [MemoryPart("attention's scores", _SCORES * scores, formula)]
    if recipe.recompute_layers:
        most = max(sum(item.nbytes for item in items if item.part not in FED_FORWARD) for items in kept)
        parts.append(MemoryPart("recomputed attention", round(tokens * most), f"{most:,.0f} B a token of one layer"))
    return parts


_OTHERS = 3
"""Beside the softmax of every pair: the masked scores, those less their maximum, and a copy that a product can read."""


def scores_of_pairs(
    layers: Sequence[Layer], kept: Sequence[tuple[Saved, ...]], layout: Layout, recipe: Recipe, tokens: float
) -> list[MemoryPart]:
    """
    What is alive when attention to compressed entries, op by op, has made its softmax; empty with a kernel.

    It is so in the way forward of the last layer that keeps what it made, and where all are made anew in that of each.
    """
    mixers = [layer.mixer for layer in layers if isinstance(layer.mixer, CompressedAttention)]
    if not mixers or not recipe.attention_in_steps:
        return []
    most = max(_HALF * mixer.heads / layout.tensor * met_pairs(mixer, recipe) for mixer in mixers)
    formula = f"{_OTHERS} x {most:,.0f} B a token: masked, less the maximum, and a copy of the softmax"
    parts = [MemoryPart("scores of every pair", round(_OTHERS * most * tokens), formula)]
    if recipe.recompute_layers >= len(layers) and not recipe.mtp_layers:
        most = max(sum(item.nbytes for item in items if item.part not in FED_FORWARD) for items in kept)
        parts.append(MemoryPart("recomputed attention", round(tokens * most), f"{most:,.0f} B a token of one layer"))
    return parts


def _scores(layers: Sequence[Layer], layout: Layout, recipe: Recipe) -> int:
    """
    Scores of a micro-batch on one rank, of the layer with the most that has an indexer of its own: with every token, or
    with every compressed entry.
    """
    if recipe.fused_indexer_loss:
        return 0
    queries = recipe.sequence if recipe.ulysses else recipe.sequence / layout.context
    most = 0.0
    for layer in layers:
        mixer = layer.mixer
        if isinstance(mixer, (LatentAttention, CompressedAttention)) and mixer.indexer is not None:
            ratio = mixer.ratio if isinstance(mixer, CompressedAttention) else 1
            most = max(most, mixer.heads / layout.tensor * recipe.sequence / ratio)
    return round(recipe.micro_batch * queries * most)
