"""Costs of matrix products: their best tiling, and what vector cores do before, beside and behind it."""

from __future__ import annotations

from dataclasses import replace

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.limits import KernelCost, limit_of
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.products import MatmulProblem, Search, Tiling, given, search_tilings
from memplan.cost.products.layout_copies import layout_copies
from memplan.cost.products.vector_product import vector_product
from memplan.cost.products.weight_quant import digit_product, is_weight_quantised, widened_ns, widened_parts


def product_without_cube(problem: MatmulProblem, machine: Machine, blocks: int) -> KernelCost:
    """A product of a type that the cube does not take, by vector units."""
    time = vector_product(problem, machine, blocks)
    pipes = {"vector": time.vector, "mte2": time.copy.read_ns, "mte3": time.copy.write_ns}
    return KernelCost(
        round(time.duration), limit_of(pipes, time.duration, machine), pipes, problem.flops, round(time.moved),
        round(time.copy.hbm_bytes), "matmul", assumed="the cube does not take this type: computed by the vector units",
    )  # fmt: skip


def product_cost(kernel: Kernel, problem: MatmulProblem, machine: Machine, passes: float, blocks: int) -> KernelCost:
    """
    A product by the cube, behind what vector cores make of operands that it can't take as they lie: copies of another
    layout, or factors of weights.
    """
    if problem.widening and is_weight_quantised(kernel, machine):
        return _weight_quant_cost(kernel, problem, machine, blocks)
    copies = layout_copies(kernel, problem, machine)
    if copies is None:
        return matmul_cost(problem, machine, passes=passes, blocks=blocks)
    whole = matmul_cost(problem, machine, passes=passes, blocks=blocks)
    if whole.tiling is not None and whole.tiling.splits > 1 and copies.avoidable:
        return whole
    cost = matmul_cost(copies.problem, machine, passes=passes, blocks=blocks)
    pipes = dict(cost.pipes)
    for name, spent in copies.pipes.items():
        pipes[name] = pipes.get(name, 0.0) + spent
    return replace(
        cost,
        duration_ns=cost.duration_ns + round(copies.duration),
        pipes=pipes,
        gm_bytes=cost.gm_bytes + round(copies.gm_bytes),
        hbm_bytes=cost.hbm_bytes + round(copies.hbm_bytes),
    )


def _weight_quant_cost(kernel: Kernel, problem: MatmulProblem, machine: Machine, blocks: int) -> KernelCost:
    """A product by weights of whole numbers: by digits of its rows where the library does so, else of wider weights."""
    found = digit_product(kernel, problem, machine)
    if found is None:
        return _widened_cost(problem, machine, blocks)
    return KernelCost(
        round(found.duration), limit_of(found.pipes, found.duration, machine), found.pipes, problem.flops,
        round(found.gm_bytes), round(found.hbm_bytes), "matmul",
    )  # fmt: skip


def _widened_cost(problem: MatmulProblem, machine: Machine, blocks: int) -> KernelCost:
    """
    A product by factors that vector cores make of weights, some of the columns at a time, one such part ahead: the cube
    reads them of L2 and waits for the first, vector cores are done before the last is multiplied.
    """
    widened, vector, moved = widened_ns(problem, machine)
    factors = problem.widened_bytes
    made = replace(problem, b_bytes=problem.a_bytes, widening=0.0, hot_bytes=factors)
    cost = matmul_cost(made, machine, blocks=blocks)
    head = machine.head_ns(machine.cubes, machine.vectors)
    product = max(cost.duration_ns - head, 0.0)
    parts = widened_parts(problem, machine)
    duration = head + (widened + product) / parts + max(widened, product) * (1 - 1 / parts)
    pipes = {**cost.pipes, "vector": vector, "mte3": moved.write_ns, "mte2": cost.pipes["mte2"] + moved.read_ns}
    return replace(
        cost,
        duration_ns=round(duration),
        bound=limit_of(pipes, duration, machine),
        pipes=pipes,
        gm_bytes=cost.gm_bytes + round(problem.b_total + factors),
        hbm_bytes=round(problem.a_total + moved.hbm_bytes + problem.c_total),
    )


def matmul_cost(
    problem: MatmulProblem,
    machine: Machine,
    *,
    passes: float = 0.0,
    blocks: int = 0,
    tiling: Tiling | None = None,
) -> KernelCost:
    """
    Cost of a matmul with its best tiling, or with `tiling`; `passes` vector instructions are spent on each element of
    the result (dequantisation, activation), for which it passes through GM where cube and vector share no buffer.
    """
    cores = min(blocks, machine.cubes) if blocks else None
    found = given(problem, machine, tiling, cores=cores) if tiling else search_tilings(problem, machine, cores=cores)
    return matmul_cost_of(found, found.chosen(machine), machine, passes=passes)


def matmul_cost_of(found: Search, index: int, machine: Machine, *, passes: float = 0.0) -> KernelCost:
    """Cost of candidate `index` of a search."""
    columns, problem = found.columns, found.problem
    pipes = {name: float(columns[name][index]) for name in ("cube", "mte1", "mte2", "fixpipe", "scalar")}
    time, gm, hbm = (float(columns[name][index]) for name in ("time", "gm_bytes", "hbm_bytes"))
    if passes:
        elements = problem.batch * problem.m * problem.n
        pipes["vector"] = elements * passes / machine.vector_rate(machine.vectors) * 1e9
        if not machine.direct:
            exchange = 8.0 * elements
            gm += exchange
            pipes["mte2"] += exchange / machine.l2_read_per_second * 1e9
        parts = (time, pipes["vector"], pipes["mte2"] if not machine.direct else 0.0)
        waits = machine["fused_takes_turns"]
        time = time + pipes["vector"] if waits else overlapped(parts, machine["pipe_norm"])
    if problem.widening:
        # Vector cores make factors of weights block by block while the cube multiplies those before.
        pipes["vector"] = pipes.get("vector", 0.0) + problem.widening_ns(machine)
        if not machine.direct:
            factors = problem.widened_bytes
            gm += 2 * factors
            pipes["mte3"] = factors / machine.l2_write_per_second * 1e9
            pipes["mte2"] += factors / machine.l2_read_per_second * 1e9
        time = overlapped((time, *(pipes.get(name, 0.0) for name in ("vector", "mte2", "mte3"))), machine["pipe_norm"])
    if (passes or problem.widening) and not machine.direct:
        time += _vector_cores_beside(float(columns["blocks"][index]), passes, machine)
    bound = limit_of(pipes, time, machine)
    return KernelCost(
        duration_ns=round(time),
        bound=bound,
        pipes=pipes,
        flops=problem.flops,
        gm_bytes=round(gm),
        hbm_bytes=round(hbm),
        kind="matmul",
        tiling=found.tiling(index),
    )


def _vector_cores_beside(blocks: float, passes: float, machine: Machine) -> float:
    """
    Nanoseconds that a product on `blocks` cube cores takes longer because vector cores run beside them: they are
    started as well, and what they do with the last tile comes after it, step by step, as nothing is doubled there
    (ops-nn, quant_batch_matmul_v3_bf16.h and _pertoken.h): a way in and out of a core, and each of its instructions.
    """
    started = machine["head_ns_per_vector_core_beside"] * blocks * machine.vectors / machine.cubes
    last = machine["core_start_ns"] + machine["instruction_start_ns"] * passes if passes else 0.0
    return started + last
