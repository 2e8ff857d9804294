"""How much activations take while tokens pass through a model, from the shapes of its widest ops."""

from __future__ import annotations

from memplan.models.architecture import (
    CompressedAttention,
    DenseFfn,
    Ffn,
    GatedDeltaNet,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    Mamba2,
    Mixer,
    ModelConfig,
    MoeFfn,
)
from memplan.models.parallel import Layout

_BYTES = 2
"""Activations are kept in 16 bits."""


def _mixer_width(mixer: Mixer | None, hidden: int, ranks: int) -> int:
    """Elements per token alive while the widest op of a token mixer runs on one of `ranks`."""
    if isinstance(mixer, GroupedAttention):
        kv = max(1, mixer.kv_heads // ranks)
        queries = mixer.heads * mixer.head_dim // ranks
        return queries * (3 if mixer.gated else 2) + kv * (mixer.head_dim + mixer.head_dim_v)
    if isinstance(mixer, LatentAttention):
        heads = mixer.heads // ranks
        queries = heads * (mixer.nope_dim + mixer.rope_dim)
        return 2 * queries + heads * (mixer.nope_dim + mixer.v_dim) + heads * mixer.v_dim + mixer.kv_lora_rank
    if isinstance(mixer, CompressedAttention):
        return 2 * mixer.heads // ranks * mixer.head_dim + mixer.q_lora_rank + 4 * mixer.head_dim
    if isinstance(mixer, GatedDeltaNet):
        return 2 * (mixer.conv_dim + mixer.value_heads * mixer.value_dim) // ranks
    if isinstance(mixer, Mamba2):
        return 2 * (mixer.conv_dim + mixer.inner) // ranks
    if isinstance(mixer, KimiDelta):
        return 8 * mixer.width // ranks
    return hidden


def _ffn_width(ffn: Ffn | None, hidden: int, layout: Layout) -> int:
    """Elements per token alive while the widest op of a feed-forward part runs on one rank."""
    if isinstance(ffn, DenseFfn):
        return (3 if ffn.gated else 2) * ffn.intermediate // layout.tensor
    if isinstance(ffn, MoeFfn):
        working = ffn.latent or hidden
        wide = 3 if ffn.gated else 2
        if layout.expert > 1:
            # Tokens of all data-parallel ranks, dealt out evenly.
            routed = ffn.per_token * (2 * working + wide * ffn.intermediate) * layout.data // layout.expert
        else:
            routed = ffn.per_token * (2 * working + wide * ffn.intermediate // layout.tensor)
        return routed + wide * ffn.shared_intermediate // layout.tensor
    return hidden


def forward_peak_bytes(model: ModelConfig, layout: Layout, tokens: int, sequences: int) -> int:
    """
    Estimate of the most bytes activations take on one rank while `tokens` tokens are prefilled.

    The residual stream and its normalised copy stay; on top is the layer whose widest op keeps most alive, or the
    logits of `sequences` sequences in float32 and 16 bits. Kernels' own workspace is not in it.
    """
    hidden = model.hidden_size
    streams = 1 if model.hyper is None else model.hyper.streams
    residual = tokens * hidden * (streams + 1) * _BYTES
    distinct = {(layer.mixer, layer.ffn) for layer in model.layers}
    widest = max(
        max(_mixer_width(mixer, hidden, layout.tensor), _ffn_width(ffn, hidden, layout)) for mixer, ffn in distinct
    )
    logits = sequences * model.vocab_size * (4 + _BYTES)
    return residual + max(tokens * (widest + hidden) * _BYTES, logits)
