"""
What one kernel costs on one machine: the door to the formulas of matmul, attention, vector work and collectives.

Equal kernels are costed once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from memplan.cost.attention import AttentionProblem, AttentionTime, attention_time
from memplan.cost.attention.attention_operands import in_pages
from memplan.cost.collective import collective_cost
from memplan.cost.deviations import UNKNOWN_L2, L2State, PlainTimes
from memplan.cost.kernel_problem import KernelProblem, problem_of
from memplan.cost.kernels.kernel import Kernel, logical_row
from memplan.cost.kernels.op_classes import OpClass, rows_overlap
from memplan.cost.kernels.token_operands import of_tokens_alone
from memplan.cost.limits import LAUNCH, VECTOR, KernelCost, launch_alone, limit_of
from memplan.cost.machine import Machine
from memplan.cost.product_costs import product_cost, product_without_cube
from memplan.cost.products.chunk_kernels import chunk_ns
from memplan.cost.products.convolution import images_dealt
from memplan.cost.vector import VectorTime, VectorWork, vector_time, vector_work

REREAD_KINDS = ("matmul", "attention")
"""Formulas whose constants were found on operands that are cold, as these kernels read them many times over."""


def kernel_cost(kernel: Kernel, machine: Machine, l2: L2State = UNKNOWN_L2, *, cold_code: bool = False) -> KernelCost:
    """
    Cost of `kernel`, which meets `l2` where the caller knows the ops before it.

    With `cold_code` its vector cores fetch their instructions first, as they do behind another kernel.
    """
    if machine.calibration is None:
        return _modelled(kernel, machine, L2State(l2.hot, clean=l2.clean).stepped(), cold_code)
    return _corrected(kernel, machine, l2.stepped(), cold_code)


@lru_cache(maxsize=65536)
def _corrected(kernel: Kernel, machine: Machine, l2: L2State, cold_code: bool) -> KernelCost:
    """The cost with the time that the calibration of `machine` gives the kernel, where it speaks for it."""
    cost = _modelled(kernel, machine, L2State(l2.hot, clean=l2.clean), cold_code)
    plain = plain_times(kernel, machine, _ordered_ns(kernel, machine, l2))
    time = machine.calibration.corrected_ns(kernel, plain, l2) if machine.calibration else None
    return cost if time is None else replace(cost, duration_ns=time)


def _ordered_ns(kernel: Kernel, machine: Machine, l2: L2State) -> int:
    """The model's time among other kernels, as a profile's are fitted, with as much of its reads in L2 as `l2` says."""
    alone, _ = _alone_and_through(kernel, machine)
    if alone.kind in REREAD_KINDS:
        return alone.duration_ns
    return _modelled(kernel, machine, L2State(l2.hot), True).duration_ns


def plain_times(kernel: Kernel, machine: Machine, ordered_ns: int) -> PlainTimes:
    """What the model gives `kernel` on `machine` run alone, beside what it gives it in its place, `ordered_ns`."""
    alone, through_ns = _alone_and_through(kernel, machine)
    filled = alone.gm_bytes / machine.l2
    read_ns = kernel.read_bytes / machine.hbm_bytes_per_second * 1e9
    return PlainTimes(alone.duration_ns, ordered_ns, through_ns, read_ns, filled, alone.bound, alone.known)


def _alone_and_through(kernel: Kernel, machine: Machine) -> tuple[KernelCost, int]:
    """The cost alone, and the time with nothing that vector work writes kept in L2."""
    alone = _modelled(kernel, machine, UNKNOWN_L2, False)
    if "vector" in alone.pipes and "cube" not in alone.pipes:
        return alone, _modelled(kernel, machine, UNKNOWN_L2, False, kept=False).duration_ns
    return alone, alone.duration_ns


@lru_cache(maxsize=65536)
def _modelled(kernel: Kernel, machine: Machine, l2: L2State, cold_code: bool, *, kept: bool = True) -> KernelCost:
    """The cost in `l2`, whatever its reads push out of it, or without any of its vector work's results `kept` there."""
    share = l2.hot or 0.0
    problem = problem_of(kernel, machine, hot_share=share)
    if problem.on_cpu:
        return _on_cpu(kernel, machine)
    if problem.rule.kind == "collective":
        return collective_cost(kernel, problem.rule, machine)
    chunks = chunk_ns(kernel, machine)
    if chunks is not None:
        return _of_chunks(kernel, problem, machine, chunks)
    if problem.matmul is not None:
        if not problem.matmul.mac_rate:
            return product_without_cube(problem.matmul, machine, kernel.block_count)
        blocks = kernel.block_count or (images_dealt(kernel, machine) if problem.rule.kind == "convolution" else 0)
        cost = product_cost(kernel, problem.matmul, machine, problem.passes, blocks)
        return replace(cost, assumed=problem.assumed) if problem.assumed else cost
    if problem.attention is not None:
        cost = attention_cost(problem.attention, machine, problem.mac_rate, hot_share=share)
        return replace(cost, assumed=problem.assumed)
    if problem.rule.kind == "attention" and in_pages(kernel):
        head = machine.head_ns(machine.cubes, machine.vectors)
        return launch_alone(head, "attention", "the lengths of the sequences in the pages are not told")
    moved = of_tokens_alone(kernel)
    return _vector(moved, problem.rule, machine, l2, cold_code=cold_code, kept=kept)


def _of_chunks(kernel: Kernel, problem: KernelProblem, machine: Machine, chunks: float) -> KernelCost:
    """A kernel of chunks that take `chunks` nanoseconds one after the other, and the launch."""
    moved = kernel.read_bytes + kernel.written_bytes
    flops = problem.matmul.flops if problem.matmul is not None else 0
    time = chunks + machine.head_ns(machine.cubes, machine.vectors)
    return KernelCost(round(time), VECTOR, {"vector": chunks}, flops, moved, moved, problem.rule.kind)


def attention_cost(
    problem: AttentionProblem, machine: Machine, mac_rate: float, *, hot_share: float = 0.0
) -> KernelCost:
    """Cost of an attention kernel with the best blocks of its class; `hot_share` of its operands is in L2."""
    time = attention_time(problem, machine, mac_rate, hot_share=hot_share)
    return attention_cost_of(problem, time, machine)


def attention_cost_of(problem: AttentionProblem, time: AttentionTime, machine: Machine) -> KernelCost:
    """Cost from a finished search of blocks."""
    pipes = {name: getattr(time, name) for name in ("cube", "mte1", "mte2", "fixpipe", "vector")}
    return KernelCost(
        duration_ns=round(time.duration),
        bound=limit_of(pipes, time.duration, machine),
        pipes=pipes,
        flops=problem.flops,
        gm_bytes=round(time.gm_bytes),
        hbm_bytes=round(time.hbm_bytes),
        kind="attention",
    )


def _vector(kernel: Kernel, rule: OpClass, machine: Machine, l2: L2State, *, cold_code: bool, kept: bool) -> KernelCost:
    if not kernel.operands:
        head = machine.head_ns(0, min(max(kernel.block_count, 1), machine.vectors))
        return launch_alone(head, rule.kind, "no operand is known")
    work = vector_work(kernel, rule, machine)
    time = vector_time(
        work,
        machine,
        code_ns=machine["code_fetch_ns_per_vector_core"] * work.cores if cold_code else 0.0,
        hot=(l2.hot or 0.0) * work.read,
        kept=None if kept else 0.0,
        clean=l2.clean,
        double_buffer=not work.in_turn and (rule.kind != "rows" or _side_by_side(kernel, rule, work, machine)),
    )
    return _vector_cost(time, rule, machine)


def _side_by_side(kernel: Kernel, rule: OpClass, work: VectorWork, machine: Machine) -> bool:
    """
    Whether rows pass pipes that run side by side.

    A row's statistics have to be known before the row is passed over again: its pipes take turns, unless rows are so
    short that many are worked on at once, and no sum over rows is carried along (gradients of norms). Or the library
    reads the next rows meanwhile (`rows_overlap`), as where registers keep what is known of a row.
    """
    first = kernel.present[0] if kernel.present else None
    if first is not None and first.shape and rows_overlap(kernel.type, logical_row(first), first.dtype):
        return True
    together = work.row_elements <= machine["short_row_elements"] or bool(machine["keeps_registers"])
    return rule.rule != "norm_gradient" and work.row_elements > 0 and together


def _vector_cost(time: VectorTime, rule: OpClass, machine: Machine) -> KernelCost:
    moved = time.copy
    pipes = {"vector": time.vector, "mte2": moved.read_ns, "mte3": moved.write_ns}
    if time.work.read and time.work.written:
        # Reads and writes share the way to GM: the reading pipe waits for both.
        pipes["mte2"] = max(moved.together_ns, moved.read_ns)
    return KernelCost(
        duration_ns=round(time.duration),
        bound=limit_of(pipes, time.duration, machine),
        pipes=pipes,
        flops=round(time.work.elements),
        gm_bytes=round(time.work.read + time.work.written),
        hbm_bytes=round(moved.hbm_bytes),
        kind=rule.kind,
        assumed=rule.assumed,
    )


def _on_cpu(kernel: Kernel, machine: Machine) -> KernelCost:
    moved = kernel.read_bytes + kernel.written_bytes
    time = machine["ai_cpu_ns"] + moved / machine["ai_cpu_bytes_per_second"] * 1e9
    return KernelCost(round(time), LAUNCH, {}, 0, moved, moved, "ai_cpu", assumed="an AI CPU op of ordinary size")
