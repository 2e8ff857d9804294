"""
Attention kernels: what the query-key pairs that are computed cost on each pipe.

A core takes `block_q` rows of queries and walks over their keys in blocks of `block_kv`, as FlashAttention does. Where
cube and vector share no buffer (2201), scores, probabilities and partial sums pass through GM, that is L2; on 3510 they
go from L0C to UB and from UB to L1 directly. Query heads of one KV head are rows of one block where queries are few
(`AttentionProblem.folded`).

The best blocks are searched in this class only: no bound on GM traffic with known constants exists for attention
(Saha and Ye, arXiv 2402.07443, give the order of growth), so none is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.cost.attention.attention_problem import AttentionProblem
from memplan.cost.attention.block_work import (
    SUM_BYTES,
    BlockTraffic,
    BlockWork,
    SharedBlocks,
    block_traffic,
    block_work,
    shared_out,
)
from memplan.cost.attention.key_walks import AHEAD, BLOCK_ROWS, STACK, Dealt, Walk, waits
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped

_BLOCKS_Q = (16, 32, 64, 128, 256)
_BLOCKS_KV = (128, 256, 512, 1024)
_LATENT_BLOCK = (64, 128)
"""Rows and keys of a block of latent attention on 3510, whose keys stay in L1 as values."""
SLICE = 128
"""Keys of a block that pass L1 at a time."""


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

    L2 holds `hot_share` of the operands beforehand.
    """
    legal = [
        _block_time(problem, machine, mac_rate, hot_share, block_q, block_kv)
        for block_q, block_kv in _legal_blocks(problem, machine)
    ]
    return min(legal, key=lambda time: (time.duration, time.gm_bytes))


def _legal_blocks(problem: AttentionProblem, machine: Machine) -> list[tuple[int, int]]:
    """
    Sizes that a kernel may have: one of the first library, else those that fit L1.

    Where none does, as of wide heads in float32, the smallest one passes L1 in parts.
    """
    if problem.in_turn:
        return [(int(machine["first_attention_queries"]), int(machine["first_attention_keys"]))]
    sizes = [
        (block_q, block_kv)
        for block_q in _BLOCKS_Q
        for block_kv in _BLOCKS_KV
        if _is_dealt(problem, machine, block_q, block_kv)
    ]
    return [size for size in sizes if _fits(problem, machine, *size)] or sizes[:1]


def _fits(problem: AttentionProblem, machine: Machine, block_q: int, block_kv: int) -> bool:
    """
    Whether queries stay in L1 beside double-buffered slices of keys and probabilities.

    A block of keys passes L1 in slices of a fractal multiple, its scores wait in GM (2201) or by slices in UB.
    """
    part = min(block_kv, SLICE)
    rows = block_q * problem.d_qk * problem.q_bytes * (2 if problem.gradient else 1)
    keys = 2 * part * max(problem.d_qk, problem.d_v) * problem.kv_bytes
    return rows + keys + 2 * block_q * part * problem.q_bytes <= machine.l1


def _is_dealt(p: AttentionProblem, machine: Machine, block_q: int, block_kv: int) -> bool:
    """
    Whether a kernel has such blocks: those that cores walk over have one size, and of prompts none has fewer rows than
    a block of both vector cores (`CVDIFF_SOUTER_FACTOR_DEFAULT`, prompt_flash_attention_tiling.cpp).
    """
    if machine.direct:
        return not p.shared_kv or (block_q, block_kv) == _LATENT_BLOCK
    whole = min(next((size for size in _BLOCKS_Q if size >= p.rows), BLOCK_ROWS), BLOCK_ROWS)
    if p.walk is None:
        return not p.is_prompt or block_q >= whole
    return block_q == whole and block_kv == STACK


def _block_time(
    p: AttentionProblem, machine: Machine, mac_rate: float, hot_share: float, block_q: int, block_kv: int
) -> AttentionTime:
    blocks = shared_out(p, machine, block_q, block_kv)
    work = block_work(p, machine, mac_rate, blocks)
    traffic = block_traffic(p, machine, blocks, work, hot_share)
    mte2 = _mte2_ns(p, machine, blocks, traffic)
    pipes = _pipes_ns(machine, blocks, work, traffic, mte2)
    span, mte2 = _span_ns(p, machine, blocks, pipes, traffic, hot_share, mte2)
    return AttentionTime(
        duration=span + _beside_gradient_ns(p, machine) + _head_ns(p, machine, blocks),
        cube=pipes["cube"] / blocks.balance,
        mte1=pipes["mte1"] / blocks.balance,
        mte2=mte2,
        fixpipe=pipes["fixpipe"] / blocks.balance,
        vector=pipes["vector"] / blocks.balance,
        gm_bytes=traffic.gm,
        hbm_bytes=traffic.cold,
        block_q=block_q,
        block_kv=block_kv,
        cores=blocks.busy,
    )


def _head_ns(p: AttentionProblem, machine: Machine, blocks: SharedBlocks) -> float:
    """
    Of launching and, of an indexer, of its first scores, their sums over heads and what is picked of them.

    Kernels that deal blocks out by a rule start every core, PagedAttention but those that get any; so does the indexer
    (`CalcTschBlockDim`, hicann/ops-transformer attention/lightning_indexer/op_host/lightning_indexer_tiling.cpp), whose
    cube and vector cores wait for each other as those of attention do.
    """
    if p.indexer and not machine.direct:
        return machine.head_ns(machine.cubes, machine.vectors) + machine["attention_block_ns"]
    launched = machine.cubes if blocks.deal is not None and blocks.walk is not Walk.PAGED else blocks.busy
    return machine.head_ns(launched, 0 if p.indexer else launched * machine.vectors // machine.cubes)


def _l2_rate(machine: Machine, busy: int) -> float:
    """Bytes a second that `busy` cores read of L2."""
    return machine.l2_read_per_second * busy / machine.cubes


def _mte2_ns(p: AttentionProblem, machine: Machine, blocks: SharedBlocks, traffic: BlockTraffic) -> float:
    """Of reading what passes GM. Few cores pull no faster from HBM than their own ports carry."""
    run = p.kv_row * (p.page or p.kv_len) if not p.top_k else p.kv_row
    small = max(run, 512) / (max(run, 512) + machine["small_transfer_bytes"])
    l2_rate = _l2_rate(machine, blocks.busy)
    hbm_rate = machine.hbm_bytes_per_second * machine["hbm_read_share"] * machine["hbm_compute_share"] * small
    return (traffic.cold / min(hbm_rate, l2_rate) + max(traffic.gm - traffic.cold, 0.0) / l2_rate) * 1e9


def _pipes_ns(
    machine: Machine, blocks: SharedBlocks, work: BlockWork, traffic: BlockTraffic, mte2_ns: float
) -> dict[str, float]:
    """Of each pipe on the core with most to do."""
    busy, balance = blocks.busy, blocks.balance
    cycle = 1e9 / machine.clock_hz
    return {
        "cube": work.cube / busy * balance * cycle,
        "mte1": work.mte1 / busy * balance * cycle,
        "fixpipe": work.fixpipe / busy * balance * cycle,
        "vector": work.vector / (busy * machine.vectors / machine.cubes) * balance * 1e9 / machine.vector_clock_hz,
        "mte2": mte2_ns * balance,
        "mte3": traffic.gathered / (machine.l2_write_per_second * busy / machine.cubes) * balance * 1e9,
    }


def _beside_gradient_ns(p: AttentionProblem, machine: Machine) -> float:
    """Before a gradient's blocks: sums zeroed, row sums of result x gradient; after: sums cast to operands' type."""
    if not p.gradient:
        return 0.0
    sums = p.batch * (p.heads * p.q_len * p.d_qk + p.kv_heads * p.kv_len * (p.d_qk + p.d_v))
    moved = 2 * sums * SUM_BYTES + sums * p.q_bytes + 2 * p.batch * p.heads * p.q_len * p.d_v * p.q_bytes
    return moved / (machine.hbm_bytes_per_second * machine["hbm_mixed_share"]) * 1e9


def _span_ns(
    p: AttentionProblem,
    machine: Machine,
    blocks: SharedBlocks,
    pipes: Mapping[str, float],
    traffic: BlockTraffic,
    hot_share: float,
    mte2_ns: float,
) -> tuple[float, float]:
    """
    From the first block to the last, and of their reading.

    Of a walk over keys a core waits for its own, the others read meanwhile; who is left in the last round reads no
    faster.
    """
    walk, deal = blocks.walk, blocks.deal
    if walk is None or deal is None:
        return _side_by_side(p, machine, pipes), mte2_ns
    cycle = 1e9 / machine.clock_hz
    slowness = _walk_cycles_per_byte(p, machine, walk, blocks, hot_share)
    keys_ns, last_ns = (keys * p.walked_row * slowness * cycle for keys in (deal.walked, deal.last_walked))
    exchanged = (traffic.gm - traffic.keys) / _l2_rate(machine, blocks.busy) * 1e9 * blocks.balance
    if deal.rounds > 1:
        mte2_ns = (1 - deal.last) * mte2_ns + max(deal.last * mte2_ns, last_ns)
    span = overlapped((_walked(machine, walk, deal, pipes, keys_ns, exchanged), mte2_ns), machine["pipe_norm"])
    return span, max(mte2_ns, keys_ns)


def _side_by_side(p: AttentionProblem, machine: Machine, pipes: Mapping[str, float]) -> float:
    """
    From the first block to the last where cores choose their keys.

    On 2201 scores, probabilities and sums of a core's first block pass GM one behind the other, with nothing beside
    them; of gradients, which pass more at a time, and of indexers, which have scores alone, nothing measured says so.
    On 3510 a block of latent attention fills L0C with sums of values, so that its products, what brings their operands
    from L1 and what takes sums away wait for each other, and the first block starts as on 2201.
    """
    if p.shared_kv and machine.direct and not p.gradient:
        cube = sum(pipes[name] for name in ("cube", "mte1", "fixpipe"))
        beside = [pipes[name] for name in pipes if name not in ("cube", "mte1", "fixpipe")]
        return overlapped([cube, *beside], machine["pipe_norm"]) + machine["attention_block_ns"]
    groups = (("cube", "mte1", "fixpipe"), ("vector", "mte2", "mte3")) if p.in_turn else (tuple(pipes),)
    span = sum(overlapped([pipes[name] for name in group], machine["pipe_norm"]) for group in groups)
    waits = not (machine.direct or p.gradient or p.indexer)
    return span + machine["attention_block_ns"] if waits else span


_COLD_WALKS = {
    Walk.FUSED: "walk_bytes_per_cycle",
    Walk.LATENT: "walk_bytes_per_cycle",
    Walk.PICKED: "walk_bytes_per_cycle",
    Walk.PAGED: "paged_walk_bytes_per_cycle",
    Walk.INCREMENTAL: "incremental_walk_bytes_per_cycle",
}
"""Constants of what a core reads of keys that L2 does not have."""


def _walk_cycles_per_byte(
    p: AttentionProblem, machine: Machine, walk: Walk, blocks: SharedBlocks, hot_share: float
) -> float:
    """
    Of a core that walks over keys of which L2 has `hot_share`: PagedAttention waits longer for those of HBM, and so
    does IncreFlashAttention, of whose blocks of the same keys all but one find them in L2.
    """
    cold = 1 / machine[_COLD_WALKS[walk]]
    if walk is not Walk.INCREMENTAL:
        return hot_share / machine["walk_bytes_per_cycle"] + (1 - hot_share) * cold
    alike = blocks.count / (p.batch * p.kv_heads)
    hot = max(1 / machine["l2_to_l1_bytes_per_cycle"], 2 * machine["mte2_row_cycles"] / p.walked_row)
    first = (1 - hot_share) / alike
    return first * cold + (1 - first) * hot


def _walked(
    machine: Machine, walk: Walk, deal: Dealt, pipes: Mapping[str, float], keys_ns: float, exchanged_ns: float
) -> float:
    """
    Nanoseconds of the core with most to do: its own `pipes`, the keys that it walks over and what passes L2 besides.

    Keys of a block that are no more than scores are ahead of values leave cube and vector cores to wait for each other.
    Of PagedAttention's start most is the kernel's, once; what is left a further block and putting parts together wait.
    """
    cube = [keys_ns, pipes["cube"], pipes["mte1"], pipes["fixpipe"], exchanged_ns]
    vector = [pipes["vector"], pipes["mte3"]]
    groups = (cube, vector) if deal.keys <= AHEAD * STACK else ([*cube, *vector],)
    span = sum(overlapped(group, machine["pipe_norm"]) for group in groups)
    start = machine["attention_block_ns"]
    if walk in (Walk.PAGED, Walk.INCREMENTAL):
        again = combined = start * machine["paged_block_repeats"]
    else:
        again = start * machine["attention_block_repeats"]
        combined = start - again
    return waits(deal, span, start, again, combined)
