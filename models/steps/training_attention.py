"""Attention as it is trained: no cache, every key and value an activation that the way back reads."""

from __future__ import annotations

from memplan.core.errors import InputError
from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.rotary_training import rotate
from memplan.models.steps.sparse_training import sparse_training

_LANES = 8
"""Flash attention keeps maximum and sum of every row in blocks of eight float32 values."""


def grouped_training(e: StepEmitter, mixer: GroupedAttention, x: int) -> int:
    """Attention of `x` with every key and value an activation."""
    tokens, hidden = e.tokens, e.model.hidden_size
    heads, kv = e.own(mixer.heads, "heads"), e.own(mixer.kv_heads, "key/value heads")
    q_width, k_width, v_width = heads * mixer.head_dim, kv * mixer.head_dim, kv * mixer.head_dim_v
    if mixer.shares_kv_of is not None or mixer.keys_are_values:
        raise InputError("the backward pass of layers that share keys and values is not modelled")
    if mixer.q_rank is not None or mixer.indexer is not None or mixer.head_gates:
        raise InputError(
            "the backward pass of queries of low rank, of gates by head and of block-sparse attention is not modelled"
        )
    gate = q_width if mixer.gated else 0
    qkv = e.linear(x, ("q_proj", "k_proj", "v_proj"), q_width + gate + k_width + v_width, hidden)
    query, value = e.act("q", (tokens, q_width)), e.act("v", (tokens, v_width))
    # Queries and values leave the joint projection as copies, keys are read in place.
    key = e.view("k", qkv, (tokens, k_width), tokens * k_width * 2)
    pieces = [query, key, value]
    if gate:
        pieces.append(e.act("gate", (tokens, q_width)))
    e.op("split", "SplitVD", (qkv,), pieces)
    if mixer.qk_norm is not QkNorm.NONE:
        query, key = e.norm("q_norm", query, "q_norm"), e.norm("k_norm", key, "k_norm")
    query = rotate(e, "q", query, mixer.head_dim)
    key = rotate(e, "k", key, mixer.head_dim)
    e.spend("sinks")
    out = _attend(
        e, query, key, value, heads, kv, mixer.head_dim, mixer.head_dim_v, mixer.window or 0, mixer.chunk or 0
    )
    if gate:
        gated = e.act("gated", e.shape(out))
        e.op("output_gate", "SigmoidMul", (out, pieces[3]), (gated,))
        out = gated
    return e.linear(out, ("o_proj",), hidden, heads * mixer.head_dim_v)


def _attend(
    e: StepEmitter, query: int, key: int, value: int, heads: int, kv: int, d_qk: int, d_v: int, window: int, chunk: int
) -> int:
    ranks = e.layout.context
    if ranks > 1:
        key = e.collective("gather_keys", "AllGather", key, (e.tokens * ranks, e.shape(key)[-1]), ranks, "cp")
        value = e.collective("gather_values", "AllGather", value, (e.tokens * ranks, e.shape(value)[-1]), ranks, "cp")
    out = e.act("attention.out", (e.tokens, heads * d_v))
    rows = (e.sequences, heads, e.queries, _LANES)
    statistics = e.act("softmax.max", rows, "float32"), e.act("softmax.sum", rows, "float32")
    e.op(
        "attention", "FlashAttentionScore", (query, key, value), (out, *statistics),
        batch=e.sequences, heads=heads, kv_heads=kv, q_len=e.queries, kv_len=e.key_length(), d_qk=d_qk, d_v=d_v,
        window=window, chunk=chunk,
    )  # fmt: skip
    return out


def latent_training(e: StepEmitter, mixer: LatentAttention, x: int) -> int:
    """Attention of `x` with keys and values lifted from its latents."""
    hidden, heads = e.model.hidden_size, e.own(mixer.heads, "heads")
    out = sparse_training(e, mixer, x) if mixer.top_k else _expanded(e, mixer, x)
    if mixer.gated:
        gate = e.linear(x, ("g_proj",), heads * mixer.v_dim, hidden)
        gated = e.act("gated", e.shape(out))
        e.op("output_gate", "SigmoidMul", (out, gate), (gated,))
        out = gated
    return e.linear(out, ("o_proj",), hidden, heads * mixer.v_dim)


def _expanded(e: StepEmitter, mixer: LatentAttention, x: int) -> int:
    """Attention of every head to keys and values of its own."""
    tokens, hidden = e.tokens, e.model.hidden_size
    heads, latent = e.own(mixer.heads, "heads"), mixer.kv_lora_rank
    qk_dim, entry = mixer.nope_dim + mixer.rope_dim, mixer.kv_lora_rank + mixer.rope_dim
    if mixer.q_lora_rank is None:
        query = e.linear(x, ("q_proj",), heads * qk_dim, hidden)
    else:
        low = e.linear(x, ("q_a_proj",), mixer.q_lora_rank, hidden)
        query = e.linear(e.norm("q_norm", low, "q_a_layernorm"), ("q_b_proj",), heads * qk_dim, mixer.q_lora_rank)
    source = e.linear(x, ("kv_a_proj_with_mqa",), entry, hidden)
    low, position = e.act("kv_latent", (tokens, latent)), e.act("k_pe", (tokens, mixer.rope_dim))
    e.op("split", "SplitVD", (source,), (low, position))
    lifted = e.linear(
        e.norm("kv_norm", low, "kv_a_layernorm"), ("kv_b_proj",), heads * (mixer.nope_dim + mixer.v_dim), latent
    )
    bare, value = e.act("k_nope", (tokens, heads * mixer.nope_dim)), e.act("v", (tokens, heads * mixer.v_dim))
    e.op("split_kv", "SplitVD", (lifted,), (bare, value))
    query = rotate(e, "q", query, mixer.rope_dim)
    turned = rotate(e, "k", position, mixer.rope_dim)
    key = e.act("k", (tokens, heads * qk_dim))
    e.op("join_keys", "ConcatD", (bare, turned), (key,))
    return _attend(e, query, key, value, heads, heads, qk_dim, mixer.v_dim, 0, 0)
