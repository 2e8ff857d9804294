"""
What the backward pass needs of the forward pass: tensors kept per token, layer by layer.

The op list is that of Megatron-Core with Ascend's fused kernels (RMSNorm, rotary positions, flash attention, SwiGLU),
as a torch_npu profile of it shows them; activations are kept in 16 bits, statistics in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import DenseFfn, Ffn, MoeFfn
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.compressed_attention import CompressedAttention
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.latent_attention import Indexer, LatentAttention
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet, Mamba2
from memplan.models.parallel import Layout
from memplan.models.training.adapters import kept_by_adapters
from memplan.models.training.entries import compressed
from memplan.models.training.saved_item import Saved
from memplan.models.training.scans import scan_in_steps
from memplan.models.training.step_recipe import Recipe

_BYTE, _SINGLE, _INDEX = 1, 4, 8
_SOFTMAX_LANES = 8
"""Flash attention keeps maximum and sum of every row in blocks of eight float32 values."""


def _fed(recipe: Recipe) -> int:
    """Bytes of a value that one product reads, for its weight's gradient."""
    return _BYTE if recipe.fp8 else recipe.each


def _norm(name: str, width: int, shards: int, recipe: Recipe, each: int) -> Iterator[Saved]:
    yield Saved(f"{name} output", "norm", each * width / shards, cheap=True)
    yield Saved(f"{name} statistics", "norm", _SINGLE / shards)
    yield from _norm_steps(name, width / shards, recipe)


def _norm_steps(name: str, width: float, recipe: Recipe) -> Iterator[Saved]:
    """
    Of `(x.float() * rsqrt(...)).type_as(x) * weight`: the float32 copy, which float32 itself needs none of, and the
    factor of the weight are kept, that one for the weight's gradient, of which adapters' models have none.
    """
    if recipe.norms_in_steps:
        copy = 0 if recipe.float32 else _SINGLE
        factor = 0 if recipe.lora_rank else recipe.each
        yield Saved(f"steps of the {name}", "norm", (copy + factor) * width, cheap=True)


def _attended(width: float, recipe: Recipe) -> Iterator[Saved]:
    """A kernel of attention keeps what it makes itself, in 16 bits, beside what the projection keeps."""
    own = recipe.each if recipe.fp8 and not recipe.attention_in_steps else 0
    yield Saved("attention output", "attention", (own + _fed(recipe)) * width, attended=True)
    if recipe.ulysses:
        yield Saved("attention output, exchanged", "attention", recipe.each * width)
    if recipe.copied_attention:
        yield Saved("attention output, copied", "attention", recipe.each * width)


def _softmax(heads: float, recipe: Recipe) -> Iterator[Saved]:
    """What attention needs of its softmax: of every row, or of every pair where no kernel works pair by pair."""
    if not recipe.attention_in_steps:
        yield Saved("softmax statistics", "attention", 2 * _SOFTMAX_LANES * _SINGLE * heads, softmax=True)
        return
    each = recipe.each
    if recipe.softmax_in_steps and not recipe.float32:
        # Dropout needs its mask, and nothing of what it reads.
        each = _SINGLE + (0 if recipe.dropout else recipe.each)
    yield Saved("softmax", "attention", each * heads * recipe.sequence, softmax=True)
    if recipe.dropout:
        dropped = "softmax behind dropout, and its mask"
        yield Saved(dropped, "attention", (recipe.each + 1) * heads * recipe.sequence, softmax=True)


def _grouped(mixer: GroupedAttention, layout: Layout, _shards: int, recipe: Recipe) -> Iterator[Saved]:
    ranks = layout.tensor
    heads, kv_heads = mixer.heads / ranks, max(1.0, mixer.kv_heads / ranks)
    queries, keys, values = heads * mixer.head_dim, kv_heads * mixer.head_dim, kv_heads * mixer.head_dim_v
    again = heads / kv_heads if recipe.repeat_kv else 1.0
    if mixer.gated:
        yield Saved("gate of the attention output", "attention", recipe.each * queries)
    if mixer.qk_norm is not QkNorm.NONE:
        if recipe.compiled_layers:
            yield Saved("queries and keys before their norms", "attention", recipe.each * (queries + keys))
        else:
            # The norm of the keys keeps a part of the joint projection, which keeps all of it.
            yield Saved("qkv projection", "attention", recipe.each * (queries + keys + values))
            # The queries leave the joint projection as a copy, which their norm keeps as its input.
            yield Saved("queries before their norm", "attention", recipe.each * queries)
        yield Saved("query and key norm statistics", "norm", _SINGLE * (heads + kv_heads))
        yield from _norm_steps("query and key norms", queries + keys, recipe)
    elif recipe.legacy_layers and not recipe.alibi_masks:
        yield Saved("qkv projection", "attention", recipe.each * (queries + keys + values))
    if not (recipe.alibi_masks or recipe.compiled_layers):
        yield Saved("cosines and sines of queries and keys", "attention", 4 * recipe.each * mixer.head_dim, rotary=True)
    yield Saved("queries and keys", "attention", recipe.each * (queries + again * keys))
    yield Saved("values", "attention", recipe.each * again * values)
    yield from _attended(heads * mixer.head_dim_v, recipe)
    yield from _softmax(heads, recipe)
    if recipe.window_masks and mixer.window is not None:
        yield Saved("mask of the window", "attention", recipe.sequence)
    if recipe.alibi_masks:
        yield Saved("bias of positions, scaled", "attention", recipe.each * heads * recipe.sequence)


def _latent(mixer: LatentAttention, layout: Layout, shards: int, recipe: Recipe) -> Iterator[Saved]:
    heads = mixer.heads / layout.tensor
    qk_dim = mixer.nope_dim + mixer.rope_dim
    if mixer.q_lora_rank is not None:
        yield Saved("query latent", "attention", recipe.each * mixer.q_lora_rank)
        yield from _norm("query latent norm", mixer.q_lora_rank, shards, recipe, _fed(recipe))
    yield Saved("key/value latent and positions", "attention", recipe.each * (mixer.kv_lora_rank + mixer.rope_dim))
    yield from _norm("key/value latent norm", mixer.kv_lora_rank, shards, recipe, _fed(recipe))
    yield Saved("cosines and sines of queries and keys", "attention", 4 * recipe.each * mixer.rope_dim, rotary=True)
    yield Saved("queries", "attention", recipe.each * heads * max(qk_dim, recipe.padded_heads), heads=True)
    yield Saved("keys", "attention", recipe.each * heads * max(qk_dim, recipe.padded_heads), heads=True)
    yield Saved("values", "attention", recipe.each * heads * max(mixer.v_dim, recipe.padded_heads), heads=True)
    if recipe.padded_heads > mixer.v_dim:
        # What the projection reads is cut out of it.
        yield Saved("attention output, padded", "attention", recipe.each * heads * recipe.padded_heads)
    yield from _attended(heads * mixer.v_dim, recipe)
    yield from _softmax(heads, recipe)
    if mixer.indexer is not None:
        yield from _indexer(mixer.indexer, layout, recipe)


_STEPS_OF_LOSS = 3
"""Float32 values of each picked token that the divergence keeps: softmax, what the logarithm is of, and the target."""


def _indexer(index: Indexer, layout: Layout, recipe: Recipe) -> Iterator[Saved]:
    """
    As MindSpeed-LLM's `dsa_indexer.py` keeps it, whose heads no tensor parallelism splits: without a fused kernel the
    rectified product of every head and pair of tokens, and a mask for attention to read.
    """
    every = layout.context if recipe.ulysses else 1
    each, indices = (recipe.each, _SINGLE) if recipe.fused_indexer else (_SINGLE, 2 * _INDEX)
    width = (index.heads + 1) * index.head_dim
    yield Saved("indexer's queries and keys", "attention", every * (each * width + recipe.each * index.heads))
    picked = min(index.topk, recipe.sequence) * (indices + _STEPS_OF_LOSS * _SINGLE)
    yield Saved("picked tokens and the indexer's loss", "attention", every * picked)
    if not recipe.fused_indexer:
        yield Saved("indexer's scores of heads", "attention", every * _SINGLE * index.heads * recipe.sequence)
        yield Saved("mask of tokens not picked", "attention", every * recipe.sequence)


_CHUNK = 64
"""Tokens of a chunk of the delta rule."""


def _delta_net(mixer: GatedDeltaNet, layout: Layout, _shards: int, recipe: Recipe) -> Iterator[Saved]:
    """As `chunk_gated_delta_rule` of flash-linear-attention and Megatron-Core's `GatedDeltaNet` keep it."""
    ranks = layout.tensor
    key_heads, heads = max(1.0, mixer.key_heads / ranks), mixer.value_heads / ranks
    narrow, wide, inner = key_heads * mixer.key_dim, heads * mixer.key_dim, heads * mixer.value_dim
    yield Saved("inputs of the convolution", "attention", recipe.each * (2 * narrow + inner))
    yield Saved("gate of the attention output", "attention", recipe.each * inner)
    yield Saved("inputs of decays and step sizes", "attention", 2 * recipe.each * heads)
    yield Saved("queries and keys of length one", "attention", recipe.each * 2 * narrow)
    yield Saved("query and key norm statistics", "norm", 2 * _SINGLE * key_heads)
    if heads > key_heads:
        yield Saved("queries and keys of every value head", "attention", recipe.each * 2 * wide)
    yield Saved("values", "attention", recipe.each * inner)
    yield Saved("decays and step sizes", "attention", (_SINGLE + recipe.each) * heads)
    yield Saved("solved triangles of chunks", "attention", recipe.each * _CHUNK * heads)
    yield Saved("attention output", "attention", recipe.each * inner, attended=True)
    yield Saved("gated norm output", "norm", _fed(recipe) * inner, cheap=True)
    yield Saved("gated norm statistics", "norm", _SINGLE * heads)


def _mamba(mixer: Mamba2, layout: Layout, _shards: int, recipe: Recipe) -> Iterator[Saved]:
    """As `mamba_split_conv1d_scan_combined` of mamba_ssm and Megatron-Core's `MambaMixer` around it keep it."""
    if recipe.scan_in_steps:
        yield from scan_in_steps(mixer, layout, recipe)
        return
    inner, heads = mixer.inner / layout.tensor, mixer.heads / layout.tensor
    states = 2 * mixer.groups * mixer.state / layout.tensor
    yield Saved(
        "gate, inputs of the convolution and step sizes", "attention", recipe.each * (2 * inner + states + heads)
    )
    yield Saved("attention output", "attention", recipe.each * inner, attended=True)
    yield Saved("attention output behind its gate", "attention", recipe.each * inner)
    if mixer.normed:
        yield Saved("norm of the gated output", "norm", _fed(recipe) * inner, cheap=True)
        yield Saved("statistics of the gated norm", "norm", _SINGLE * mixer.groups / layout.tensor)


_MIXERS: Mapping[type[TokenMixer], Callable[[Any, Layout, int, Recipe], Iterator[Saved]]] = MappingProxyType(
    {
        GroupedAttention: _grouped,
        LatentAttention: _latent,
        GatedDeltaNet: _delta_net,
        Mamba2: _mamba,
        CompressedAttention: compressed,
    }
)
"""What each kind of mixer keeps on one rank of a layout, norms spread over so many shards."""


_STEPS_OF_GELU = 4
"""Of `0.5 * x * (1 + tanh(c * (x + d * x ** 3)))`: tanh, both factors and their product are kept."""


def _dense(width: float, part: str, recipe: Recipe, *, gated: bool, copies: float = 1.0) -> Iterator[Saved]:
    yield Saved("up projection", part, copies * recipe.each * width * (2 if gated else 1))
    yield Saved("activation function", part, copies * _fed(recipe) * width, cheap=True)
    kept = 1 if recipe.silu_in_steps and gated else 0
    if recipe.gelu_in_steps and part != "experts":
        kept = _STEPS_OF_GELU if gated else _STEPS_OF_GELU - 1
    if kept:
        yield Saved("steps of the activation function", part, kept * copies * recipe.each * width, cheap=True)


def _ffn(ffn: Ffn, hidden: int, layout: Layout, shards: int, recipe: Recipe) -> Iterator[Saved]:
    if isinstance(ffn, DenseFfn):
        yield from _dense(ffn.intermediate / layout.tensor, "ffn", recipe, gated=ffn.gated)
        return
    if not isinstance(ffn, MoeFfn):
        raise InputError("training with linear layers in the place of feed-forward parts is not modelled")
    # Tokens meet their experts evenly: a rank works on as many token-expert pairs as the tokens make that it and those
    # bring along which split experts with it.
    pairs = (recipe.expert_capacity or 1) * ffn.per_token * layout.expert_shards / layout.tensor
    width = ffn.intermediate / layout.expert_shards
    yield Saved("router", "experts", _SINGLE * (ffn.experts + 2 * ffn.per_token) / shards)
    yield Saved("dispatched tokens", "experts", _fed(recipe) * pairs * (ffn.latent or hidden))
    yield from _dense(width, "experts", recipe, gated=ffn.gated, copies=pairs)
    # TransformerEngine's experts meet the router's weights in the activation function, so that nobody needs what they
    # hand back; kernels for both have a gate, or are asked for (Megatron-Core's `TEGroupedMLP`).
    if not recipe.transformer_engine:
        yield Saved("experts' output", "experts", recipe.each * pairs * (ffn.latent or hidden))
    elif not ffn.gated and not recipe.weighted_activation:
        yield Saved(
            "activation function before the router's weights", "experts", recipe.each * pairs * width, cheap=True
        )
    if ffn.shared_intermediate:
        yield from _dense(ffn.shared_intermediate / layout.tensor, "shared", recipe, gated=ffn.gated)
    if ffn.shared_gate:
        yield Saved("shared expert's output before its gate", "shared", recipe.each * hidden / shards)


def _normed(part: TokenMixer | Ffn, recipe: Recipe) -> int:
    """
    Bytes of a value of a layer's norm for those who read it: with products in 8 bits each keeps a copy of its own, and
    routers one in 16.
    """
    if isinstance(part, LatentAttention) and recipe.fp8:
        return _fed(recipe) * (1 if part.q_lora_rank is None else 2)
    if isinstance(part, MoeFfn) and recipe.fp8:
        return recipe.each + (_fed(recipe) if part.shared_intermediate else 0)
    return _fed(recipe)


_NORMS_BEFORE_AND_BEHIND = 4


def saved_tensors(model: ModelConfig, layer: Layer, layout: Layout, recipe: Recipe) -> tuple[Saved, ...]:
    """
    What one layer keeps per token on one rank.

    With sequence parallelism residuals and norms are spread over the tensor-parallel ranks; dropout keeps a mask of a
    byte an element of what is added to each residual. A norm keeps the residual that it reads, in steps a float32 copy
    of it alone. Raises `InputError` naming the kind of layer whose op list is not known.
    """
    shards = layout.tensor if recipe.sequence_parallel else 1
    hidden = model.hidden_size * (1 if model.hyper is None else model.hyper.streams)
    kept: list[Saved] = []
    for name, part_name, part in (("attention", "attention", layer.mixer), ("feed-forward", "ffn", layer.ffn)):
        if part is not None:
            if recipe.float32 or not recipe.norms_in_steps:
                kept.append(Saved(f"residual behind {name}", "residual", recipe.each * hidden / shards))
            norm = _norm(f"{name} norm", model.hidden_size, shards, recipe, _normed(part, recipe))
            # TransformerEngine's norm is one kernel with the product behind it, and made anew with it.
            within = isinstance(part, DenseFfn) and recipe.recompute_dense and recipe.transformer_engine
            kept += (replace(item, part=part_name) for item in norm) if within else norm
            if layer.norms >= _NORMS_BEFORE_AND_BEHIND:
                # What such a norm makes is added to the residual, which needs nothing kept.
                kept.append(
                    Saved(f"{name} before the norm behind it", part_name, recipe.each * model.hidden_size / shards)
                )
                kept.append(Saved(f"statistics of the norm behind {name}", "norm", _SINGLE / shards))
                kept += _norm_steps(f"norm behind {name}", model.hidden_size / shards, recipe)
            if recipe.lora_gathered and shards > 1 and not isinstance(part, MoeFfn):
                kept.append(Saved(f"{name} norm, gathered for adapters", "norm", recipe.each * model.hidden_size))
            if recipe.dropout:
                kept.append(Saved(f"dropout mask behind {name}", "residual", model.hidden_size / shards))
    if layer.mixer is not None:
        kept_by = _MIXERS.get(type(layer.mixer))
        if kept_by is None:
            raise InputError("the activations of training with {} are not modelled", type(layer.mixer).__name__)
        latent = isinstance(layer.mixer, LatentAttention) and layer.mixer.indexer is None
        if recipe.float32 and not (latent or isinstance(layer.mixer, GroupedAttention)):
            raise InputError("float32 activations of {} are not modelled", type(layer.mixer).__name__)
        learned = model.position_rows > 0
        kept += (item for item in kept_by(layer.mixer, layout, shards, recipe) if not (learned and item.rotary))
    if layer.ffn is not None:
        kept += _ffn(layer.ffn, model.hidden_size, layout, shards, recipe)
    return tuple(kept_by_adapters(model, layer, layout, recipe, kept) if recipe.lora_rank else kept)
