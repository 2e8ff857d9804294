"""Multi-head latent attention: absorbed when decoding or sparse, expanded when a prompt is read densely."""

from __future__ import annotations

from memplan.models.mixers.latent_attention import Indexer, LatentAttention
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.grouped_kernels import merge_contexts, pool_tail
from memplan.models.steps.options import Phase


def latent_attention(e: StepEmitter, mixer: LatentAttention, x: int) -> int:
    """Attention of `x` over what an indexer keeps (this layer's, or the earlier one's that it shares), or all."""
    top_k = mixer.top_k
    hidden, tokens = e.model.hidden_size, e.tokens
    heads = e.own(mixer.heads, "heads")
    qk_dim, latent = mixer.nope_dim + mixer.rope_dim, mixer.kv_lora_rank
    entry = latent + mixer.rope_dim
    if mixer.q_lora_rank is None:
        query = e.linear(x, ("q_proj",), heads * qk_dim, hidden)
        low, source = x, e.linear(x, ("kv_a_proj_with_mqa",), entry, hidden, fused=True)
    else:
        down = e.linear(x, ("q_a_proj", "kv_a_proj_with_mqa"), mixer.q_lora_rank + entry, hidden)
        source = e.view("kv", down, (tokens, entry), tokens * entry * 2)
        low = e.view("q_low", down, (tokens, mixer.q_lora_rank), tokens * mixer.q_lora_rank * 2)
        low = e.norm("q_a_layernorm", low, "q_a_layernorm", fused=True)
        query = e.linear(low, ("q_b_proj",), heads * qk_dim, mixer.q_lora_rank, fused=True)
    cache = _append(e, mixer, source)
    if mixer.indexer is not None:
        keys = pooled_keys(e, mixer.indexer, x) if mixer.indexer.pool > 1 else None
        indexer(e, mixer.indexer, x, low, ("indexer.wq_b", "indexer.wk"), ratio=mixer.indexer.pool, cache=keys)
    if e.step.phase is Phase.PREFILL and not top_k:
        out = _expanded(e, mixer, query, cache, heads)
    else:
        out = _absorbed(e, mixer, query, cache, heads, top_k)
    if mixer.gated:
        gate = e.linear(x, ("g_proj",), heads * mixer.v_dim, hidden)
        gated = e.act("gated", (tokens, heads * mixer.v_dim))
        e.op("output_gate", "SigmoidMul", (out, gate), (gated,))
        out = gated
    return split_output(e, out, "o_proj", heads * mixer.v_dim)


def _append(e: StepEmitter, mixer: LatentAttention, source: int) -> int:
    """Latent and rotated key of each token, normalised and written into the cache."""
    entry = mixer.kv_lora_rank + mixer.rope_dim
    row = mixer.kv_lora_rank * e.kv_bytes + mixer.rope_dim * 2
    if e.step.phase is Phase.PREFILL and e.layout.context > 1:
        source = e.collective(
            "gather_latents", "AllGather", source, (e.tokens * e.layout.context, entry), e.layout.context, "cp"
        )
    cache = e.cache("kv_cache", e.sequences * -(-e.step.context // e.layout.context) * row, e.kv_dtype)
    written = e.part("written", cache, e.tokens * row)
    e.op("kv_norm_rope", "KvRmsNormRopeCache", (source, *e.spend("kv_a_layernorm")), (written,), fused=True)
    return cache


def lifting_weights(e: StepEmitter, mixer: LatentAttention, heads: int) -> tuple[int, int]:
    """The halves of `kv_b_proj` by head: what lifts latents to keys and what lifts them to values."""
    _, keys, values = _up(e, mixer, heads)
    return keys, values


def _up(e: StepEmitter, mixer: LatentAttention, heads: int) -> tuple[int, int, int]:
    """`kv_b_proj` and its two halves by head: what lifts latents to keys and what lifts them to values."""
    width = heads * (mixer.nope_dim + mixer.v_dim)
    whole = e.weight(("kv_b_proj",), (width, mixer.kv_lora_rank))
    nbytes = e.graph.nbytes[whole]
    keys = e.view(
        "w_uk",
        whole,
        (heads, mixer.kv_lora_rank, mixer.nope_dim),
        nbytes * mixer.nope_dim // (mixer.nope_dim + mixer.v_dim),
    )
    values = e.view(
        "w_uv", whole, (heads, mixer.v_dim, mixer.kv_lora_rank), nbytes * mixer.v_dim // (mixer.nope_dim + mixer.v_dim)
    )
    return whole, keys, values


def _absorbed(e: StepEmitter, mixer: LatentAttention, query: int, cache: int, heads: int, top_k: int) -> int:
    """Queries are lifted into the latent space: all heads share one key of `kv_lora_rank + rope_dim`."""
    tokens, latent = e.tokens, mixer.kv_lora_rank
    _, w_uk, w_uv = _up(e, mixer, heads)
    bare = e.view("q_nope", query, (heads, tokens, mixer.nope_dim), tokens * heads * mixer.nope_dim * 2)
    lifted = e.act("q_latent", (heads, tokens, latent))
    e.op("q_absorb", "BatchMatMul", (bare, w_uk), (lifted,), transpose_a=False, transpose_b=True, fused=True)
    if mixer.rope_dim:
        turned = e.act("q_rope", (tokens, heads * mixer.rope_dim))
        e.op(
            "rotary",
            "InterleaveRope",
            (e.view("q_pe", query, (tokens, heads * mixer.rope_dim), tokens * heads * mixer.rope_dim * 2),),
            (turned,),
            fused=True,
        )
    keys = e.key_length()
    row = latent * e.kv_bytes + mixer.rope_dim * 2
    seen = min(keys, top_k * e.queries) if top_k else keys
    out = e.attention(
        "attention",
        "SparseFlashAttention" if top_k else "FusedInferAttentionScore",
        lifted,
        cache,
        (heads, tokens, latent),
        e.sequences * seen * row,
        batch=e.sequences,
        heads=heads,
        kv_heads=1,
        q_len=e.queries,
        kv_len=max(keys, e.queries),
        d_qk=latent + mixer.rope_dim,
        d_v=latent,
        top_k=top_k if top_k < keys else 0,
        shared_kv=True,
        page=128,
        picked=e.picked_last() if top_k else (),
    )
    out = merge_contexts(e, out)
    values = e.act("values", (heads, tokens, mixer.v_dim))
    e.op("v_up", "BatchMatMul", (out, w_uv), (values,), transpose_a=False, transpose_b=True)
    return e.view("heads", values, (tokens, heads * mixer.v_dim))


def _expanded(e: StepEmitter, mixer: LatentAttention, query: int, cache: int, heads: int) -> int:
    """Latents of the whole prompt are lifted to keys and values of every head."""
    keys = e.step.context
    whole, _, _ = _up(e, mixer, heads)
    rows = e.sequences * keys
    width = heads * (mixer.nope_dim + mixer.v_dim)
    latents = e.act("latents", (rows, mixer.kv_lora_rank))
    e.op("read_cache", "PagedCacheLoad", (cache,), (latents,))
    lifted = e.act("keys_values", (rows, width))
    e.op("kv_b_proj", "MatMul", (latents, whole), (lifted,), transpose_a=False, transpose_b=True)
    turned = e.act("q_rot", e.shape(query))
    e.op("rotary", "InterleaveRope", (query,), (turned,), fused=True)
    return e.attention(
        "attention",
        "FusedInferAttentionScore",
        turned,
        lifted,
        (e.tokens, heads * mixer.v_dim),
        e.graph.nbytes[lifted],
        batch=e.sequences,
        heads=heads,
        kv_heads=heads,
        q_len=e.queries,
        kv_len=max(e.key_length(), e.queries),
        d_qk=mixer.nope_dim + mixer.rope_dim,
        d_v=mixer.v_dim,
    )


def index_format(e: StepEmitter, index: Indexer) -> tuple[str, int]:
    """Type of the indexer's keys and bytes of one: with its scale, of 16 or 32 bits, where they are kept in eight."""
    if not e.step.index_c8:
        return e.dtype, index.head_dim * 2
    if e.kv_dtype == "float8_e4m3":
        return "float8_e4m3", index.head_dim + 4
    return "int8", index.head_dim + 2


def pooled_keys(e: StepEmitter, index: Indexer, x: int) -> int:
    """The cache of an indexer that keeps one key for a pool of tokens, with those that `x` fills weighed into it."""
    dtype, row = index_format(e, index)
    gates = e.linear(x, ("indexer.pool_gate",), index.head_dim, e.model.hidden_size)
    cache = e.cache("index_cache", e.sequences * -(-e.step.context // index.pool) * row, dtype)
    written = e.part("index_written", cache, -(-e.tokens // index.pool) * row)
    tail = pool_tail(e, index)
    positions = e.spend("indexer.pool_positions")
    e.op("indexer.pool", "KvRmsNormRopeCache", (gates, tail, *positions), (tail, written), fused=True)
    return cache


def indexer(
    e: StepEmitter,
    index: Indexer,
    x: int,
    low: int,
    names: tuple[str, str | None],
    *,
    ratio: int = 1,
    cache: int | None = None,
) -> None:
    """
    Scores of all cached index keys for each token, and the `topk` best of them.

    `names` are the projections of queries and of keys. A compressor that makes the keys, one for `ratio` tokens, gives
    the `cache` they are in and no projection.
    """
    tokens, hidden = e.tokens, e.model.hidden_size
    dtype, row = index_format(e, index)
    q_name, k_name = names
    query = e.linear(low, (q_name,), index.heads * index.head_dim, e.shape(low)[-1])
    weights = e.linear(x, ("indexer.weights_proj",), index.heads, hidden)
    if dtype == "int8":
        half = e.act("index_weights.half", (tokens, index.heads), "float16")
        e.op("index_weights.cast", "Cast", (weights,), (half,))
        weights = half
    own = cache is None
    if cache is None:
        cache = e.cache("index_cache", e.sequences * -(-e.step.context // e.layout.context) * row, dtype)
    if k_name is None:
        turned = e.act("index_q.rope", (tokens, index.heads * index.head_dim))
        e.op("indexer.rotary", "RopeWithSinCosCache", (query, weights), (turned,))
    else:
        turned = _rotated(e, "index_q", query, index.heads, index.head_dim)
        key = e.norm("indexer.k_norm", e.linear(x, (k_name,), index.head_dim, hidden), "indexer.k_norm")
        key = _rotated(e, "index_k", key, 1, index.head_dim)
        key, scale = _hadamard(e, "index_k", key, 1, index, dtype)
        if own:
            written = e.part("index_written", cache, tokens * row)
            e.op("indexer.write", "ScatterNdUpdate", (key,), (written,))
            if scale is not None:
                scales = e.part("index_scale", cache, 2 * tokens)
                e.op("indexer.write_scale", "ScatterNdUpdate", (scale,), (scales,))
    turned, _ = _hadamard(e, "index_q", turned, index.heads, index, dtype)
    keys = max(e.key_length(), e.queries)
    chosen = e.picked[e.micro_batch, e.layer_number] = e.act("index", (tokens, index.topk), "int32")
    part = e.part("index_keys", cache, e.sequences * -(-keys // ratio) * row)
    e.op(
        "indexer.scores",
        "LightningIndexer",
        (turned, part, weights),
        (chosen,),
        batch=e.sequences,
        heads=index.heads,
        kv_heads=1,
        q_len=e.queries,
        kv_len=keys,
        d_qk=index.head_dim,
        d_v=0,
        ratio=ratio,
        top_k=0,
        indexer=True,
        keep=index.topk,
        page=128,
    )


def _rotated(e: StepEmitter, name: str, x: int, heads: int, width: int) -> int:
    """Heads of which the first half is rotated: taken apart, rotated and put together again."""
    rows = e.shape(x)[0]
    halves = [e.act(f"{name}.{part}", (rows, heads, width // 2)) for part in ("rotary", "bare")]
    e.op(f"{name}.split", "SplitVD", (x,), halves)
    turned, out = e.act(f"{name}.turned", (rows, heads, width // 2)), e.act(f"{name}.rope", (rows, heads * width))
    e.op(f"{name}.rotary", "RotaryMul", (halves[0],), (turned,))
    e.op(f"{name}.concat", "ConcatD", (turned, halves[1]), (out,))
    return out


def _hadamard(e: StepEmitter, name: str, x: int, heads: int, index: Indexer, dtype: str) -> tuple[int, int | None]:
    """Heads turned by a Hadamard matrix, so that they lose less in few bits, and quantised with a scale each."""
    rows, size = e.shape(x)[0] * heads, index.head_dim
    matrix = e.constant("hadamard", (size, size))
    out, scale = e.act(f"{name}.hadamard", (rows, size)), None
    e.op(
        f"{name}.hadamard", "MatMul", (e.view(f"{name}.heads", x, (rows, size)), matrix), (out,),
        transpose_a=False, transpose_b=True,
    )  # fmt: skip
    if dtype == "int8":
        half = e.act(f"{name}.half", (rows, size), "float16")
        e.op(f"{name}.cast", "Cast", (out,), (half,))
        out = half
    if dtype != e.dtype:
        small, scale = e.act(name, (rows, size), dtype), e.act(f"{name}.scale", (rows, 1), "float32")
        e.op(f"{name}.quant", "DynamicQuant", (out,), (small, scale))
        out = small
    return e.view(f"{name}.flat", out, e.shape(x)), scale


def split_output(e: StepEmitter, x: int, name: str, width: int) -> int:
    """The attention's output projection, over `output_parallel` ranks where attention itself is data parallel."""
    hidden, ranks = e.model.hidden_size, e.step.output_parallel
    if ranks == 1 or e.tensor > 1:
        return e.linear(x, (name,), hidden, width)
    share = -(-width // ranks)
    types = e.types(name)
    x = e.quantise(x, types.activation) if types.quantised else x
    packed = e.act("o_packed", (ranks, e.tokens, share), e.graph.dtypes[x])
    e.op("o_pack", "Transpose", (x,), (packed,))
    x = packed
    mixed = e.collective("o_all_to_all", "AlltoAll", x, (e.tokens * ranks, share), ranks, "otp")
    out = e.linear(mixed, (name,), hidden, share, rows=e.tokens * ranks, share=ranks)
    return e.collective("o_reduce_scatter", "ReduceScatter", out, (e.tokens, hidden), ranks, "otp")
