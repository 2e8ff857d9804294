"""How a vector kernel is dealt out to cores."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import (
    OpClass,
    index_rows,
    is_among,
    reduced_row,
    row_transfers,
    takes_all_cores,
    writes_cache,
)
from memplan.cost.machine import Machine
from memplan.cost.vector.index_search import search_ns
from memplan.cost.vector.rank_runs import cut_of_ranks
from memplan.cost.vector.runs import relayout_of
from memplan.cost.vector.summed_rows import cut_of_sums
from memplan.cost.vector.traffic import row_count
from memplan.cost.vector.windows import Windows

_LEAST_SORTED, _MERGED_LISTS = 32, 4
"""Elements that the vector unit sorts at once, and sorted lists that it merges at once."""


@dataclass(frozen=True, slots=True)
class CoreCut:
    """
    How a kernel is dealt out: its cores, the parts that its bytes come to, what the transfers or instructions of the
    busiest core take to start, and the stages behind what all cores do side by side.
    """

    cores: int
    parts: int
    issued_ns: float = 0.0
    stages: int = 0
    merged: float = 0.0


def core_cut_of(
    kernel: Kernel, rule: OpClass, machine: Machine, largest: Operand, alone: float, windows: Windows | None
) -> CoreCut:
    """
    The cut of a kernel, of which `alone` rows are worked on one at a time: by the rule of its library where one is
    known, else as far as a core gets enough bytes. Cores that a profile told are taken.
    """
    told, most = kernel.block_count, machine.vectors
    relayout = relayout_of(kernel, machine)
    if rule.rule == "top_k" and largest.count:
        cores = told or min(most, ceil(largest.count / _LEAST_SORTED))
        stages, merged = _merges(kernel, largest, cores)
        return CoreCut(cores, cores, stages=stages, merged=merged)
    if relayout is not None:
        return CoreCut(relayout.cores, relayout.cores, relayout.cycles * 1e9 / machine.vector_clock_hz)
    if told:
        cores = told
    elif alone:
        cores = ceil(alone / ceil(alone / most))
    elif takes_all_cores(kernel.type):
        cores = most
    else:
        cores = min(most, max(1, int(-(-largest.nbytes // machine["bytes_per_core"]))))
    cores = min(cores, _most_cores(kernel, rule, machine))
    dealt_whole = cut_of_ranks(kernel, machine) or cut_of_sums(kernel, machine)
    if dealt_whole is not None:
        return CoreCut(dealt_whole[0], dealt_whole[0], dealt_whole[1])
    if not told:
        cores = min(cores, _cores_of_whole_rows(kernel, rule, largest, machine))
    if rule.rule == "copy" and writes_cache(kernel.type) and kernel.present:
        dealt, issued = _token_copies(kernel, machine)
        return CoreCut(dealt, cores, issued)
    transfers = row_transfers(kernel.type, machine.npu_arch)
    if transfers and kernel.present:
        normed = int(row_count(kernel.present[0]))
        busy = told or min(normed, most)
        return CoreCut(busy, cores, ceil(normed / busy) * transfers * machine["instruction_start_ns"])
    searched = search_ns(kernel, machine, cores)
    if searched:
        return CoreCut(cores, cores, searched)
    if machine["short_runs_join"] and _pads_rows(kernel):
        # Each row comes in and goes out before the next one (CANN 8.1, impl/pad_d.py, whose loops are serial).
        rows = kernel.outputs[0].count / kernel.outputs[0].shape[-1]
        return CoreCut(cores, cores, ceil(rows / cores) * 2 * machine["instruction_start_ns"])
    # The way back adds to the windows one after the other on every generation.
    unfolds = machine["windows_unfold"] and rule.rule == "max_pooling"
    if windows is not None and not unfolds:
        return CoreCut(cores, cores, windows.instructions(cores) * machine["instruction_start_ns"])
    return CoreCut(cores, cores)


def _pads_rows(kernel: Kernel) -> bool:
    """Whether a padding makes rows longer that are no blocks of channels."""
    if not kernel.type.startswith("Pad") or not kernel.present or not kernel.outputs:
        return False
    source, result = kernel.present[0].shape, kernel.outputs[0].shape
    return len(source) == len(result) > 0 < source[-1] < result[-1]


def _token_copies(kernel: Kernel, machine: Machine) -> tuple[int, float]:
    """
    Cores among which tokens are dealt out that are written into caches, and nanoseconds of the busiest one's transfers:
    of each token what goes into a cache is read and written, each transfer behind the one before.
    """
    tokens = max(kernel.present[0].shape[0], 1) if kernel.present[0].shape else 1
    cores = kernel.block_count or min(tokens, machine.vectors)
    transfers = 2 * max(len(kernel.outputs), 1)
    return cores, ceil(tokens / cores) * transfers * machine["instruction_start_ns"]


def _merges(kernel: Kernel, rows: Operand, cores: int) -> tuple[int, float]:
    """
    Stages in which sorted pieces of each row are merged, four lists at a time, and the elements that one core merges.

    Of each list no more is kept than the kernel gives.
    """
    length = max(rows.shape[-1], 1) if rows.shape else 1
    lists = min(cores * length // max(rows.count, 1), ceil(length / _LEAST_SORTED))
    kept = kernel.outputs[0].shape[-1] if kernel.outputs and kernel.outputs[0].shape else length
    size, stages, merged = length / max(lists, 1), 0, 0.0
    while lists > 1:
        together = min(lists, _MERGED_LISTS)
        size = min(size, kept)
        merged += together * size
        size, lists, stages = together * size, ceil(lists / _MERGED_LISTS), stages + 1
    return stages, merged


def _most_cores(kernel: Kernel, rule: OpClass, machine: Machine) -> int:
    """All cores, but a sum over images and pixels of each channel keeps every block of channels on one of them."""
    image = kernel.present[0] if kernel.present else None
    if rule.kind != "reduction" or image is None or not image.is_blocked_image:
        return machine.vectors
    blocks, channels = image.shape[1], image.shape[1] * image.shape[4]
    by_channel = kernel.outputs and kernel.outputs[0].count <= channels
    return min(machine.vectors, max(blocks, 1)) if by_channel else machine.vectors


def _cores_of_whole_rows(kernel: Kernel, rule: OpClass, largest: Operand, machine: Machine) -> int:
    """The most cores that get whole rows, where none is divided: of norms, of softmax, of where the largest is."""
    rows = largest.count / reduced_row(kernel, largest) if largest.shape else 1.0
    together = index_rows(kernel.type, machine.npu_arch)
    if together and kernel.outputs and kernel.outputs[0].count == rows:
        return max(ceil(rows / together), 1)
    whole = rule.kind == "rows" or is_among(kernel.type, "whole_rows", "types")
    return max(ceil(rows), 1) if whole and largest.layout == "ND" else max(largest.count, 1)
