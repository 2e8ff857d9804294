"""The ops of every kind of token mixer: one line here for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.compressed_attention import CompressedAttention, SharedCompressedAttention
from memplan.models.mixers.grouped_attention import GroupedAttention, LinearMixer
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.mixers.parallel_mixer import ParallelMixer
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet, KimiDelta, Mamba1, Mamba2, ShortConvolution
from memplan.models.steps.compressed_kernels import compressed_attention, shared_compressed_attention
from memplan.models.steps.delta_rule_training import delta_net_training
from memplan.models.steps.emit import StepEmitter
from memplan.models.steps.grouped_kernels import grouped_attention
from memplan.models.steps.latent_kernels import latent_attention
from memplan.models.steps.recurrent_kernels import delta_net, kimi_delta, mamba, selective_scan, short_convolution
from memplan.models.steps.training_attention import grouped_training, latent_training

MixerOps = Callable[[StepEmitter, Any, int, int], int]
"""Ops of a mixer of the layer of an index, from its input to what tensor-parallel ranks have yet to sum."""


def _side_by_side(e: StepEmitter, mixer: ParallelMixer, x: int, layer: int) -> int:
    """Attention and the state space of the same input, and their sum."""
    parts = (grouped_attention(e, mixer.attention, x, layer), mamba(e, mixer.state_space, x))
    out = e.act("mixed.out", e.shape(parts[0]))
    e.op("mixed", "Add", parts, (out,))
    return out


_SERVED: Mapping[type[TokenMixer], MixerOps] = MappingProxyType(
    {
        GroupedAttention: grouped_attention,
        LatentAttention: lambda e, mixer, x, _: latent_attention(e, mixer, x),
        CompressedAttention: lambda e, mixer, x, _: compressed_attention(e, mixer, x),
        SharedCompressedAttention: shared_compressed_attention,
        GatedDeltaNet: lambda e, mixer, x, _: delta_net(e, mixer, x),
        Mamba2: lambda e, mixer, x, _: mamba(e, mixer, x),
        ParallelMixer: _side_by_side,
        Mamba1: lambda e, mixer, x, _: selective_scan(e, mixer, x),
        ShortConvolution: lambda e, mixer, x, _: short_convolution(e, mixer, x),
        KimiDelta: lambda e, mixer, x, _: kimi_delta(e, mixer, x),
    }
)
_TRAINED: Mapping[type[TokenMixer], MixerOps] = MappingProxyType(
    {
        GroupedAttention: lambda e, mixer, x, _: grouped_training(e, mixer, x),
        LatentAttention: lambda e, mixer, x, _: latent_training(e, mixer, x),
        GatedDeltaNet: lambda e, mixer, x, _: delta_net_training(e, mixer, x),
    }
)


def mix_tokens(e: StepEmitter, mixer: TokenMixer, x: int, layer: int) -> int:
    """
    `x` with its tokens mixed, summed over the tensor-parallel ranks.

    Raises `InputError` naming the kind of layer whose way back is not known.
    """
    x = e.gather_tokens(x)
    if isinstance(mixer, LinearMixer):
        # Its columns are split, so that ranks hold parts of the width, not of a sum.
        hidden = e.model.hidden_size
        out = e.linear(x, ("linear_attn",), hidden // e.tensor, hidden)
        return e.collective("all_gather_out", "AllGather", out, (e.tokens, hidden), e.tensor, "tp")
    ops = (_TRAINED if e.training else _SERVED).get(type(mixer))
    if ops is None:
        what = "backward pass" if e.training else "step"
        raise InputError("the {} of {} is not modelled", Sentence(what), type(mixer).__name__)
    return e.reduce_tokens(ops(e, mixer, x, layer))
