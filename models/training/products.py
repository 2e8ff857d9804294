"""
Layers that keep their input, what attention makes and every second of their matrix products, and make the rest anew.

It is the policy of torchtitan's selective activation checkpointing by operators (`activation_checkpoint.py`): outputs
of `mm` are saved but for every second one, counted layer by layer in the order in which they run; so are those of
attention, of exchanges between experts' ranks and of the router's choice. The router's own product and those of
experts, which are grouped, are made anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import DenseFfn, MoeFfn
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE, _INDEX = 2, 4, 8


def kept_products(model: ModelConfig, layer: Layer, layout: Layout, recipe: Recipe) -> float:
    """
    Bytes a token that such a layer keeps on one rank; raises `InputError` where its products are not known.

    What the way back doesn't need a compiled layer does not keep: its last product goes into a sum.
    """
    mixer, ffn = layer.mixer, layer.ffn
    if not isinstance(mixer, GroupedAttention | LatentAttention) or getattr(mixer, "indexer", None) is not None:
        raise InputError("the matrix products that are made anew are known of grouped and latent attention only")
    if not isinstance(ffn, DenseFfn | MoeFfn):
        raise InputError("the matrix products that are made anew are known of dense parts and experts only")
    hidden = model.hidden_size / (layout.tensor if recipe.sequence_parallel else 1)
    heads = mixer.heads / layout.tensor
    attended = heads * (mixer.head_dim_v if isinstance(mixer, GroupedAttention) else mixer.v_dim)
    products = [*_of_attention(mixer, hidden, layout), *_of_dense(ffn, hidden, layout)]
    needed = len(products) - (1 if recipe.compiled_layers and not isinstance(ffn, MoeFfn) else 0)
    kept = _HALF * (hidden + attended + sum(products[:needed:2])) + _SINGLE * heads
    return kept + (_of_experts(ffn, model.hidden_size, layout) if isinstance(ffn, MoeFfn) else 0.0)


def _of_attention(mixer: GroupedAttention | LatentAttention, hidden: float, layout: Layout) -> Iterator[float]:
    """Values a token that each product of a mixer makes, in order."""
    heads = mixer.heads / layout.tensor
    if isinstance(mixer, GroupedAttention):
        kv_heads = max(1.0, mixer.kv_heads / layout.tensor)
        yield from (heads * mixer.head_dim, kv_heads * mixer.head_dim, kv_heads * mixer.head_dim_v)
    else:
        if mixer.q_lora_rank is not None:
            yield float(mixer.q_lora_rank)
        yield heads * (mixer.nope_dim + mixer.rope_dim)
        yield float(mixer.kv_lora_rank + mixer.rope_dim)
        yield heads * (mixer.nope_dim + mixer.v_dim)
    yield hidden


def _of_dense(ffn: DenseFfn | MoeFfn, hidden: float, layout: Layout) -> Iterator[float]:
    """The same of a dense part, or of the experts that all tokens meet."""
    inner = (ffn.intermediate if isinstance(ffn, DenseFfn) else ffn.shared_intermediate) / layout.tensor
    if inner:
        yield from (inner,) * (2 if ffn.gated else 1)
        yield hidden


def _of_experts(ffn: MoeFfn, hidden: int, layout: Layout) -> float:
    """Bytes a token of the router's choice, and of what ranks that share experts exchange, there and back."""
    chosen = ffn.per_token * (_SINGLE + _INDEX)
    pairs = ffn.per_token * layout.expert_shards / layout.tensor
    return chosen + (2 * _HALF * pairs * (ffn.latent or hidden) if layout.expert > 1 else 0.0)
