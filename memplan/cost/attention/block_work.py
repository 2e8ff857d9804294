"""
What blocks of an attention kernel have to do: how many cores get them, cycles of each pipe, and bytes that pass GM.

Everything is of the whole kernel, whichever cores do it; `block_time` makes nanoseconds of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from memplan.cost.attention.attention_problem import AttentionProblem
from memplan.cost.attention.key_walks import Dealt, Walk, dealt
from memplan.cost.machine import Machine

_SCORE_BYTES = 4
SUM_BYTES = 4
"""Of a partial sum of values or gradients."""
_MASK_PASSES, _DROP_PASSES, _DROP_BYTES = 3.0, 2.0, 0.125


@dataclass(frozen=True, slots=True)
class SharedBlocks:
    """
    `count` blocks of up to `block_q` rows, each of which meets `met` keys, `block_kv` at a time.

    There are `rows` in all, each with its keys; of a block `row_pad` are computed, whole fractals. `busy` cores have
    any, the busiest `balance` times its even share. `deal` is how those of a `walk` were dealt out; both are `None`
    where cores choose.
    """

    block_q: int
    block_kv: int
    rows: int
    count: int
    row_pad: int
    met: int
    busy: int
    balance: float
    walk: Walk | None = None
    deal: Dealt | None = None


def shared_out(p: AttentionProblem, machine: Machine, block_q: int, block_kv: int) -> SharedBlocks:
    """The queries in blocks of `block_q` rows on the cores that get any."""
    walk = None if machine.direct else p.walk
    together = p.rows
    sequences = p.batch * p.heads * p.q_len // together
    rows, count = sequences * together, sequences * ceil(together / block_q)
    met = _keys_met(p, block_q, block_kv)
    row_pad = min(block_q, ceil(together / 16) * 16)
    cores = machine.cubes
    if walk is not None:
        # Dealt out as well where they meet no key, as fewer tokens than one compressed key is of leave none.
        deal = dealt(
            walk, cores, batch=p.batch, heads=p.heads, kv_heads=p.kv_heads, q_len=p.q_len, blocks=count,
            keys=max(met, 1),
        )  # fmt: skip
        balance = deal.share * deal.busy
        return SharedBlocks(block_q, block_kv, rows, count, row_pad, met, deal.busy, balance, walk, deal)
    parts = max(1, min(cores // count, ceil(met / 512))) if count < cores and not p.is_prompt else 1
    units = count * parts
    busy = min(units, cores)
    return SharedBlocks(block_q, block_kv, rows, count, row_pad, met, busy, ceil(units / busy) * busy / units)


def _keys_met(p: AttentionProblem, block_q: int, block_kv: int) -> int:
    """Keys that a block of queries is computed with: blocks on the diagonal whole, fractals whole."""
    keys = p.visible / p.q_len
    diagonal = p.causal and p.q_len > 1 and not p.gathers
    waste = (min(block_q, p.q_len) + min(block_kv, keys)) / 2 if diagonal else 0.0
    return ceil(min(keys + waste, p.kv_len) / 16) * 16


@dataclass(frozen=True, slots=True)
class BlockWork:
    """
    Cycles of each pipe on all cores together.

    `pairs` are those of rows that are there, `scores` what leaves the cube of them, `partial` the values of partial
    results: one row for every block of keys.
    """

    cube: float
    mte1: float
    fixpipe: float
    vector: float
    pairs: int
    scores: int
    partial: float


def block_work(p: AttentionProblem, machine: Machine, mac_rate: float, blocks: SharedBlocks) -> BlockWork:
    """What the pipes do for `blocks`; `mac_rate` is multiply-accumulates per cycle of one core."""
    cube, mte1 = _products(p, machine, mac_rate, blocks)
    # Only rows that are there leave the cube.
    pairs = blocks.rows * blocks.met
    scores = pairs * (2 if p.gradient else 1)
    partial = 0.0 if p.indexer else pairs / blocks.block_kv * p.d_v * (2.5 if p.gradient else 1.0)
    fixpipe = (scores * _SCORE_BYTES + partial * SUM_BYTES + _scattered(p, blocks)) / machine["fixpipe_bytes_per_cycle"]
    vector = (pairs * _passes(p, machine) + partial * 4) / machine.element_lanes(4) / machine["vector_efficiency"]
    return BlockWork(cube, mte1, fixpipe, vector, pairs, scores, partial)


def _scattered(p: AttentionProblem, blocks: SharedBlocks) -> float:
    """Bytes of the gradients of picked keys and values, which each query's block adds to those of others in GM."""
    return blocks.count * blocks.met * (p.d_qk + p.d_v) * SUM_BYTES if p.gradient and p.gathers else 0.0


def _products(p: AttentionProblem, machine: Machine, mac_rate: float, blocks: SharedBlocks) -> tuple[float, float]:
    """Cycles of the cube, whose blocks are computed whole, and of what brings their operands from L1."""
    computed = blocks.count * blocks.row_pad * blocks.met
    products = 1 if p.indexer else (5 if p.gradient else 2)
    depth = p.d_qk if p.indexer else (3 * p.d_qk + 2 * p.d_v if p.gradient else p.d_qk + p.d_v)
    steps = products * computed / (128 * 128)
    cube = computed * depth / mac_rate + steps * machine["mac_issue_cycles"]
    left = computed / max(blocks.met, 1) * depth * (blocks.met / blocks.block_kv) * p.q_bytes / machine.l1_to_l0a
    right = computed / blocks.row_pad * depth * p.kv_bytes / machine.l1_to_l0b
    return cube, (left + right) / machine["mte1_efficiency"]


def _passes(p: AttentionProblem, machine: Machine) -> float:
    """How often vector lanes pass a score; a transcendental function is so many passes as it has cycles."""
    simple = 4.0 if p.indexer else (12.0 if p.gradient else 6.0)
    passes = simple + (0.0 if p.indexer else machine["transcendental_cycles"])
    # A mask is cast, scaled and added; what is kept is selected by bits and scaled.
    return passes + ((_MASK_PASSES if p.mask_bytes else 0.0) + (_DROP_PASSES if p.dropout else 0.0))


@dataclass(frozen=True, slots=True)
class BlockTraffic:
    """
    Bytes that pass `gm`, which is L2 or HBM, and of them those that are `cold`: L2 did not hold them.

    `keys` are those read of keys and values, `gathered` what vector cores write of picked ones and their gradients.
    """

    gm: float
    cold: float
    keys: float
    gathered: float


def block_traffic(
    p: AttentionProblem, machine: Machine, blocks: SharedBlocks, work: BlockWork, hot_share: float
) -> BlockTraffic:
    """What passes GM for `blocks`, of whose operands L2 holds `hot_share` beforehand."""
    keys = blocks.count * blocks.met * p.kv_row * (2 if p.gradient else 1)
    queries = p.batch * p.heads * p.q_len * (p.d_qk + p.d_v) * p.q_bytes
    once = p.compulsory_bytes
    exchange = 0.0
    if not machine.direct:
        written_back = work.pairs * p.q_bytes * (5 if p.gradient else 2) if not p.indexer else 0.0
        exchange = 2 * work.scores * _SCORE_BYTES + written_back + 2 * work.partial * SUM_BYTES
    # Vector cores put the keys of a query together in GM, from where its core reads them, and take gradients apart.
    gathered = 0.0 if machine.direct or not p.gathers else blocks.count * blocks.met * p.kv_row
    gathered += _scattered(p, blocks)
    exchange += 2 * gathered
    beside = work.pairs * (p.mask_bytes + (_DROP_BYTES if p.dropout else 0.0))
    return BlockTraffic(max(keys + queries, once) + exchange + beside, once * (1 - hot_share), keys, gathered)
