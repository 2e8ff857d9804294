"""Softmax attention with grouped key/value heads: one fused projection, one attention kernel, one way out."""

from __future__ import annotations

from memplan.models.mixers.grouped_attention import GroupedAttention, QkNorm
from memplan.models.mixers.latent_attention import Indexer
from memplan.models.steps.emit import StepEmitter


def grouped_attention(e: StepEmitter, mixer: GroupedAttention, x: int, layer: int) -> int:
    """Attention of `x` over the cache of `layer`; a layer that shares an earlier one's cache makes none."""
    hidden, tokens = e.model.hidden_size, e.tokens
    heads = e.own(mixer.heads, "heads")
    kv = e.own(mixer.kv_heads, "key/value heads")
    q_width = heads * mixer.head_dim
    k_width, v_width = kv * mixer.head_dim, kv * mixer.head_dim_v
    names, width = ["q_proj"], q_width * (2 if mixer.gated else 1)
    low = None
    if mixer.q_rank is not None:
        low = e.norm("q_a_norm", e.linear(x, ("q_a_proj",), mixer.q_rank, hidden), "q_a_norm")
        low = e.linear(low, names, width, mixer.q_rank)
        names, width = [], 0
    if mixer.shares_kv_of is None:
        names.append("k_proj")
        width += k_width
        if not mixer.keys_are_values:
            names.append("v_proj")
            width += v_width
    qkv = e.linear(x, names, width, hidden)
    offset = e.graph.nbytes[qkv] // width
    query = e.view("q", qkv, (tokens, q_width), offset * q_width) if low is None else low
    if mixer.qk_norm is not QkNorm.NONE:
        query = e.norm("q_norm", query, "q_norm")
    if mixer.shares_kv_of is None:
        key = e.view("k", qkv, (tokens, k_width), offset * k_width)
        if mixer.qk_norm is not QkNorm.NONE:
            key = e.norm("k_norm", key, "k_norm")
        rotated, rotated_key = query, key
        if not e.model.position_rows:
            rotated, rotated_key = e.act("q_rot", (tokens, q_width)), e.act("k_rot", (tokens, k_width))
            e.op("rotary", "RotaryMul", (query, key), (rotated, rotated_key))
        cache = _append(e, mixer, rotated_key, qkv, kv)
        e.kept[layer] = (cache,)
    else:
        rotated = e.act("q_rot", (tokens, q_width))
        e.op("rotary", "RotaryMul", (query,), (rotated,))
        (cache,) = e.kept[mixer.shares_kv_of]
    # Only layers that see everything spread their keys over the ranks of context parallelism.
    bound = mixer.window or mixer.chunk
    keys = e.key_length() if bound is None else e.step.context
    seen = keys if bound is None else min(keys, bound + e.queries)
    picked: tuple[int, ...] = ()
    if mixer.indexer is not None:
        picked = (_pick_blocks(e, mixer.indexer, x, keys),)
        keys = min(keys, mixer.indexer.topk)
        seen = min(seen, mixer.indexer.topk)
    row = kv * (mixer.head_dim + mixer.head_dim_v) * e.kv_bytes
    out = e.attention(
        "attention",
        "FusedInferAttentionScore",
        rotated,
        cache,
        (tokens, heads * mixer.head_dim_v),
        e.sequences * seen * row,
        batch=e.sequences,
        heads=heads,
        kv_heads=kv,
        q_len=e.queries,
        kv_len=max(keys, e.queries),
        d_qk=mixer.head_dim,
        d_v=mixer.head_dim_v,
        window=mixer.window or 0,
        chunk=mixer.chunk or 0,
        page=128,
        picked=picked,
    )
    e.spend("sinks")
    out = merge_contexts(e, out)
    if mixer.gated:
        gate = e.view("gate", qkv, (tokens, q_width), offset * q_width)
        gated = e.act("gated", e.shape(out))
        e.op("output_gate", "SigmoidMul", (out, gate), (gated,))
        out = gated
    if mixer.head_gates:
        gate = e.linear(x, ("g_proj",), heads, hidden)
        gated = e.act("gated", e.shape(out))
        e.op("output_gate", "SigmoidMul", (out, gate), (gated,))
        out = gated
    return e.linear(out, ("o_proj",), hidden, heads * mixer.head_dim_v)


def pool_tail(e: StepEmitter, index: Indexer) -> int:
    """What is kept of the tokens of each sequence whose pool is not full yet."""
    return e.cache("index_tail", e.sequences * index.pool * index.tail_width * e.element_bytes(e.dtype), e.dtype)


def _pick_blocks(e: StepEmitter, index: Indexer, x: int, keys: int) -> int:
    """The blocks to attend, picked by scores of the index keys of `keys` tokens."""
    # There are as many as key/value heads, and they are repeated where those are; every rank has all that pool keys.
    heads, hidden = index.heads if index.pool > 1 else e.own(index.heads, "key/value heads"), e.model.hidden_size
    query = e.linear(x, ("index_q_proj",), heads * index.head_dim, hidden)
    query = e.norm("index_q_norm", query, "index_q_norm")
    key = e.norm("index_k_norm", e.linear(x, ("index_k_proj",), index.head_dim, hidden), "index_k_norm")
    row = index.head_dim * 2
    cache = e.cache("index_cache", e.sequences * -(-keys // index.pool) * row, e.dtype)
    written = e.part("index_written", cache, -(-e.tokens // index.pool) * row)
    tails = (pool_tail(e, index),) if index.pool > 1 else ()
    e.op("index_cache.write", "ReshapeAndCache", (key, *tails), (*tails, written))
    chosen = e.act("index", (e.tokens, index.topk), "int32")
    e.op(
        "indexer.scores", "LightningIndexer", (query, cache), (chosen,),
        batch=e.sequences, heads=heads, kv_heads=1, q_len=e.queries, kv_len=max(keys, e.queries), d_qk=index.head_dim,
        d_v=0, ratio=index.pool, top_k=0, indexer=True, keep=index.topk, page=128,
    )  # fmt: skip
    return chosen


def _append(e: StepEmitter, mixer: GroupedAttention, key: int, qkv: int, kv: int) -> int:
    """The layer's cache with the step's keys and values written into it."""
    entry = kv * (mixer.head_dim + mixer.head_dim_v) * e.kv_bytes
    bound = mixer.window or mixer.chunk
    length = min(e.step.context, bound) if bound is not None else -(-e.step.context // e.layout.context)
    cache = e.cache("kv_cache", e.sequences * length * entry, e.kv_dtype)
    written = e.part("written", cache, e.tokens * entry)
    value = e.view("v", qkv, (e.tokens, kv * mixer.head_dim_v), e.tokens * kv * mixer.head_dim_v * 2)
    if e.step.phase.value == "prefill" and e.layout.context > 1:
        key = e.collective(
            "gather_keys", "AllGather", key, (e.tokens * e.layout.context, e.shape(key)[-1]), e.layout.context, "cp"
        )
        value = e.collective(
            "gather_values",
            "AllGather",
            value,
            (e.tokens * e.layout.context, e.shape(value)[-1]),
            e.layout.context,
            "cp",
        )
    e.op("write_cache", "ReshapeAndCache", (key, value), (written,))
    return cache


def merge_contexts(e: StepEmitter, out: int) -> int:
    """Partial results of decode over the ranks of context parallelism, put together."""
    if e.layout.context == 1 or e.step.phase.value == "prefill":
        return out
    return e.collective("merge_contexts", "AllReduce", out, e.shape(out), e.layout.context, "cp")
