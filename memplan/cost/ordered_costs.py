"""
Costs of kernels in their order, each with L2 as those before it left it.

Rows of a profile tell shapes and no addresses. An operand is taken for the newest result of its shape, type and layout;
that it is in L2 still is said only while no more was moved since than what L2 holds for certain (`rows_held`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat

from memplan.cost.deviations import L2State
from memplan.cost.kernel_time import REREAD_KINDS, kernel_cost
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.cost.kernels.token_operands import of_tokens_alone
from memplan.cost.l2 import L2Access, graph_accesses, hot_shares, kernel_accesses, l2_states, pushed_shares
from memplan.cost.limits import KernelCost
from memplan.cost.machine import Machine
from memplan.graph import Graph


def graph_costs(graph: Graph, machine: Machine, states: Sequence[L2State] | None = None) -> list[KernelCost | None]:
    """
    Cost of every op of `graph` in order with L2 as the ops before left it; `None` for ops that launch nothing.

    `states` are the `asked_states` of its accesses, for who has them already.
    """
    if states is None:
        states = asked_states(graph_accesses(graph), machine)
    return [
        kernel_cost(kernel_of_op(op, graph), machine, state) if op.launches else None
        for op, state in zip(graph.ops, states, strict=True)
    ]


def asked_states(accesses: Sequence[L2Access], machine: Machine) -> list[L2State]:
    """What each op meets in L2, as far as `machine` asks: only a calibration does for what reads push out."""
    if machine.calibration is None:
        return [L2State(share) for share in hot_shares(accesses, machine.l2)]
    return l2_states(accesses, machine.l2)


def costs_in_order(kernels: Sequence[Kernel], machine: Machine, *, pushing: bool = True) -> list[KernelCost]:
    """
    The cost of each of a profile's `kernels`, in order of start, with L2 and the code in vector cores as those before
    it left them; the operands of products and attention count as cold.

    With `pushing` products wait for what their reads push out of L2 (`pushed_shares`, which a calibration asks itself).
    """
    costs = []
    last: object = None
    pushed: Iterable[tuple[float, float]] = repeat((1.0, 0.0), len(kernels))
    if pushing and machine["product_reads_push"]:
        accesses = kernel_accesses(list(map(of_tokens_alone, kernels)), reused=True)
        pushed = zip(hot_shares(accesses, machine.l2), pushed_shares(accesses, machine.l2), strict=True)
    held = hot_shares_of_rows(kernels, machine["rows_held"] * machine.l2)
    for kernel, share, (found, out) in zip(kernels, held, pushed, strict=True):
        alone = kernel_cost(kernel, machine)
        if alone.kind in REREAD_KINDS:
            costs.append(_pushing(kernel, alone, 1.0 - found, out, machine) if alone.kind == "matmul" else alone)
            continue
        code = kernel.type, tuple((operand.dtype, operand.layout) for operand in kernel.operands)
        costs.append(kernel_cost(kernel, machine, L2State(share), cold_code=code != last))
        last = code
    return costs


def _pushing(kernel: Kernel, alone: KernelCost, cold: float, out: float, machine: Machine) -> KernelCost:
    """
    A product that takes no less than HBM does for the share `cold` of its reads that comes from there and the share
    `out` that is pushed out for them. Only thin products are bound by that: others compute longer.
    """
    if out <= machine["mixed_traffic_from"] * (cold + out):
        return alone
    read = max(alone.hbm_bytes - kernel.written_bytes, 0)
    least = round(read * (cold + out) / (machine.hbm_bytes_per_second * machine["hbm_mixed_share"]) * 1e9)
    return replace(alone, duration_ns=max(alone.duration_ns, least))


def hot_shares_of_rows(kernels: Sequence[Kernel], room: float) -> Iterator[float]:
    """For each kernel the share of its read bytes that L2 holds, which is cold at first and keeps `room` bytes."""
    written: dict[Operand, float] = {}
    moved = 0.0
    for kernel in kernels:
        reads = [operand for operand in kernel.present if operand.count > 1]
        total = sum(operand.nbytes for operand in reads)
        hot = 0.0
        for operand in dict.fromkeys(reads):
            start = written.get(operand)
            if start is None or moved - start > room:
                continue
            hot += operand.nbytes
            written[operand] = moved
        moved += total
        for operand in kernel.outputs:
            written[operand] = moved
            moved += operand.nbytes
        yield hot / total if total else 0.0
