"""What an attention kernel computes: which query-key pairs meet, and how queries share what is read of their keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from memplan.cost.attention.key_walks import BLOCK_ROWS, Walk

_AT_ONCE = 1 << 20
_FOLDED = 16
"""Queries of a sequence up to which the heads of latent and of picked keys are folded into rows: one fractal."""
_HALVES = 2
"""Vector cores that share the rows of a block that several queries of grouped heads are folded into."""


@lru_cache(maxsize=4096)
def _visible(q_len: int, kv_len: int, causal: bool, window: int, chunk: int, ratio: int, top_k: int) -> int:
    """Pairs that the pattern lets meet, summed query by query in bounded memory."""
    total = 0
    for start in range(kv_len - q_len, kv_len, _AT_ONCE):
        position = np.arange(start, min(start + _AT_ONCE, kv_len), dtype=np.int64)
        seen = np.maximum(position + 1, 0) if causal else np.full(len(position), kv_len, dtype=np.int64)
        near = np.zeros_like(seen)
        if chunk:
            seen = np.minimum(seen, position % chunk + 1) if causal else np.minimum(seen, chunk)
        if window and (ratio > 1 or top_k):
            near = np.minimum(seen, window)
        elif window:
            seen = np.minimum(seen, window)
        far = seen // ratio
        if top_k:
            far = np.minimum(far, top_k)
        total += int((far + near).sum())
    return total


@dataclass(frozen=True, slots=True)
class AttentionProblem:
    """
    `heads` query heads of `d_qk`, `kv_heads` key heads, values of `d_v`; lengths are tokens of one sequence.

    `shared_kv`: values are a part of the keys as stored (MLA). `window`: a query sees the last so many keys; `chunk`:
    only keys of its own chunk; `ratio`: so many tokens are one compressed key, beside the window; `top_k`: of what is
    left an indexer keeps so many. `page`: tokens of a KV page, 0 for contiguous KV. `gradient`: the backward kernel.
    `indexer`: scores alone, reduced over heads and top-k selected. `mask_bytes`: of a mask that is added to the scores,
    for each pair of a head; `dropout`: probabilities are dropped by a mask of one bit a pair. `in_turn`: the kernel of
    the first library that had one, whose cube and vector cores wait for each other. `paged_by`: the operator that reads
    keys in pages.
    """

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    d_qk: int = 128
    d_v: int = 128
    causal: bool = True
    q_bytes: float = 2.0
    kv_bytes: float = 2.0
    shared_kv: bool = False
    window: int = 0
    chunk: int = 0
    ratio: int = 1
    top_k: int = 0
    page: int = 0
    gradient: bool = False
    indexer: bool = False
    mask_bytes: float = 0.0
    dropout: bool = False
    in_turn: bool = False
    paged_by: Walk = Walk.FUSED

    @property
    def walk(self) -> Walk | None:
        """By whose rule cores walk over keys, `None` where they choose the best blocks."""
        if self.indexer or self.gradient or self.in_turn:
            return None
        if self.top_k:
            return Walk.PICKED if self.gathers else None
        if not self.page:
            # Latent keys that prompts read one behind the other go through the same kernel.
            few = self.q_len <= _FOLDED or self.shared_kv
            return Walk.INCREMENTAL if few and not self.window and not self.chunk else None
        if self.shared_kv:
            return Walk.LATENT if self.q_len <= _FOLDED else None
        # How PagedAttention's library deals out prompts was not measured.
        return None if self.paged_by is Walk.PAGED and self.q_len > 1 else self.paged_by

    @property
    def is_prompt(self) -> bool:
        """
        Whether a sequence has so many queries that its keys are never shared among cores.

        Kernels of prompts and of training leave cores idle rather (hicann/ops-transformer at c29bc10:
        `g_flashDecode` of prompt_flash_attention_tiling.cpp stays 0, and flash_attention_score_tiling_general.cpp has
        no such case); gradients add their sums in GM, from whichever cores.
        """
        return self.q_len > _FOLDED and not self.gradient and not self.indexer

    @property
    def gathers(self) -> bool:
        """
        Whether vector cores put the keys that a query picks together for it, so that a block has one query.

        The kernels of training do so however long the sequence is, forward and back. Prompts of a service of
        DeepSeek-V3.2, whose keys lie in pages, are read faster than that.
        """
        return self.top_k > 0 and not self.indexer and (self.q_len <= _FOLDED or not self.page)

    @property
    def keys_per_query(self) -> float:
        """Mean number of keys a query meets."""
        return self.pairs / max(self.batch * self.heads * self.q_len, 1)

    @property
    def pairs(self) -> int:
        """Query-key pairs of all heads."""
        return self.batch * self.heads * self.visible

    @property
    def visible(self) -> int:
        """Query-key pairs of one head of one sequence."""
        return _visible(self.q_len, self.kv_len, self.causal, self.window, self.chunk, self.ratio, self.top_k)

    @property
    def flops(self) -> int:
        """Multiplies and adds of the products: two forward, five backward, one for an indexer."""
        if self.indexer:
            return 2 * self.pairs * self.d_qk
        return 2 * self.pairs * (3 * self.d_qk + 2 * self.d_v if self.gradient else self.d_qk + self.d_v)

    @property
    def kv_row(self) -> float:
        """Bytes of one token's keys and values of one KV head."""
        return (self.d_qk + (0 if self.shared_kv or self.indexer else self.d_v)) * self.kv_bytes

    @property
    def walked_row(self) -> float:
        """Bytes of a token's keys and values that a core reads: of latent keys outside of pages values again."""
        again = self.shared_kv and self.walk is Walk.INCREMENTAL
        return self.kv_row + (self.d_v * self.kv_bytes if again else 0.0)

    @property
    def compulsory_bytes(self) -> float:
        """Queries, touched keys and values, and the result, each once."""
        queries = self.batch * self.heads * self.q_len * self.q_bytes
        touched = self.batch * self.kv_heads * self._touched * self.kv_row
        result = queries * self.d_v if not self.indexer else self.batch * self.q_len * max(self.top_k, 1) * 4
        once = queries * self.d_qk + touched + result
        return 2 * once + result if self.gradient else once

    @property
    def _touched(self) -> int:
        """Stored keys of a sequence that some query meets."""
        span = self.kv_len if not self.window or self.ratio > 1 or self.top_k else self.window + self.q_len
        far = min(self.kv_len, span) // self.ratio
        if self.top_k:
            far = min(far, self.top_k * self.q_len)
        return far + (min(self.window, self.kv_len) if self.ratio > 1 or self.top_k else 0)

    @property
    def rows(self) -> int:
        """Rows of queries of a sequence that share what is read of its keys."""
        return self.folded * (1 if self.gathers else self.q_len)

    @property
    def folded(self) -> int:
        """
        Query heads that are rows of one block and so share what is read of their keys.

        One query of a sequence folds all heads of a KV head. Several, as where drafts are verified, fold as many as
        keep a block within its rows, an even number so that both vector cores get half: of queries packed token by
        token with a paged cache FusedInferAttentionScore so tiles (`GetQNBlockTile`, hicann/ops-transformer
        attention/fused_infer_attention_score/op_host/flash_attention_infer_tiling.h), which is how engines call it.
        Kernels of latent attention and of keys that an indexer picks fold up to a fractal of queries.
        """
        group = max(self.heads // max(self.kv_heads, 1), 1)
        if (
            self.gathers
            or self.q_len == 1
            or ((self.shared_kv or self.indexer or self.top_k > 0) and self.q_len <= _FOLDED)
        ):
            return group
        return max(min(group, BLOCK_ROWS // self.q_len // _HALVES * _HALVES), 1)
