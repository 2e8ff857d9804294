"""Multi-head latent attention, and the indexer that picks the tokens it attends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.base import TokenMixer
from memplan.models.weight_shapes import Split, Weight, WeightGroup, matrix_weight, vector_weight


@dataclass(frozen=True, slots=True)
class Indexer:
    """
    Selects `topk` cached tokens per query; keeps keys of `head_dim` elements per token.

    With a `pool` one key stands for so many tokens, and a tail of the tokens whose pool is not full yet is kept of
    every sequence: `tail_width` elements of each.
    """

    heads: int
    head_dim: int
    topk: int
    pool: int = 1
    tail_width: int = 0

    def tail(self) -> tuple[CachePart, ...]:
        """The tokens whose pool is not full yet, of an indexer that pools."""
        if self.pool == 1:
            return ()
        return (CachePart("tail", CacheContent.KEY_TAIL, (self.tail_width,), ratio=self.pool),)


@dataclass(frozen=True, slots=True)
class LatentAttention(TokenMixer):
    """
    Multi-head latent attention (MLA): the cache holds `kv_lora_rank + rope_dim` elements per token for all heads.

    With an `indexer` only its choice of tokens is attended (DSA); with a `shared_indexer` the choice of that earlier
    layer's is reused, and the layer has none of its own. `gated` multiplies the output by a gate of its width.
    `expanded` keeps the keys and values of every head instead of the latent, values padded to the width of keys.
    """

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    indexer: Indexer | None = None
    shared_indexer: Indexer | None = None
    bias: bool = False
    gated: bool = False
    expanded: bool = False

    @property
    def top_k(self) -> int:
        """Tokens attended at most, 0 for all."""
        index = self.indexer or self.shared_indexer
        return 0 if index is None else index.topk

    @property
    def picks(self) -> int:
        """Tokens that an indexer picks for each to attend to, 0 without one."""
        return self.top_k

    @property
    def query_heads(self) -> int:
        """Heads of queries that attend to tokens."""
        return self.heads

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads = WeightGroup.ATTENTION, self.heads
        qk_dim = self.nope_dim + self.rope_dim
        if self.q_lora_rank is None:
            yield matrix_weight("q_proj", group, heads * qk_dim, hidden, Split.HEADS, heads)
        else:
            yield matrix_weight("q_a_proj", group, self.q_lora_rank, hidden)
            yield vector_weight("q_a_layernorm", WeightGroup.NORM, self.q_lora_rank)
            yield matrix_weight("q_b_proj", group, heads * qk_dim, self.q_lora_rank, Split.HEADS, heads)
            if self.bias:
                yield vector_weight("q_a_proj.bias", group, self.q_lora_rank)
        yield matrix_weight("kv_a_proj_with_mqa", group, self.kv_lora_rank + self.rope_dim, hidden)
        if self.bias:
            yield vector_weight("kv_a_proj_with_mqa.bias", group, self.kv_lora_rank + self.rope_dim)
        yield vector_weight("kv_a_layernorm", WeightGroup.NORM, self.kv_lora_rank)
        kv_width = heads * (self.nope_dim + self.v_dim)
        yield matrix_weight("kv_b_proj", group, kv_width, self.kv_lora_rank, Split.HEADS, heads)
        yield matrix_weight("o_proj", group, hidden, heads * self.v_dim, Split.HEADS, heads)
        if self.bias:
            yield vector_weight("o_proj.bias", group, hidden)
        if self.gated:
            yield matrix_weight("g_proj", group, heads * self.v_dim, hidden, Split.HEADS, heads)
        if self.indexer is not None and self.q_lora_rank is not None:
            index = self.indexer
            yield matrix_weight("indexer.wq_b", WeightGroup.INDEXER, index.heads * index.head_dim, self.q_lora_rank)
            yield matrix_weight("indexer.wk", WeightGroup.INDEXER, index.head_dim, hidden)
            yield vector_weight("indexer.k_norm", WeightGroup.INDEXER, index.head_dim)
            yield vector_weight("indexer.k_norm.bias", WeightGroup.INDEXER, index.head_dim)
            yield matrix_weight("indexer.weights_proj", WeightGroup.INDEXER, index.heads, hidden)
            if index.pool > 1:
                yield matrix_weight("indexer.pool_gate", WeightGroup.INDEXER, index.head_dim, hidden)
                yield Weight("indexer.pool_positions", WeightGroup.INDEXER, (index.pool, index.head_dim))

    def caches(self) -> tuple[CachePart, ...]:
        """Latent and positions of each token, and the indexer's key."""
        if self.expanded:
            width = self.nope_dim + self.rope_dim
            return (CachePart("attn", CacheContent.HEADS, (width, width), heads=self.heads),)
        kept = [CachePart("attn", CacheContent.LATENT, (self.kv_lora_rank, self.rope_dim))]
        index = self.indexer or self.shared_indexer
        if index is not None:
            reused, keys = self.indexer is None, CacheContent.INDEX_KEYS
            kept.append(CachePart("indexer", keys, (index.head_dim,), ratio=index.pool, reused=reused))
            kept += index.tail() if self.indexer is not None else ()
        return tuple(kept)
