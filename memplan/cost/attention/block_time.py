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
from math import ceil

from memplan.cost.attention.attention_problem import AttentionProblem
from memplan.cost.attention.key_walks import AHEAD, BLOCK_ROWS, STACK, Dealt, Walk, dealt, waits
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped

_BLOCKS_Q = (16, 32, 64, 128, 256)
_BLOCKS_KV = (128, 256, 512, 1024)
SLICE = 128
"""Keys of a block that pass L1 at a time."""
_SCORE_BYTES, _SUM_BYTES = 4, 4
_MASK_PASSES, _DROP_PASSES, _DROP_BYTES = 3.0, 2.0, 0.125


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
    return (
        block_q == min(next((size for size in _BLOCKS_Q if size >= p.rows), BLOCK_ROWS), BLOCK_ROWS)
        and block_kv == STACK
    )


def _blocks(
    p: AttentionProblem, machine: Machine, mac_rate: float, hot_share: float, block_q: int, block_kv: int
) -> AttentionTime:
    rows = p.rows
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
    if deal is not None and walk is not None:
        # A core waits for its own keys, the others read meanwhile; who is left in the last round reads no faster.
        slowness = _walk_cycles_per_byte(machine, walk, hot_share)
        keys_ns, last_ns = (keys * p.kv_row * slowness * cycle for keys in (deal.walked, deal.last_walked))
        exchanged = (gm - keys_read) / l2_rate * 1e9 * balance
        if deal.rounds > 1:
            mte2 = (1 - deal.last) * mte2 + max(deal.last * mte2, last_ns)
        span = overlapped((_walked(machine, walk, deal, pipes, keys_ns, exchanged), mte2), machine["pipe_norm"])
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
    # Blocks of queries that meet no key, as fewer tokens than one compressed key is of leave none, are dealt even so.
    return dealt(
        walk, cores, batch=p.batch, heads=p.heads, kv_heads=p.kv_heads, q_len=p.q_len, blocks=blocks, keys=max(met, 1)
    )  # fmt: skip


def _walk_cycles_per_byte(machine: Machine, walk: Walk, hot_share: float) -> float:
    """Of a core that walks over keys of which L2 has `hot_share`: PagedAttention waits longer for those of HBM."""
    hot = 1 / machine["walk_bytes_per_cycle"]
    cold = 1 / machine["paged_walk_bytes_per_cycle"] if walk is Walk.PAGED else hot
    return hot_share * hot + (1 - hot_share) * cold


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
    if walk is Walk.PAGED:
        again = combined = start * machine["paged_block_repeats"]
    else:
        again = start * machine["attention_block_repeats"]
        combined = start - again
    return waits(deal, span, start, again, combined)
