"""
How kernels deal attention over keys in pages to cores, and what a core that walks over keys waits for.

Where cube and vector share no buffer (2201) a core hands scores, probabilities and partial sums through GM for each
stack of keys, two stacks ahead of what it adds up, and ends a block before the next. Libraries deal blocks by rules:

- FusedInferAttentionScore deals (sequence, key head, 128 rows) one by one, and shares out keys evenly only where so few
  blocks would leave most cores idle (`ComputeSeqLenAndDecodeFlagsForFAI` and `FAInferTiling`, hicann/ops-transformer
  attention/fused_infer_attention_score/op_host).
- PagedAttention of ATB gives a core heads of several key heads of a sequence, so that few more blocks than cores are
  dealt, and shares keys of long sequences (`SplitCoreND`, `SplitCoreBNND` and `SplitCoreBNSND`,
  hicann/ascend-transformer-boost src/kernels/mixkernels/pagedattention/tiling).
- Latent attention shares all stacks evenly (`SplitCore`, the same operator's tiling for MLA).
- IncreFlashAttention, which FusedInferAttentionScore calls for few queries over keys that lie one behind the other,
  deals (sequence, key head) one by one; it shares out keys where these are no more than half as many as cores, of
  several heads a key head 2,048 keys at least, and of latent keys no more than one query of 128 heads
  (`IsFlashDecode` and `CheckCoreOkFlag`, hicann/ops-transformer
  attention/incre_flash_attention/op_host/incre_flash_attention_tiling_check.cpp).
- SparseFlashAttention has blocks of all heads of one query and shares no keys (vllm-project/vllm-ascend
  csrc/attention/sparse_flash_attention; `splitKVFlag_` is never set).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil, floor

STACK, AHEAD = 512, 2
"""Keys of a stack (`MAX_KV_STACK_LEN`), and how many stacks scores are ahead of values (`PRE_LAUNCH`)."""
BLOCK_ROWS = 128
"""Rows of queries of a block."""
_FEW_QUERIES = 16
"""Queries of a sequence up to which a kernel may share keys among cores."""
_IDLE, _HALF_IDLE, _SHORTEST = 0.8, 0.4, 1024
"""Shares of the cores with so few blocks for which long keys are shared, and short ones, and how long those are."""
_SPARE, _SPARE_KEYS = 0.5, 2048
"""Share of the cores with so few blocks for which IncreFlashAttention shares keys, and keys that make up for it."""
_LONG_PAGES, _LONG_HEADS, _MOST_HEADS, _FEW_LEFT = 2, 0.9, 32, 16
"""PagedAttention: pages a core that are long, cores with which no more heads are split, most heads, few last blocks."""


class Walk(Enum):
    """Whose rule deals blocks out."""

    FUSED = "FusedInferAttentionScore"
    INCREMENTAL = "IncreFlashAttention"
    PAGED = "PagedAttention"
    LATENT = "latent"
    PICKED = "SparseFlashAttention"


@dataclass(frozen=True, slots=True)
class Dealt:
    """
    Blocks as dealt: cores that get any, and of the busiest how many it takes, over how many keys it walks for all of
    them (counted for each key head), for how many at a time, and its share of all work. `last_walked` are its keys of
    the last round, which has the share `last` of all work. `split`: keys of a block are shared, so that partial results
    are put together at the end.
    """

    busy: int
    rounds: int
    walked: int
    keys: int
    share: float
    last_walked: int
    last: float = 1.0
    split: bool = False


def dealt(
    walk: Walk, cores: int, *, batch: int, heads: int, kv_heads: int, q_len: int, blocks: int, keys: int
) -> Dealt:
    """`blocks` of up to 128 rows over `keys` keys each, as `walk` deals them to `cores`."""
    if walk is Walk.PAGED:
        return _paged(cores, batch, heads, kv_heads, keys)
    shares = walk is Walk.LATENT
    if walk is Walk.FUSED and q_len <= _FEW_QUERIES and q_len * (heads // kv_heads) <= BLOCK_ROWS:
        few = batch * kv_heads
        shares = (few <= _IDLE * cores and keys >= cores * STACK) or (few <= _HALF_IDLE * cores and keys >= _SHORTEST)
    if walk is Walk.INCREMENTAL:
        alone = heads == kv_heads and kv_heads > 1
        folded = q_len > 1 and heads // kv_heads * q_len > BLOCK_ROWS
        shares = batch * kv_heads <= _SPARE * cores and (alone or keys >= _SPARE_KEYS) and not folded
    if shares:
        stacks = blocks * ceil(keys / STACK)
        each = ceil(stacks / cores)
        walked = min(each * STACK, ceil(each * blocks * keys / stacks))
        busy, rounds, split = min(cores, stacks), ceil(walked / keys), blocks % cores != 0
        return Dealt(busy, rounds, walked, min(walked, keys), each / stacks, walked, split=split)
    return _in_rounds(cores, blocks, keys, keys, 1 / blocks)


def _in_rounds(cores: int, blocks: int, walked: int, keys: int, share: float, *, split: bool = False) -> Dealt:
    """`blocks` one by one, each of a `share` of all work and so many keys that are walked over, `keys` at a time."""
    busy = min(blocks, cores)
    rounds = ceil(blocks / busy)
    last = 1 - (rounds - 1) * busy / blocks
    return Dealt(busy, rounds, rounds * walked, keys, rounds * share, walked, last, split)


def _paged(cores: int, batch: int, heads: int, kv_heads: int, keys: int) -> Dealt:
    """One query of each sequence by PagedAttention: some heads a core, and parts of the keys where cores are idle."""
    group = max(heads // kv_heads, 1)
    few = batch <= _IDLE * cores
    is_long = few and keys >= _LONG_PAGES * BLOCK_ROWS * cores
    if batch * heads < _IDLE * cores or is_long:
        pages = ceil(keys / BLOCK_ROWS)
        each = ceil(pages / (cores if is_long else ceil(cores / batch)))
        parts = ceil(pages / each)
        heads_each = heads if batch * parts >= _LONG_HEADS * cores else ceil(heads / ceil(cores / (batch * parts)))
        heads_each = min(heads_each, _MOST_HEADS)
        blocks, part = batch * parts * ceil(heads / heads_each), min(each * BLOCK_ROWS, keys)
        share = heads_each * part / (batch * heads * keys)
        return _in_rounds(cores, blocks, ceil(heads_each / group) * part, part, share, split=parts > 1)
    heads_each = min(ceil(heads / ceil(cores / batch)), _MOST_HEADS)
    loop = ceil(heads / heads_each)
    blocks = batch * loop
    walked, share = ceil(heads_each / group) * keys, heads_each / (batch * heads)
    rounds = blocks // cores
    tail = batch - floor(rounds * cores / loop)
    if not rounds or tail * loop >= _FEW_LEFT or not 0 < tail <= (cores if group == 1 else cores // 2):
        return _in_rounds(cores, blocks, walked, keys, share)
    # Heads of the few sequences that are left are split again.
    last = min(ceil(heads / ceil(cores / tail)), _MOST_HEADS)
    more = ceil(tail * ceil(heads / last) / cores)
    last_walked = more * ceil(last / group) * keys
    share = rounds * share + more * last / (batch * heads)
    return Dealt(cores, rounds + more, rounds * walked + last_walked, keys, share, last_walked, tail / batch)


def waits(deal: Dealt, span: float, start: float, again: float, combined: float) -> float:
    """
    What the busiest core takes for its blocks, of `span` together, of which the first waits for `start`.

    A further block hides behind the one before as far as that takes: it is its own `again` at the least. Where keys of
    a block were shared, putting parts together waits for `combined`.
    """
    hidden = (deal.rounds - 1) * max(again - span / deal.rounds, 0.0)
    return start + span + hidden + (combined if deal.split else 0.0)
