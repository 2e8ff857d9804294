"""
Kernels of a profile in the order they ran: what one leaves in L2 the next ones may read there, and cores have its code.

Rows of a profile tell shapes and no addresses. An operand is taken for the newest result of its shape, type and layout;
that it is in L2 still is said only while no more was moved since than what L2 certainly holds (`l2_held_whole`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.cost.kernel import Kernel, Operand
from memplan.cost.kernel_time import KernelCost, kernel_cost
from memplan.cost.machine import Machine, shared_constants

_PRODUCTS = ("matmul", "attention")
"""Formulas whose constants were found on operands that are cold, as these kernels read them many times over."""


def costs_in_order(kernels: Sequence[Kernel], machine: Machine) -> list[KernelCost]:
    """
    The cost of each of a profile's `kernels`, in order of start, with L2 and the code in vector cores as those before
    it left them; the operands of products and attention count as cold.
    """
    costs = []
    last: object = None
    for kernel, share in zip(kernels, hot_shares_of_rows(kernels, machine.l2), strict=True):
        if kernel_cost(kernel, machine).kind in _PRODUCTS:
            costs.append(kernel_cost(kernel, machine))
            continue
        code = kernel.type, tuple((operand.dtype, operand.layout) for operand in kernel.operands)
        costs.append(kernel_cost(kernel, machine, hot_share=share, cold_code=code != last))
        last = code
    return costs


def hot_shares_of_rows(kernels: Sequence[Kernel], l2_bytes: int) -> Iterator[float]:
    """For each kernel the share of its read bytes that L2 holds, which is cold at first; `l2_bytes` is its size."""
    room = shared_constants()["l2_held_whole"] * l2_bytes
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
