"""
Tokens of ranks that are put in the order of their experts (MoeReRouting): a run for each rank and expert, the runs of
a rank on one core.
"""

from __future__ import annotations

from math import ceil

from memplan.cost.kernels.kernel import Kernel, Operand
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
    rule, counts = rank_runs(kernel.type), _counts(kernel)
    if rule is None or counts is None:
        return None
    ranks, experts = counts.shape
    dealt = kernel.block_count or ceil(ranks / ceil(ranks / machine.vectors))
    parts = 1 if kernel.block_count else _parts(rule, machine, ranks, experts)
    share = ceil(experts / parts)
    copies = rule.copies + (len(kernel.present) > _WITHOUT_SCALES)
    runs = ceil(ranks / dealt) * share
    return min(dealt * ceil(experts / share), machine.vectors), runs * copies * machine["instruction_start_ns"]


def bytes_of_a_run(kernel: Kernel) -> float:
    """Bytes of a rank's tokens of an expert on average, which are copied in together; 0 for other kernels."""
    counts = _counts(kernel)
    return 0.0 if counts is None else kernel.present[0].nbytes / counts.count


def bytes_of_counts(kernel: Kernel, machine: Machine) -> int:
    """Bytes of the counts that each core's scalar unit adds up before it copies anything; 0 for other kernels."""
    rule, counts = rank_runs(kernel.type), _counts(kernel)
    return counts.nbytes if rule and counts and machine.npu_arch in rule.counted_by_scalars else 0


def _counts(kernel: Kernel) -> Operand | None:
    """How many tokens each rank has for each expert; `None` for kernels of other types and where no counts are told."""
    if rank_runs(kernel.type) is None:
        return None
    told = (each for each in kernel.present[1:] if "int" in each.dtype and len(each.shape) == _COUNTED_AXES)
    return next((each for each in told if each.count), None)


def _parts(rule: RankRuns, machine: Machine, ranks: int, experts: int) -> int:
    """Cores to which the experts of a rank are dealt out."""
    if machine.npu_arch not in rule.divides_experts or ranks >= rule.many_ranks:
        return 1
    return max(min(machine.vectors // ranks, experts), 1)
