"""Softmax attention with grouped key/value heads, and the linear layer that stands in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.latent_attention import Indexer
from memplan.models.weight_shapes import Split, Weight, WeightGroup, matrix_weight, vector_weight


class QkNorm(str, Enum):
    """Where queries and keys are normalised: nowhere, per head with a shared weight, or over all heads at once."""

    NONE = "none"
    PER_HEAD = "per_head"
    ALL_HEADS = "all_heads"


@dataclass(frozen=True, slots=True)
class GroupedAttention(TokenMixer):
    """
    Softmax attention with `kv_heads` <= `heads` key/value heads (MHA, GQA, MQA).

    `window` is the sliding window and `chunk` the local chunk, in tokens; `None` is full attention. `gated` doubles
    the query projection by an output gate. `keys_are_values` stores one vector for both. `shares_kv_of` names the
    layer whose cache a KV-sharing layer reads instead of its own. With a `q_rank` the queries are projected down to so
    many elements, normalised and projected up again (multi-matrix factorisation attention, Step-3). With an `indexer`
    only the blocks of tokens that it picks are attended; it keeps a key of its own for each token (MiniMax-M3), or one
    for a pool of them. With `head_gates` a number for each head weighs its output (Step-3.5, Laguna).
    """

    heads: int
    kv_heads: int
    head_dim: int
    head_dim_v: int
    window: int | None = None
    chunk: int | None = None
    qk_norm: QkNorm = QkNorm.NONE
    qkv_bias: bool = False
    out_bias: bool = False
    gated: bool = False
    sinks: bool = False
    keys_are_values: bool = False
    shares_kv_of: int | None = None
    q_rank: int | None = None
    indexer: Indexer | None = None
    head_gates: bool = False

    @property
    def reads(self) -> int | None:
        """The layer whose cache this one shares."""
        return self.shares_kv_of

    @property
    def alike(self) -> TokenMixer:
        """The layer as if it read a cache of its own."""
        return replace(self, shares_kv_of=None)

    @property
    def query_heads(self) -> int:
        """Heads of queries that attend to tokens."""
        return self.heads

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads, kv = WeightGroup.ATTENTION, self.heads, self.kv_heads
        q_width = heads * self.head_dim * (2 if self.gated else 1)
        k_width, v_width = kv * self.head_dim, kv * self.head_dim_v
        if self.q_rank is not None:
            yield matrix_weight("q_a_proj", group, self.q_rank, hidden)
            yield vector_weight("q_a_norm", WeightGroup.NORM, self.q_rank)
        yield matrix_weight("q_proj", group, q_width, self.q_rank or hidden, Split.HEADS, heads)
        if self.shares_kv_of is None:
            yield matrix_weight("k_proj", group, k_width, hidden, Split.KV, kv)
            if not self.keys_are_values:
                yield matrix_weight("v_proj", group, v_width, hidden, Split.KV, kv)
        yield matrix_weight("o_proj", group, hidden, heads * self.head_dim_v, Split.HEADS, heads)
        if self.head_gates:
            yield matrix_weight("g_proj", group, heads, hidden, Split.HEADS, heads)
        if self.qkv_bias:
            yield vector_weight("q_proj.bias", group, q_width, Split.HEADS, heads)
            yield vector_weight("k_proj.bias", group, k_width, Split.KV, kv)
            yield vector_weight("v_proj.bias", group, v_width, Split.KV, kv)
        if self.out_bias:
            yield vector_weight("o_proj.bias", group, hidden)
        if self.qk_norm is QkNorm.PER_HEAD:
            yield vector_weight("q_norm", WeightGroup.NORM, self.head_dim)
            if self.shares_kv_of is None:
                yield vector_weight("k_norm", WeightGroup.NORM, self.head_dim)
        elif self.qk_norm is QkNorm.ALL_HEADS:
            yield vector_weight("q_norm", WeightGroup.NORM, heads * self.head_dim, Split.HEADS, heads)
            yield vector_weight("k_norm", WeightGroup.NORM, k_width, Split.KV, kv)
        if self.indexer is not None:
            index, width = WeightGroup.INDEXER, self.indexer.head_dim
            # Pooled keys are scored by every rank alike (vllm 0.33.0 models/qwen4_exp/nvidia/indexer_qsa.py).
            if self.indexer.pool > 1:
                yield matrix_weight("index_q_proj", index, self.indexer.heads * width, hidden)
            else:
                yield matrix_weight(
                    "index_q_proj", index, self.indexer.heads * width, hidden, Split.KV, self.indexer.heads
                )
            yield matrix_weight("index_k_proj", index, width, hidden)
            yield vector_weight("index_q_norm", index, width)
            yield vector_weight("index_k_norm", index, width)
        if self.sinks:
            yield vector_weight("sinks", group, heads, Split.HEADS, heads)

    def caches(self) -> tuple[CachePart, ...]:
        """Keys and values of each token, unless another layer's are read."""
        if self.shares_kv_of is not None:
            return ()
        widths = (self.head_dim, self.head_dim_v)
        kept = CachePart("attn", CacheContent.HEADS, widths, heads=self.kv_heads, window=self.window, chunk=self.chunk)
        if self.indexer is None:
            return (kept,)
        keys = CachePart("indexer", CacheContent.BLOCK_KEYS, (self.indexer.head_dim,), ratio=self.indexer.pool)
        return kept, keys, *self.indexer.tail()


@dataclass(frozen=True, slots=True)
class LinearMixer(TokenMixer):
    """A plain linear layer in the place of attention (NAS-pruned models)."""

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the one matrix."""
        yield matrix_weight("linear_attn", WeightGroup.ATTENTION, hidden, hidden, Split.WIDTH, hidden)
