"""
Tokens of ranks that are put in the order of their experts (MoeReRouting): a run for each rank and expert, the runs of
a rank on one core.
"""

from __future__ import annotations

from math import ceil

from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import RankRuns, rank_runs
from memplan.cost.machine import Machine

_COUNTED_AXES = 2
_WITHOUT_SCALES = 2
"""Operands, tokens and counts, where tokens have no scales."""


def cut_of_ranks(kernel: Kernel, machine: Machine) -> tuple[int, float] | None:
    """
    Cores that get runs, and nanoseconds that what the busiest one copies out takes to start, an expert's tokens, their
    places and their scales one behind the other; `None` for kernels of other types and where no counts are told.
    """
    rule, counted = rank_runs(kernel.type), _counted(kernel)
    if rule is None or counted is None:
        return None
    ranks, experts = counted
    dealt = kernel.block_count or ceil(ranks / ceil(ranks / machine.vectors))
    parts = 1 if kernel.block_count else _parts(rule, machine, ranks, experts)
    share = ceil(experts / parts)
    copies = rule.copies + (len(kernel.present) > _WITHOUT_SCALES)
    runs = ceil(ranks / dealt) * share
    return min(dealt * ceil(experts / share), machine.vectors), runs * copies * machine["instruction_start_ns"]


def bytes_of_a_run(kernel: Kernel) -> float:
    """Bytes of a rank's tokens of an expert on average, which are copied in together; 0 for other kernels."""
    counted = _counted(kernel)
    if rank_runs(kernel.type) is None or counted is None:
        return 0.0
    return kernel.present[0].nbytes / (counted[0] * counted[1])


def bytes_of_counts(kernel: Kernel, machine: Machine) -> int:
    """Bytes of the counts that each core's scalar unit adds up before it copies anything; 0 for other kernels."""
    rule = rank_runs(kernel.type)
    if rule is None or machine.npu_arch not in rule.counted_by_scalars or _counted(kernel) is None:
        return 0
    return next(each.nbytes for each in kernel.present[1:] if each.shape == _counted(kernel))


def _counted(kernel: Kernel) -> tuple[int, int] | None:
    """Ranks, and experts of a rank, for which tokens are counted; `None` where no such counts are given."""
    counts = [each.shape for each in kernel.present[1:] if "int" in each.dtype and len(each.shape) == _COUNTED_AXES]
    return (counts[0][0], counts[0][1]) if counts and all(counts[0]) else None


def _parts(rule: RankRuns, machine: Machine, ranks: int, experts: int) -> int:
    """Cores to which the experts of a rank are dealt out."""
    if machine.npu_arch not in rule.divides_experts or ranks >= rule.many_ranks:
        return 1
    return max(min(machine.vectors // ranks, experts), 1)
