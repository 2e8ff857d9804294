"""
All that the model knows of one kernel on one machine: its cost, its tiling in words, and what it keeps on chip.

What the buffers' addresses are is for `memplan.placement.onchip` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from math import ceil

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes, format_duration
from memplan.cost.attention import AttentionProblem, AttentionTime, attention_time
from memplan.cost.attention.attention_operands import in_pages
from memplan.cost.buffers import (
    MATMUL_STAGES,
    VECTOR_STAGES,
    BufferNeed,
    attention_buffers,
    attention_stages,
    matmul_buffers,
    vector_buffers,
)
from memplan.cost.deviations import UNKNOWN_L2, L2State
from memplan.cost.kernel_problem import KernelProblem, problem_of
from memplan.cost.kernel_time import kernel_cost
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine
from memplan.cost.products import MatmulProblem, Tiling
from memplan.cost.uncertainty import time_interval
from memplan.cost.vector import VectorWork, vector_work
from memplan.schema.planned_tiling import Stage, TileSize


@dataclass(frozen=True, slots=True)
class KernelReport:
    """
    `cost`, and how `problem` is cut: `tiling` in sentences, `tile` in sizes, `needs` on chip over the `stages` of an
    iteration.

    `gm_bound` are bytes that must cross between cores and GM whatever the tiling, `None` where no bound is known.
    `missing` says why there is no tiling; then `tiling`, `tile`, `stages` and `needs` are empty. `notes` say what
    `needs` leaves out and what was taken for granted.
    """

    cost: KernelCost
    problem: KernelProblem
    tiling: tuple[Sentence, ...] = ()
    stages: tuple[Stage, ...] = ()
    needs: tuple[BufferNeed, ...] = ()
    gm_bound: int | None = None
    missing: Sentence | None = None
    notes: tuple[Sentence, ...] = ()
    tile: tuple[TileSize, ...] = ()


@lru_cache(maxsize=1024)
def kernel_report(kernel: Kernel, machine: Machine, l2: L2State = UNKNOWN_L2) -> KernelReport:
    """
    The report of `kernel` that meets `l2`, with the figures and the tiling of `kernel_cost`.

    Equal kernels are searched once. Raises what `kernel_cost` raises.
    """
    cost = kernel_cost(kernel, machine, l2)
    # As `kernel_cost` rounds it, so that the buffers are those of the tiling it found.
    share = l2.stepped().hot or 0.0
    problem = problem_of(kernel, machine, hot_share=share)
    notes = (Sentence(cost.assumed),) if cost.assumed else ()
    interval = time_interval(kernel, cost, machine)
    if interval is not None:
        ends = (format_duration(interval.low_ns), format_duration(interval.high_ns))
        notes = (*notes, Sentence("four of five measured kernels of its kind with this prediction take {} to {}", ends))
    missing = _missing(kernel, cost, problem)
    if missing is not None:
        return KernelReport(cost, problem, missing=missing, notes=notes)
    if problem.matmul is not None and cost.tiling is not None:
        cores = min(kernel.block_count, machine.cubes) if kernel.block_count else machine.cubes
        if problem.passes:
            notes = (*notes, Sentence("the fused vector work's buffers in UB are not modelled"))
        return _of(matmul_cut(problem.matmul, cost.tiling, machine, cores=cores), cost, problem, notes)
    if problem.attention is not None:
        time = attention_time(problem.attention, machine, problem.mac_rate, hot_share=share)
        if problem.attention.gradient:
            notes = (*notes, Sentence("of the backward kernel only the buffers of scores and softmax are laid out"))
        return _of(attention_cut(problem.attention, time, machine), cost, problem, notes)
    return _vector(kernel, cost, problem, vector_work(kernel, problem.rule, machine), notes)


def _missing(kernel: Kernel, cost: KernelCost, problem: KernelProblem) -> Sentence | None:
    """Why no tiling is known, `None` where one is."""
    kind = problem.rule.kind
    if problem.on_cpu:
        return Sentence("An AI CPU runs it: it uses none of the AI core's buffers")
    if kind == "collective":
        return Sentence("A collective: links bound it, and what it buffers on chip is not modelled")
    if not kernel.operands:
        return Sentence("Neither shapes nor types of its operands are known: no tiling can be told")
    if problem.rule.rule == "unknown":
        return Sentence("No tiling rule is known for {}: its time is that of an elementwise op", (kernel.type,))
    if problem.matmul is not None and cost.tiling is None:
        return Sentence("The cube does not take this type: computed by the vector units, whose tiling is not modelled")
    if problem.attention is None and kind == "attention" and in_pages(kernel):
        return Sentence("Its keys lie in pages, and its operands do not tell how long the sequences are")
    if problem.matmul is None and problem.attention is None and kind not in _STREAMING:
        return Sentence("Its operands do not tell which product it computes: its time is that of moving them")
    return None


_STREAMING = frozenset({"vector", "rows", "reduction", "fill", "slice", "transpose", "gather", "sort", "optimizer"})
"""Kinds of kernels that stream their operands through UB."""


@dataclass(frozen=True, slots=True)
class KernelCut:
    """
    How a kernel is cut: in `words` and in the sizes of a `tile`, what it `needs` on chip over `stages`, and the bytes
    that must cross to GM.
    """

    words: tuple[Sentence, ...]
    tile: tuple[TileSize, ...]
    stages: tuple[Stage, ...]
    needs: tuple[BufferNeed, ...]
    gm_bound: int


def matmul_cut(product: MatmulProblem, tiling: Tiling, machine: Machine, *, cores: int) -> KernelCut:
    """`product` in tiles of `tiling` on at most `cores` cores."""
    tiles = ceil(product.m / tiling.m) * ceil(product.n / tiling.n) * product.batch
    words = [
        Sentence(
            "{} × {} × {} (M × N × K), {} [product|products]",
            (f"{product.m:,}", f"{product.n:,}", f"{product.k:,}", f"{product.batch:,}"),
        )
        if product.batch > 1
        else Sentence("{} × {} × {} (M × N × K)", (f"{product.m:,}", f"{product.n:,}", f"{product.k:,}")),
        Sentence("C in tiles of {} × {}: {} on {} [core|cores]",
                 (str(tiling.m), str(tiling.n), f"{tiles:,}", str(min(tiles * tiling.splits, cores)))),
        Sentence("K in slices of {} in L1 and {} in L0", (str(tiling.k_l1), str(tiling.k))),
    ]  # fmt: skip
    if tiling.resident != "none":
        words.append(Sentence("a panel of {} with all of K stays in L1", (tiling.resident,)))
    if tiling.splits > 1:
        words.append(Sentence("K is split over {} [core|cores], which add their sums in GM", (str(tiling.splits),)))
    bound = round(traffic_bound(product, machine, cores=cores))
    tile = tuple(TileSize(field.name, getattr(tiling, field.name)) for field in fields(tiling))
    return KernelCut(tuple(words), tile, MATMUL_STAGES, tuple(matmul_buffers(product, tiling)), bound)


def attention_cut(attention: AttentionProblem, time: AttentionTime, machine: Machine) -> KernelCut:
    """`attention` in the blocks that `time` found."""
    words = (
        Sentence(
            "batch {}, {} query and {} key [head|heads], {} [query|queries] on {} [key|keys], head size {}",
            tuple(
                f"{value:,}"
                for value in (
                    attention.batch, attention.heads, attention.kv_heads, attention.q_len, attention.kv_len,
                    attention.d_qk,
                )
            ),
        ),
        Sentence("blocks of {} [query|queries] × {} [key|keys] on {} [core|cores]",
                 (str(time.block_q), str(time.block_kv), str(time.cores))),
    )  # fmt: skip
    needs = tuple(attention_buffers(attention, time, machine))
    tile = TileSize("block_q", time.block_q), TileSize("block_kv", time.block_kv), TileSize("cores", time.cores)
    return KernelCut(words, tile, attention_stages(machine), needs, round(attention.compulsory_bytes))


def _of(cut: KernelCut, cost: KernelCost, problem: KernelProblem, notes: tuple[Sentence, ...]) -> KernelReport:
    return KernelReport(cost, problem, cut.words, cut.stages, cut.needs, cut.gm_bound, notes=notes, tile=cut.tile)


def _vector(
    kernel: Kernel, cost: KernelCost, problem: KernelProblem, work: VectorWork, notes: tuple[Sentence, ...]
) -> KernelReport:
    needs = tuple(vector_buffers(kernel, work))
    if not needs:
        missing = Sentence("It moves too little to stream through UB: no buffers are modelled")
        return KernelReport(cost, problem, missing=missing, notes=notes)
    pieces = (format_bytes(round(work.piece)), str(ceil(work.pieces)), str(work.cores))
    words = (Sentence("pieces of up to {} of each operand: {} on each of {} [core|cores]", pieces),)
    tile = (
        TileSize("piece_bytes", round(work.piece)),
        TileSize("pieces", ceil(work.pieces)),
        TileSize("cores", work.cores),
    )
    moved = round(work.read + work.written)
    return KernelReport(cost, problem, words, VECTOR_STAGES, needs, moved, notes=notes, tile=tile)


def traffic_bound(problem: MatmulProblem, machine: Machine, *, cores: int = 1) -> float:
    """
    Bytes that must cross between GM and `cores` cores whatever the tiling: the larger of each operand once and
    2·M·N·K/sqrt(S) - 2·S elements (Smith, Lowery, Langou and van de Geijn, arXiv 1702.02017), S being all on-chip
    elements of one core.
    """
    width = min(problem.a_bytes, problem.b_bytes)
    store = (machine.l1 + machine.l0a + machine.l0b + machine.l0c + (machine.ub if machine.direct else 0)) / width
    compulsory = problem.a_total + problem.b_total + problem.c_total
    per_product = max(2 * problem.m * problem.n * problem.k / store**0.5 - 2 * store * cores, 0.0)
    return float(max(compulsory, problem.batch * per_product * width))
