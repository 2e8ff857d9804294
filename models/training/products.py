"""
Layers that keep their input, what attention makes and every second of their matrix products, and make the rest anew.

It is the policy of torchtitan's selective activation checkpointing by operators (`_custom_policy`): outputs of `mm` are
saved but for every second one, counted layer by layer in the order in which they run, and those of attention.
"""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import DenseFfn
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4


def kept_products(model: ModelConfig, layer: Layer, layout: Layout, recipe: Recipe) -> float:
    """Bytes a token that such a layer keeps on one rank; raises `InputError` where its products are not known."""
    mixer, ffn = layer.mixer, layer.ffn
    if not isinstance(mixer, GroupedAttention) or not isinstance(ffn, DenseFfn):
        raise InputError("the matrix products that are made anew are known of dense layers with grouped attention only")
    ranks = layout.tensor
    hidden = model.hidden_size / (ranks if recipe.sequence_parallel else 1)
    heads, kv_heads = mixer.heads / ranks, max(1.0, mixer.kv_heads / ranks)
    attended = heads * mixer.head_dim_v
    inner = ffn.intermediate / ranks
    products = [heads * mixer.head_dim, kv_heads * mixer.head_dim, kv_heads * mixer.head_dim_v, hidden]
    products += [inner] * (2 if ffn.gated else 1) + [hidden]
    return _HALF * (hidden + attended + sum(products[::2])) + _SINGLE * heads
