"""DeepSeek-V4: window and compressed attention, and the hyper-connections around every part of a layer."""

from __future__ import annotations

from memplan.models.architecture import LookupTable
from memplan.models.mixers.compressed_attention import CompressedAttention, SharedCompressedAttention, WindowedLatent
from memplan.models.mixers.latent_attention import Indexer
from memplan.models.steps.emit import SIDE, StepEmitter
from memplan.models.steps.grouped_kernels import merge_contexts
from memplan.models.steps.latent_kernels import index_format, indexer

_FLOAT32 = 4


def compressed_attention(e: StepEmitter, mixer: CompressedAttention, x: int) -> int:
    """Attention of `x` over the window and, where `ratio` > 0, the compressed entries (those an indexer picks)."""
    dim, row = mixer.head_dim, mixer.head_dim * e.kv_bytes
    turned, low, window = _window(e, mixer, x)
    cache, touched = window, e.graph.nbytes[window]
    entries = -(-e.step.context // mixer.ratio) if mixer.ratio else 0
    picked = mixer.indexer.topk if mixer.indexer is not None else 0
    if mixer.ratio:
        cache = _compress(e, mixer, x, "compressor", dim, (e.kv_dtype, row))
        if mixer.indexer is not None:
            keys = _compress(e, mixer, x, "indexer", mixer.indexer.head_dim, index_format(e, mixer.indexer))
            indexer(e, mixer.indexer, x, low, ("indexer.q_b_proj", None), ratio=mixer.ratio, cache=keys)
        seen = min(entries, picked * e.queries) if picked else entries
        touched += e.sequences * seen * row
    return _attend(e, mixer, turned, cache, touched, picked)


def shared_compressed_attention(e: StepEmitter, mixer: SharedCompressedAttention, x: int, layer: int) -> int:
    """Attention of `x` over the window and the `top_k` chosen entries of the layer that keeps them."""
    turned, low, window = _window(e, mixer, x)
    cache, touched = window, e.graph.nbytes[window]
    if mixer.source is not None:
        if mixer.owns_entries:
            e.kept[layer] = _entries(e, mixer, x)
        cache, keys = e.kept[mixer.source]
        if mixer.indexer is not None:
            indexer(e, mixer.indexer, x, low, ("indexer.q_b_proj", None), ratio=mixer.ratio, cache=keys)
        seen = min(-(-e.step.context // mixer.ratio), mixer.top_k * e.queries)
        touched += e.sequences * seen * mixer.head_dim * e.kv_bytes
    return _attend(e, mixer, turned, cache, touched, mixer.top_k)


def _entries(e: StepEmitter, mixer: SharedCompressedAttention, x: int) -> tuple[int, int]:
    """Entries of the step's tokens, pooled by a gate where `ratio` > 1, and the index keys made of them."""
    dim, ratio, stream = mixer.head_dim, mixer.ratio, e.stream
    e.stream = SIDE
    row, count = dim * e.kv_bytes, -(-e.tokens // ratio)
    cache = e.cache("entries", max(e.sequences * (e.step.context // ratio) * row, 1), e.kv_dtype)
    fresh = e.act("compressor.entries", (count, dim))
    names = ("compressor.kv_proj", "compressor.gate_proj") if ratio > 1 else ("compressor.kv_proj",)
    both = e.linear(x, names, len(names) * dim, e.model.hidden_size)
    written = e.part("entries.written", cache, count * row)
    small = e.spend("compressor.kv_norm")
    held = []
    if ratio > 1:
        state = e.cache("compressor.state", e.sequences * ratio * 2 * dim * _FLOAT32, "float32")
        held = [e.part("compressor.state.used", state, e.tokens * 2 * dim * _FLOAT32)]
    e.op("compressor.update", "CompressorUpdate", (both, *held, *small), (*held, fresh, written), fused=True)
    index = Indexer(1, mixer.index_dim, mixer.top_k) if mixer.indexer is None else mixer.indexer
    dtype, key_row = index_format(e, index)
    keys = e.cache("index_keys", max(e.sequences * (e.step.context // ratio) * key_row, 1), dtype)
    made = e.linear(fresh, ("indexer.wk",), mixer.index_dim, dim)
    key_part = e.part("index_keys.written", keys, count * key_row)
    e.op("indexer.keys", "KvRmsNormRopeCache", (made, *e.spend("indexer.k_norm")), (key_part,), fused=True)
    e.stream = stream
    return cache, keys


def _window(e: StepEmitter, mixer: WindowedLatent, x: int) -> tuple[int, int, int]:
    """Rotated queries, the low rank they come from, and the cache of the window with the step's tokens in it."""
    hidden, tokens = e.model.hidden_size, e.tokens
    heads, dim, rank = e.own(mixer.heads, "heads"), mixer.head_dim, mixer.q_lora_rank
    down = e.linear(x, ("q_a_proj", "kv_proj"), rank + dim, hidden)
    low = e.norm("q_a_norm", e.view("q_low", down, (tokens, rank), tokens * rank * 2), "q_a_norm", fused=True)
    query = e.linear(low, ("q_b_proj",), heads * dim, rank)
    turned = e.act("q_rot", (tokens, heads * dim))
    e.op("q_norm_rope", "QkvRmsNormRopeCache", (query,), (turned,))
    kept = min(e.step.context, mixer.window)
    row = dim * e.kv_bytes
    window = e.cache("window_cache", e.sequences * kept * row, e.kv_dtype)
    source = e.view("kv", down, (tokens, dim), tokens * dim * 2)
    e.op(
        "kv_norm_rope",
        "KvRmsNormRopeCache",
        (source, *e.spend("kv_norm")),
        (e.part("written", window, tokens * row),),
        fused=True,
    )
    return turned, low, window


def _attend(
    e: StepEmitter,
    mixer: WindowedLatent,
    turned: int,
    cache: int,
    touched: int,
    picked: int,
) -> int:
    """The attention kernel over window and entries, and the way out."""
    tokens, heads, dim = e.tokens, e.own(mixer.heads, "heads"), mixer.head_dim
    e.spend("sinks")
    out = e.attention(
        "attention",
        "SparseFlashAttention",
        turned,
        cache,
        (tokens, heads * dim),
        touched,
        batch=e.sequences,
        heads=heads,
        kv_heads=1,
        q_len=e.queries,
        kv_len=max(e.key_length(), e.queries),
        d_qk=dim,
        d_v=dim,
        window=mixer.window,
        ratio=max(mixer.ratio, 1),
        top_k=picked,
        shared_kv=True,
        page=128,
        picked=e.picked_last() if picked else (),
    )
    out = merge_contexts(e, out)
    back = e.act("unrotated", (tokens, heads * dim))
    e.op("inverse_rotary", "RotaryMul", (out,), (back,))
    return _output(e, mixer, back, heads)


def _output(e: StepEmitter, mixer: WindowedLatent, x: int, heads: int) -> int:
    """The output in groups of heads through a low rank, and from there to the model's width."""
    tokens, hidden = e.tokens, e.model.hidden_size
    groups = e.own(mixer.out_groups, "output groups")
    per_group = heads * mixer.head_dim // groups
    ranks = e.step.output_parallel if e.tensor == 1 else 1
    share = max(1, groups // ranks)
    ranks = groups // share
    types = e.types("o_a_proj")
    if types.quantised:
        x = e.quantise(x, types.activation)
    if ranks > 1:
        x = e.collective("o_all_to_all", "AlltoAll", x, (tokens * ranks, share * per_group), ranks, "otp")
    rows = tokens * ranks
    grouped = e.view("groups", x, (share, rows, per_group))
    weight = e.weight(("o_a_proj",), (share, mixer.out_lora_rank, per_group), share=ranks)
    low = e.act("o_low", (share, rows, mixer.out_lora_rank))
    e.op("o_a_proj", "BatchMatMul", (grouped, weight), (low,), transpose_a=False, transpose_b=True)
    flat = e.view("o_low.flat", low, (rows, share * mixer.out_lora_rank))
    out = e.linear(flat, ("o_b_proj",), hidden, share * mixer.out_lora_rank, rows=rows, share=ranks)
    return e.collective("o_reduce_scatter", "ReduceScatter", out, (tokens, hidden), ranks, "otp")


def _compress(e: StepEmitter, mixer: CompressedAttention, x: int, part: str, dim: int, form: tuple[str, int]) -> int:
    """
    Scores and values of the tokens that are not compressed yet go into a float32 state; full groups become entries.

    `form` is the type of an entry and its bytes. It runs beside the main chain, which joins it before attention.
    """
    dtype, row = form
    stream, e.stream = e.stream, SIDE
    width = mixer.overlap * dim
    both = e.linear(x, (f"{part}.kv_proj", f"{part}.gate_proj"), 2 * width, e.model.hidden_size)
    rows = mixer.overlap * mixer.ratio
    state = e.cache(f"{part}.state", e.sequences * rows * 2 * width * _FLOAT32, "float32")
    entries = e.step.context // mixer.ratio
    cache = e.cache(f"{part}.cache", max(e.sequences * entries * row, 1), dtype)
    fresh = e.part(f"{part}.entries", cache, -(-e.tokens // mixer.ratio) * row)
    held = e.part(f"{part}.state.used", state, e.tokens * 2 * width * _FLOAT32)
    small = e.spend(f"{part}.position_bias", f"{part}.kv_norm")
    e.op(f"{part}.update", "CompressorUpdate", (both, held, *small), (held, fresh), fused=True)
    e.stream = stream
    return cache


def look_up(e: StepEmitter, table: LookupTable, streams: int) -> int:
    """
    The residual streams with what the layer's table knows of each token's n-grams added, weighed by gates.

    The table stands in the host's memory (vllm 0.33.0 `--engram-config`, `cpu_offload` by default): a step finds the
    rows it reads already fetched.
    """
    count, hidden = e.model.hyper.streams if e.model.hyper else 1, e.model.hidden_size
    tokens, width = e.residual_tokens, table.heads * table.width
    held = e.types("lookup.table")
    e.pass_over("lookup.table")
    rows = e.act("lookup.rows", (tokens, width), held.weight)
    e.op("lookup.fetch", "Embedding", (), (rows,))
    found = e.act("lookup.found", (tokens, width))
    e.op("lookup.cast", "Cast", (rows,), (found,))
    both = e.linear(found, ("lookup.kv_proj",), (count + 1) * hidden // e.tensor, width, rows=tokens)
    both = e.collective("lookup.all_gather", "AllGather", both, (tokens, (count + 1) * hidden), e.tensor, "tp")
    out = e.act("lookup.streams", e.shape(streams))
    gates = e.spend("lookup.q_weight", "lookup.k_weight")
    e.op("lookup.gate", "SigmoidMul", (streams, both, *gates), (out,))
    if not table.conv_kernel:
        return out
    mixed = e.act("lookup.mixed", e.shape(streams))
    kept = (table.conv_kernel - 1) * table.dilation
    state = e.cache("lookup.state", e.sequences * kept * count * hidden * e.element_bytes(e.dtype), e.dtype)
    used = e.spend("lookup.conv_weight", "lookup.conv1d")
    e.op("lookup.conv1d", "CausalConv1d", (out, state, *used), (mixed, state))
    return mixed


def read_streams(e: StepEmitter, name: str, streams: int) -> int:
    """What a part of the layer works on: the residual streams mixed into one, and the coefficients to write back."""
    count, hidden, tokens = e.model.hyper.streams if e.model.hyper else 1, e.model.hidden_size, e.residual_tokens
    wide = e.view(f"{name}.in", streams, (tokens, count * hidden))
    rank = e.model.hyper.low_rank if e.model.hyper else None
    if rank is not None:
        return read_low_rank(e, name, wide, rank)
    coefficients = e.linear(wide, (f"{name}.fn",), count * (2 + count), count * hidden, rows=tokens, within="HcPre")
    mixed = e.act(f"{name}.mixed", (tokens, hidden))
    small = e.spend(f"{name}.base", f"{name}.scale")
    e.op(f"{name}.pre", "HcPre", (streams, coefficients, *small), (mixed,))
    return mixed


def read_low_rank(e: StepEmitter, name: str, wide: int, rank: int) -> int:
    """The streams, normalised and read through a low rank, mixed into one; their weights to add to where asked for."""
    (rows, width), count = e.shape(wide), e.model.hyper.streams if e.model.hyper else 1
    normed = e.norm(f"{name}.norm", wide, f"{name}.norm")
    low = e.linear(normed, (f"{name}.down",), rank, width, rows=rows)
    high = e.linear(low, (f"{name}.up",), width, rank, rows=rows)
    shares = () if name == "hc_head" else (e.linear(normed, (f"{name}.inject",), count, width, rows=rows),)
    out = e.act(f"{name}.mixed", (rows, width // count))
    e.op(f"{name}.pre", "HcPre", (wide, high, *shares), (out,))
    return out


def write_streams(e: StepEmitter, name: str, streams: int, x: int) -> int:
    """The residual streams mixed among themselves, with `x` added to each by its coefficient."""
    out = e.act(f"{name}.streams", e.shape(streams))
    e.op(f"{name}.post", "HcPost", (streams, x), (out,))
    return out
