"""
Latent attention to the tokens that an indexer picks (DSA), as it is trained once the indexer has been warmed up.

The order of kernels, and what is kept for the way back, are those of MindSpeed-LLM with `--use-sparse-flash-attn`,
`--use-fused-lightning-indexer` and `--use-fused-lightning-indexer-loss` (`multi_latent_attention.py`,
`dsa_indexer.py`): queries are lifted into the latents, which all heads share as keys and values. The indexer reads what
it gets without giving a gradient back (DeepSeek-V3.2 report, section 2.1.1) and learns from a divergence of its own;
one kernel makes that and its gradients on the way forward (aclnnSparseLightningIndexerGradKLLoss), which are kept.
Layers without an indexer attend to what the last one before them picked, and teach it nothing (Megatron-LM's IndexShare
and slime's plugin for GLM-5.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.errors import InputError
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.latent_attention import Indexer, LatentAttention
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.latent_kernels import lifting_weights
from memplan.models.steps.rotary_training import rotate

SPARSE_ATTENTION = "SparseFlashAttention"
INDEXER_LOSS = "SparseLightningIndexerGradKLLoss"
INDEXER_GRADIENTS = (4, 5, 6)
"""Inputs of the loss whose gradients are its first outputs: the indexer's queries, keys and weights of heads."""
_INDEX_PRODUCTS = 3
"""The indexer's scores, made again, and the gradients of its queries and keys: a product each."""


def sparse_training(e: StepEmitter, mixer: LatentAttention, x: int) -> int:
    """
    Attention of `x`, before its output projection, to what an indexer picks: the layer's own, or the last before it.

    Raises `InputError` for layers and layouts whose kernels no public code shows.
    """
    index = mixer.indexer or mixer.shared_indexer
    if index is None or index.pool > 1 or mixer.q_lora_rank is None:
        raise InputError("the backward pass of an indexer that pools keys is not modelled")
    if e.layout.context > 1:
        raise InputError("the backward pass of an indexer over ranks of context parallelism is not modelled")
    tokens, hidden = e.tokens, e.model.hidden_size
    heads, latent = e.own(mixer.heads, "heads"), mixer.kv_lora_rank
    low = e.norm("q_norm", e.linear(x, ("q_a_proj",), mixer.q_lora_rank, hidden), "q_a_layernorm")
    query = e.linear(low, ("q_b_proj",), heads * (mixer.nope_dim + mixer.rope_dim), mixer.q_lora_rank)
    bare, turning = e.act("q_nope", (tokens, heads * mixer.nope_dim)), e.act("q_pe", (tokens, heads * mixer.rope_dim))
    e.op("split_q", "SplitVD", (query,), (bare, turning))
    to_keys, to_values = lifting_weights(e, mixer, heads)
    lifted = e.act("q_latent", (heads, tokens, latent))
    by_head = e.view("q_nope.heads", bare, (heads, tokens, mixer.nope_dim))
    e.op("q_absorb", "BatchMatMul", (by_head, to_keys), (lifted,), transpose_a=False, transpose_b=True)
    source = e.linear(x, ("kv_a_proj_with_mqa",), latent + mixer.rope_dim, hidden)
    compressed, position = e.act("kv_latent", (tokens, latent)), e.act("k_pe", (tokens, mixer.rope_dim))
    e.op("split", "SplitVD", (source,), (compressed, position))
    keys = e.norm("kv_norm", compressed, "kv_a_layernorm")
    q_rope, k_rope = rotate(e, "q", turning, mixer.rope_dim), rotate(e, "k", position, mixer.rope_dim)
    layer, picking = e.layer_number, None
    if mixer.indexer is None:
        chosen = _picked_before(e, layer)
    else:
        picking = _index_operands(e, index, x, low)
        chosen = e.picked[e.micro_batch, layer] = _picked(e, index, picking)
    out = e.act("attention.out", (heads, tokens, latent))
    rows = (e.sequences, 1, e.queries, heads)
    statistics = e.act("softmax.max", rows, "float32"), e.act("softmax.sum", rows, "float32")
    seen = {
        "batch": e.sequences, "kv_heads": 1, "q_len": e.queries, "kv_len": e.key_length(),
        "d_qk": latent + mixer.rope_dim, "top_k": index.topk if index.topk < e.key_length() else 0, "shared_kv": True,
    }  # fmt: skip
    attended = (lifted, q_rope, keys, k_rope)
    e.op("attention", SPARSE_ATTENTION, (*attended, chosen), (out, *statistics), heads=heads, d_v=latent, **seen)
    if picking is not None:
        _learn(e, mixer, index, attended, picking, (chosen, *statistics), seen)
    values = e.act("values", (heads, tokens, mixer.v_dim))
    e.op("v_up", "BatchMatMul", (out, to_values), (values,), transpose_a=False, transpose_b=True)
    return e.view("heads", values, (tokens, heads * mixer.v_dim))


def _index_operands(e: StepEmitter, index: Indexer, x: int, low: int) -> tuple[int, int, int]:
    """The indexer's queries, keys and weights of heads; no rank of tensor parallelism has a part of them alone."""
    tokens, hidden, width = e.tokens, e.model.hidden_size, index.heads * index.head_dim
    query = e.linear(low, ("indexer.wq_b",), width, e.shape(low)[-1], detached=True)
    key = e.linear(x, ("indexer.wk",), index.head_dim, hidden, detached=True)
    key = e.norm("indexer.k_norm", key, "indexer.k_norm")
    weights = e.linear(x, ("indexer.weights_proj",), index.heads, hidden, detached=True)
    matrix = e.constant("hadamard", (index.head_dim, index.head_dim))
    turned = []
    for name, part, heads in (("index_q", query, index.heads), ("index_k", key, 1)):
        rotated = rotate(e, name, part, index.head_dim)
        out = e.act(f"{name}.hadamard", (tokens * heads, index.head_dim))
        rows = e.view(f"{name}.heads", rotated, (tokens * heads, index.head_dim))
        e.op(f"{name}.hadamard", "MatMul", (rows, matrix), (out,), transpose_a=False, transpose_b=True)
        turned.append(out)
    return turned[0], turned[1], weights


def _picked(e: StepEmitter, index: Indexer, picking: tuple[int, int, int]) -> int:
    """The tokens that each attends to."""
    chosen = e.act("index", (e.tokens, min(index.topk, e.key_length())), "int32")
    e.op(
        "indexer.scores", "LightningIndexer", picking, (chosen,),
        batch=e.sequences, heads=index.heads, kv_heads=1, q_len=e.queries, kv_len=e.key_length(), d_qk=index.head_dim,
        d_v=0, top_k=0, indexer=True, keep=index.topk,
    )  # fmt: skip
    return chosen


def _picked_before(e: StepEmitter, layer: int) -> int:
    """What the last layer before `layer` that has an indexer picked for the micro-batch."""
    source = max(item.index for item in e.model.layers if item.index < layer and _picks_itself(item.mixer))
    if (e.micro_batch, source) not in e.picked:
        raise InputError(
            "layer {} attends to what layer {} of another pipeline stage picks; how that gets there is not modelled",
            layer,
            source,
            remedy="begin stages with layers that have an indexer (--stage-layers)",
        )
    return e.picked[e.micro_batch, source]


def _picks_itself(mixer: TokenMixer | None) -> bool:
    return isinstance(mixer, LatentAttention) and mixer.indexer is not None


def _learn(
    e: StepEmitter,
    mixer: LatentAttention,
    index: Indexer,
    attended: tuple[int, int, int, int],
    picking: tuple[int, int, int],
    found: tuple[int, int, int],
    seen: Mapping[str, object],
) -> None:
    """
    The indexer's loss and gradients, from the scores of all heads: those of other ranks are gathered before.

    `found` are the picked tokens, and the softmax's maxima and sums.
    """
    lifted, q_rope, keys, k_rope = attended
    chosen, most, total = found
    ranks = e.tensor

    def whole(name: str, x: int, axis: int) -> int:
        shape = tuple(size * ranks if place == axis else size for place, size in enumerate(e.shape(x)))
        return e.collective(f"indexer.gather_{name}", "AllGather", x, shape, ranks, "tp")

    operands = (whole("q", lifted, 0), whole("q_rope", q_rope, 1), keys, k_rope, *picking, chosen,
                whole("max", most, 3), whole("sum", total, 3))  # fmt: skip
    gradients = [e.act(f"indexer.loss.{part}", e.shape(x)) for part, x in zip(("dq", "dk", "dw"), picking, strict=True)]
    # Beside the scores of attention the products of the indexer, as if its heads were a part of attention's.
    width = -(-_INDEX_PRODUCTS * index.heads * index.head_dim // mixer.heads)
    loss = e.act("indexer.loss", (1,), "float32")
    e.op("indexer.loss", INDEXER_LOSS, operands, (*gradients, loss), heads=mixer.heads, d_v=width, **seen)
