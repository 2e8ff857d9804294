"""Attention of DeepSeek-V4 and V4.1: a sliding window beside compressed entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.latent_attention import Indexer
from memplan.models.weight_shapes import (
    Split,
    Weight,
    WeightGroup,
    matrix_weight,
    table_weight,
    vector_weight,
    wide_weight,
)


@dataclass(frozen=True, slots=True)
class WindowedLatent(TokenMixer):
    """
    What both share: queries through a low rank, a window of `window` tokens of one vector of `head_dim` elements for
    keys and values, and an output in `out_groups` groups through `out_lora_rank`. `ratio` tokens make one compressed
    entry; 0 is the window alone.
    """

    heads: int
    head_dim: int
    rope_dim: int
    q_lora_rank: int
    out_groups: int
    out_lora_rank: int
    window: int
    ratio: int

    @property
    def query_heads(self) -> int:
        """Heads of queries that attend to tokens."""
        return self.heads

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        group, heads, dim = WeightGroup.ATTENTION, self.heads, self.head_dim
        yield vector_weight("sinks", group, heads, Split.HEADS, heads)
        yield matrix_weight("q_a_proj", group, self.q_lora_rank, hidden)
        yield vector_weight("q_a_norm", WeightGroup.NORM, self.q_lora_rank)
        yield matrix_weight("q_b_proj", group, heads * dim, self.q_lora_rank, Split.HEADS, heads)
        yield matrix_weight("kv_proj", group, dim, hidden)
        yield vector_weight("kv_norm", WeightGroup.NORM, dim)
        groups, rank = self.out_groups, self.out_lora_rank
        yield matrix_weight("o_a_proj", group, groups * rank, heads * dim // groups, Split.HEADS, groups)
        yield matrix_weight("o_b_proj", group, hidden, groups * rank, Split.HEADS, groups)

    def window_part(self) -> CachePart:
        """What the window keeps."""
        return CachePart("window", CacheContent.WINDOW, (self.head_dim,), window=self.window)


@dataclass(frozen=True, slots=True)
class CompressedAttention(WindowedLatent):
    """
    DeepSeek-V4 attention: a sliding window of `window` tokens and, where `ratio` > 0, one entry per `ratio` tokens.

    `ratio` 4 is CSA (overlapping compression and an `indexer`), 128 is HCA, 0 is the window alone. Keys and values
    are one vector of `head_dim` elements. The output is projected in `out_groups` groups through `out_lora_rank`.
    """

    indexer: Indexer | None = None

    @property
    def picks(self) -> int:
        """Tokens that an indexer picks for each to attend to, 0 without one."""
        return 0 if self.indexer is None else self.indexer.topk

    @property
    def overlap(self) -> int:
        """2 where neighbouring compressed entries overlap (CSA), else 1: the factor on the compressor's widths."""
        return 2 if self.indexer is not None else 1

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        yield from WindowedLatent.weights(self, hidden)
        group, dim = WeightGroup.ATTENTION, self.head_dim
        if self.ratio:
            width = self.overlap * dim
            yield table_weight("compressor.position_bias", group, self.ratio, width)
            yield matrix_weight("compressor.kv_proj", group, width, hidden)
            yield matrix_weight("compressor.gate_proj", group, width, hidden)
            yield vector_weight("compressor.kv_norm", WeightGroup.NORM, dim)
        if self.indexer is not None:
            index = self.indexer
            width = self.overlap * index.head_dim
            yield table_weight("indexer.position_bias", WeightGroup.INDEXER, self.ratio, width)
            yield matrix_weight("indexer.kv_proj", WeightGroup.INDEXER, width, hidden)
            yield matrix_weight("indexer.gate_proj", WeightGroup.INDEXER, width, hidden)
            yield vector_weight("indexer.kv_norm", WeightGroup.INDEXER, index.head_dim)
            yield matrix_weight("indexer.q_b_proj", WeightGroup.INDEXER, index.heads * index.head_dim, self.q_lora_rank)
            yield matrix_weight("indexer.weights_proj", WeightGroup.INDEXER, index.heads, hidden)

    def caches(self) -> tuple[CachePart, ...]:
        """Entries and index keys, the window, and what is not compressed yet: keys and scores in float32."""
        if not self.ratio:
            return (self.window_part(),)
        span, scale = self.overlap * self.ratio, 2 * self.overlap
        kept = [CachePart("attn", CacheContent.ENTRIES, (self.head_dim,), ratio=self.ratio)]
        states = [CachePart("state", CacheContent.COMPRESSOR, (scale * self.head_dim,), ratio=self.ratio, window=span)]
        if self.indexer is not None:
            dim = self.indexer.head_dim
            kept.append(CachePart("indexer", CacheContent.ENTRY_KEYS, (dim,), ratio=self.ratio))
            states.append(
                CachePart("index_state", CacheContent.COMPRESSOR, (scale * dim,), ratio=self.ratio, window=span)
            )
        return (*kept, self.window_part(), *states)


@dataclass(frozen=True, slots=True)
class SharedCompressedAttention(WindowedLatent):
    """
    DeepSeek-V4.1 attention: a sliding window of each layer's own, and compressed entries that few layers keep.

    `source` is the layer whose entries are read, one for `ratio` tokens; the layer itself where `owns_entries`.
    `None` is the window alone. `top_k` entries are attended, chosen by the layer's `indexer` or, without one, by that
    of an earlier layer; the keys to choose by are made from the entries and stand beside them. Queries, keys, values
    and the output are as in `CompressedAttention`.
    """

    source: int | None = None
    owns_entries: bool = False
    top_k: int = 0
    index_dim: int = 0
    indexer: Indexer | None = None

    @property
    def picks(self) -> int:
        """Tokens that an indexer picks for each to attend to, 0 without one."""
        return self.top_k

    @property
    def reads(self) -> int | None:
        """The layer that keeps the entries, where it is another one."""
        return None if self.owns_entries else self.source

    @property
    def alike(self) -> TokenMixer:
        """The layer without the number of the one it reads."""
        return self if self.source is None else replace(self, source=0)

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""
        yield from WindowedLatent.weights(self, hidden)
        dim = self.head_dim
        # What makes entries and index keys is stored in 16 bits beside quantised projections.
        if self.owns_entries:
            for name in ("kv_proj", "gate_proj") if self.ratio > 1 else ("kv_proj",):
                yield wide_weight(f"compressor.{name}", WeightGroup.ATTENTION, dim, hidden)
            yield vector_weight("compressor.kv_norm", WeightGroup.NORM, dim)
            yield wide_weight("indexer.wk", WeightGroup.INDEXER, self.index_dim, dim)
            yield vector_weight("indexer.k_norm", WeightGroup.INDEXER, self.index_dim)
        if self.indexer is not None:
            index = self.indexer
            yield matrix_weight("indexer.q_b_proj", WeightGroup.INDEXER, index.heads * index.head_dim, self.q_lora_rank)
            yield wide_weight("indexer.weights_proj", WeightGroup.INDEXER, index.heads, hidden)

    def caches(self) -> tuple[CachePart, ...]:
        """The window, and in layers that keep entries those, the keys to choose them by, and what is not pooled yet."""
        if not self.owns_entries:
            return (self.window_part(),)
        states = []
        if self.ratio > 1:
            width = 2 * self.head_dim
            states.append(CachePart("state", CacheContent.COMPRESSOR, (width,), ratio=self.ratio, window=self.ratio))
        return (
            CachePart("attn", CacheContent.ENTRIES, (self.head_dim,), ratio=self.ratio),
            CachePart("indexer", CacheContent.ENTRY_KEYS, (self.index_dim,), ratio=self.ratio),
            self.window_part(),
            *states,
        )
