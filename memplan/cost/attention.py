"""
Attention kernels: how many query-key pairs are computed, and what that costs on each pipe.

A core takes `block_q` rows of queries and walks over their keys in blocks of `block_kv`, as FlashAttention does. Where
cube and vector share no buffer (2201), scores, probabilities and partial sums pass through GM, that is L2; on 3510 they
go from L0C to UB and from UB to L1 directly. Query heads of one KV head are rows of one block where queries are few
(`_folded`).

The best blocks are searched in this class only: no bound on GM traffic with known constants exists for attention
(Saha and Ye, arXiv 2402.07443, give the order of growth), so none is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from memplan.cost.key_walks import AHEAD, ROWS, STACK, Dealt, Walk, dealt, waits
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped

_BLOCKS_Q = (16, 32, 64, 128, 256)
_BLOCKS_KV = (128, 256, 512, 1024)
SLICE = 128
"""Keys of a block that pass L1 at a time."""
_SCORE_BYTES, _SUM_BYTES = 4, 4
_MASK_PASSES, _DROP_PASSES, _DROP_BYTES = 3.0, 2.0, 0.125
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
            # Prompts of a service of DeepSeek-V3.2 are read faster than blocks of one query would be.
            return Walk.PICKED if self.q_len <= _FOLDED else None
        if not self.page:
            return None
        if self.shared_kv:
            return Walk.LATENT if self.q_len <= _FOLDED else None
        # How PagedAttention's library deals out prompts was not measured.
        return None if self.paged_by is Walk.PAGED and self.q_len > 1 else self.paged_by

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


@dataclass(frozen=True, slots=True)
class AttentionTime:
    """Nanoseconds by pipe, bytes by level, and the blocks that give them."""

    duration: float
    cube: float
    mte1: float
    mte2: float
    fixpipe: float
    vector: float
    gm_bytes: float
    hbm_bytes: float
    block_q: int
    block_kv: int
    cores: int


def attention_time(
    problem: AttentionProblem, machine: Machine, mac_rate: float, *, hot_share: float = 0.0
) -> AttentionTime:
    """
    The fastest of the legal block sizes; `mac_rate` is multiply-accumulates per cycle of one core.

    L2 holds `hot_share` of the operands beforehand. The first library had one size of blocks.
    """
    sizes = [(block_q, block_kv) for block_q in _BLOCKS_Q for block_kv in _BLOCKS_KV]
    if problem.in_turn:
        sizes = [(int(machine["first_attention_queries"]), int(machine["first_attention_keys"]))]
    legal = [
        _blocks(problem, machine, mac_rate, hot_share, block_q, block_kv)
        for block_q, block_kv in sizes
        if (_fits(problem, machine, block_q, block_kv) or problem.in_turn)
        and _is_dealt(problem, machine, block_q, block_kv)
    ]
    return min(legal, key=lambda time: (time.duration, time.gm_bytes))


def _fits(problem: AttentionProblem, machine: Machine, block_q: int, block_kv: int) -> bool:
    """
    Whether queries stay in L1 beside double-buffered slices of keys and probabilities; the smallest blocks always do.

    A block of keys passes L1 in slices of a fractal multiple, its scores wait in GM (2201) or by slices in UB.
    """
    if (block_q, block_kv) == (_BLOCKS_Q[0], _BLOCKS_KV[0]):
        return True
    part = min(block_kv, SLICE)
    rows = block_q * problem.d_qk * problem.q_bytes * (2 if problem.gradient else 1)
    keys = 2 * part * max(problem.d_qk, problem.d_v) * problem.kv_bytes
    return rows + keys + 2 * block_q * part * problem.q_bytes <= machine.l1


def _is_dealt(p: AttentionProblem, machine: Machine, block_q: int, block_kv: int) -> bool:
    """Whether a kernel has such blocks: those that cores walk over have one size, others are chosen freely."""
    if p.walk is None or machine.direct:
        return True
    return block_q == min(next((size for size in _BLOCKS_Q if size >= _rows(p)), ROWS), ROWS) and block_kv == STACK


def _rows(p: AttentionProblem) -> int:
    """Rows of queries of a sequence that share what is read of its keys."""
    return _folded(p) * (1 if p.walk is Walk.PICKED else p.q_len)


def _folded(p: AttentionProblem) -> int:
    """
    Query heads that are rows of one block and so share what is read of their keys.

    One query of a sequence folds all heads of a KV head. Several, as where drafts are verified, fold as many as keep a
    block within its rows, an even number so that both vector cores get half: of queries packed token by token with a
    paged cache FusedInferAttentionScore so tiles (`GetQNBlockTile`, hicann/ops-transformer
    attention/fused_infer_attention_score/op_host/flash_attention_infer_tiling.h), which is how engines call it.
    Kernels of latent attention and of keys that an indexer picks fold up to a fractal of queries.
    """
    group = max(p.heads // max(p.kv_heads, 1), 1)
    if p.q_len == 1 or ((p.shared_kv or p.indexer or p.top_k > 0) and p.q_len <= _FOLDED):
        return group
    return max(min(group, ROWS // p.q_len // _HALVES * _HALVES), 1)


def _blocks(
    p: AttentionProblem, machine: Machine, mac_rate: float, hot_share: float, block_q: int, block_kv: int
) -> AttentionTime:
    rows = _rows(p)
    walk = None if machine.direct else p.walk
    sequences = p.batch * p.heads * p.q_len // rows
    q_blocks = ceil(rows / block_q)
    keys = p.visible / p.q_len
    # Blocks on the diagonal are computed whole.
    diagonal = p.causal and p.q_len > 1 and walk is not Walk.PICKED
    waste = (min(block_q, p.q_len) + min(block_kv, keys)) / 2 if diagonal else 0.0
    met = ceil(min(keys + waste, p.kv_len) / 16) * 16
    row_pad = min(block_q, ceil(rows / 16) * 16)
    units = sequences * q_blocks
    cores = machine.cubes
    parts = max(1, min(cores // units, ceil(met / 512))) if units < cores else 1
    units *= parts
    busy = min(units, cores)
    balance = ceil(units / busy) * busy / units
    deal = None
    if walk is not None:
        deal = _dealt(p, walk, cores, sequences * q_blocks, met)
        busy, balance = deal.busy, deal.share * deal.busy
    computed = sequences * q_blocks * row_pad * met
    products = 1 if p.indexer else (5 if p.gradient else 2)
    depth = p.d_qk if p.indexer else (3 * p.d_qk + 2 * p.d_v if p.gradient else p.d_qk + p.d_v)
    steps = products * computed / (128 * 128)
    cube = computed * depth / mac_rate + steps * machine["mac_issue_cycles"]
    left = computed / max(met, 1) * depth * (met / block_kv) * p.q_bytes / machine.l1_to_l0a
    right = computed / row_pad * depth * p.kv_bytes / machine.l1_to_l0b
    mte1 = (left + right) / machine["mte1_efficiency"]
    # Only rows that are there leave the cube. Partial results: one row of values for every block of keys.
    computed = sequences * rows * met
    partial = 0.0 if p.indexer else computed / block_kv * p.d_v * (2.5 if p.gradient else 1.0)
    scores = computed * (2 if p.gradient else 1)
    fixpipe = (scores * _SCORE_BYTES + partial * _SUM_BYTES) / machine["fixpipe_bytes_per_cycle"]
    slow = machine["transcendental_cycles"]
    simple = 4.0 if p.indexer else (12.0 if p.gradient else 6.0)
    passes = simple + (0.0 if p.indexer else slow)
    # A mask is cast, scaled and added; what is kept is selected by bits and scaled.
    passes += (_MASK_PASSES if p.mask_bytes else 0.0) + (_DROP_PASSES if p.dropout else 0.0)
    vector = (computed * passes + partial * 4) / machine.element_lanes(4) / machine["vector_efficiency"]

    keys_read = sequences * q_blocks * met * p.kv_row * (2 if p.gradient else 1)
    queries = p.batch * p.heads * p.q_len * (p.d_qk + p.d_v) * p.q_bytes
    once = p.compulsory_bytes
    cold = once * (1 - hot_share)
    exchange = 0.0
    if not machine.direct:
        written_back = computed * p.q_bytes * (5 if p.gradient else 2) if not p.indexer else 0.0
        exchange = 2 * scores * _SCORE_BYTES + written_back + 2 * partial * _SUM_BYTES
    gathered = 0.0
    if walk is Walk.PICKED:
        # Vector cores put the keys of a query together in GM, from where its core reads them.
        gathered = keys_read
        exchange += 2 * gathered
    beside = computed * (p.mask_bytes + (_DROP_BYTES if p.dropout else 0.0))
    gm = max(keys_read + queries, once) + exchange + beside
    run = p.kv_row * (p.page or p.kv_len) if not p.top_k else p.kv_row
    small = max(run, 512) / (max(run, 512) + machine["small_transfer_bytes"])
    cycle = 1e9 / machine.clock_hz
    l2_rate = machine.l2_read_per_second * busy / machine.cubes
    hbm_rate = machine.hbm_bytes_per_second * machine["hbm_read_share"] * small
    # Few cores pull no faster from HBM than their own ports carry.
    mte2 = (cold / min(hbm_rate, l2_rate) + max(gm - cold, 0.0) / l2_rate) * 1e9
    pipes = {
        "cube": cube / busy * balance * cycle,
        "mte1": mte1 / busy * balance * cycle,
        "fixpipe": fixpipe / busy * balance * cycle,
        "vector": vector / (busy * machine.vectors / machine.cubes) * balance * 1e9 / machine.vector_clock_hz,
        "mte2": mte2 * balance,
        "mte3": gathered / (machine.l2_write_per_second * busy / machine.cubes) * balance * 1e9,
    }
    groups = (("cube", "mte1", "fixpipe"), ("vector", "mte2", "mte3")) if p.in_turn else (tuple(pipes),)
    span = sum(overlapped([pipes[name] for name in group], machine["pipe_norm"]) for group in groups)
    if deal is not None:
        # A core waits for its own keys, the others read meanwhile; who is left in the last round reads no faster.
        rate = machine["paged_walk_bytes_per_cycle" if walk is Walk.PAGED else "walk_bytes_per_cycle"]
        keys_ns, last_ns = (keys * p.kv_row / rate * cycle for keys in (deal.walked, deal.last_walked))
        exchanged = (gm - keys_read) / l2_rate * 1e9 * balance
        if deal.rounds > 1:
            mte2 = (1 - deal.last) * mte2 + max(deal.last * mte2, last_ns)
        span = overlapped((_walked(machine, deal, pipes, keys_ns, exchanged), mte2), machine["pipe_norm"])
        mte2 = max(mte2, keys_ns)
    extra = 0.0
    if p.gradient:
        # Before: sums zeroed, row sums of result x gradient; after: sums cast to the operands' type.
        sums = p.batch * (p.heads * p.q_len * p.d_qk + p.kv_heads * p.kv_len * (p.d_qk + p.d_v))
        moved = 2 * sums * _SUM_BYTES + sums * p.q_bytes + 2 * p.batch * p.heads * p.q_len * p.d_v * p.q_bytes
        extra = moved / (machine.hbm_bytes_per_second * machine["hbm_mixed_share"]) * 1e9
    launched = cores if deal is not None and walk is not Walk.PAGED else busy
    return AttentionTime(
        duration=span
        + extra
        + machine.head_ns(launched, 0 if p.indexer else launched * machine.vectors // machine.cubes),
        cube=pipes["cube"] / balance,
        mte1=pipes["mte1"] / balance,
        mte2=mte2,
        fixpipe=pipes["fixpipe"] / balance,
        vector=pipes["vector"] / balance,
        gm_bytes=gm,
        hbm_bytes=cold,
        block_q=block_q,
        block_kv=block_kv,
        cores=busy,
    )


def _dealt(p: AttentionProblem, walk: Walk, cores: int, blocks: int, met: int) -> Dealt:
    return dealt(
        walk, cores, batch=p.batch, heads=p.heads, kv_heads=p.kv_heads, q_len=p.q_len, blocks=blocks, keys=met
    )  # fmt: skip


def _walked(machine: Machine, deal: Dealt, pipes: Mapping[str, float], keys_ns: float, exchanged_ns: float) -> float:
    """
    Nanoseconds of the core with most to do: its own `pipes`, the keys that it walks over and what passes L2 besides.

    Keys of a block that are no more than scores are ahead of values leave cube and vector cores to wait for each other.
    """
    cube = [keys_ns, pipes["cube"], pipes["mte1"], pipes["fixpipe"], exchanged_ns]
    vector = [pipes["vector"], pipes["mte3"]]
    groups = (cube, vector) if deal.keys <= AHEAD * STACK else ([*cube, *vector],)
    span = sum(overlapped(group, machine["pipe_norm"]) for group in groups)
    start = machine["attention_block_ns"]
    return waits(deal, span, start, start * machine["attention_block_repeats"])
