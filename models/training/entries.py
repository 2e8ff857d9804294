"""
What attention to a window beside compressed entries (DeepSeek-V4) keeps from forward to backward, per token on a rank.

As MindSpeed-LLM's `deepseek4/csa.py` has it: op by op (`eager_sparse_attn`), where every query meets all tokens and all
entries and a mask leaves those it may attend to, or by one kernel (`--use-sparse-flash-attn`). The compressor works in
float32 (`compressor.py`), and the indexer as that of other sparse attention (`dsa_indexer.py`), on entries.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.models.mixers.compressed_attention import CompressedAttention
from memplan.models.parallel import Layout
from memplan.models.training.saved_item import Saved
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4


def met_pairs(mixer: CompressedAttention, recipe: Recipe) -> float:
    """Tokens and entries that a query meets."""
    return recipe.sequence * (1 + (1 / mixer.ratio if mixer.ratio else 0))


def compressed(mixer: CompressedAttention, layout: Layout, shards: int, recipe: Recipe) -> Iterator[Saved]:
    """The tensors of one such mixer."""
    heads, dim, met = mixer.heads / layout.tensor, mixer.head_dim, met_pairs(mixer, recipe)
    yield Saved("query latent", "attention", _HALF * mixer.q_lora_rank / shards)
    yield Saved("query latent norm output", "norm", _HALF * mixer.q_lora_rank / shards, cheap=True)
    yield Saved("queries before their norm", "attention", _HALF * heads * dim)
    yield Saved("queries", "attention", _HALF * heads * dim)
    yield Saved("keys that are values, and before their norm", "attention", 2 * _HALF * dim / shards)
    if recipe.attention_in_steps:
        repeated = 2 * _HALF * heads * dim * met / recipe.sequence
        yield Saved("keys and values, repeated for each head", "attention", repeated)
        yield Saved("softmax", "attention", _HALF * heads * met, softmax=True)
    else:
        yield Saved("softmax statistics", "attention", 2 * _SINGLE * heads, softmax=True)
    yield Saved("attention output", "attention", _HALF * heads * dim, attended=True)
    yield Saved("attention output, rotated back", "attention", _HALF * heads * dim)
    yield Saved("output latents", "attention", _HALF * mixer.out_groups * mixer.out_lora_rank / layout.tensor)
    if mixer.ratio:
        yield Saved("compressor's inputs and their shares", "attention", 2 * _SINGLE * mixer.overlap * dim / shards)
    index = mixer.indexer
    if index is not None:
        yield Saved("indexer's queries", "attention", (_SINGLE + _HALF) * index.heads * index.head_dim)
        yield Saved("indexer's compressor", "attention", 2 * _SINGLE * mixer.overlap * index.head_dim / shards)
        if not recipe.fused_indexer:
            scores = _SINGLE * index.heads * recipe.sequence / mixer.ratio
            yield Saved("indexer's scores of heads", "attention", scores)
