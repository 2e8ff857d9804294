"""What a vector kernel does: the bytes it moves, its instructions, and the pieces they go over."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import (
    OpClass,
    one_row_at_a_time,
    reads_groups_again,
    reads_rows_behind_sum,
    reduced_row,
    sums_groups,
    takes_turns,
    tiling_bytes,
    writes_cache,
)
from memplan.cost.machine import Machine
from memplan.cost.vector.core_cut import core_cut_of
from memplan.cost.vector.rank_runs import bytes_of_a_run, bytes_of_counts
from memplan.cost.vector.row_turns import row_turns
from memplan.cost.vector.runs import BLOCK_BYTES, Runs, contiguous_runs, turned_bytes
from memplan.cost.vector.thread_turns import thread_turns
from memplan.cost.vector.traffic import added_rows, bytes_passed, lines_of_blocks, scattered, traffic_of
from memplan.cost.vector.windows import BLOCK_CHANNELS, Windows, windows_of
from memplan.graph.model import DTYPE_BITS

_PIECES = 2
"""Copies of every piece in UB."""
_HALF = 2
"""Bytes of a half."""
SUMMED_LANES = 64
"""Elements of 4 bytes that one reduction adds up, halving them."""
_PIECEWISE = frozenset({"vector", "optimizer", "fill", "slice", "gather", "transpose"})
"""Kinds whose instructions go over a piece each, one after the other."""


@dataclass(frozen=True, slots=True)
class VectorWork:
    """
    What a vector kernel does: bytes over GM, instructions, and how it is cut.

    `issued_ns` is what starting the instructions of the busiest core takes, however little they do. `stages` come
    behind what all cores do side by side, each when all of them are done, with `merged` elements of one core in all.
    Each row starts `row_starts` instructions that wait for each other. Of what is read, `again` bytes are read once
    more, from L2, and `over` bytes are written over. Each piece starts `piece_starts` instructions anew; where these
    are none the efficiency of the vector unit stands for it. Where rows are read `behind_sum` of the one before, the
    first half of their instructions waits for them. What is done `in_turn` doubles no buffer: a piece, or a row, is
    written before the next one is read. Before anything each core's scalar unit reads `by_scalars` bytes, of its cut or
    of counts.
    """

    read: float
    written: float
    elements: float
    instructions: float
    rows: float
    row_elements: float
    runs: Runs
    cores: int
    piece: float
    pieces: float
    steps: float
    issued_ns: float
    stages: int = 0
    merged: float = 0.0
    row_starts: float = 1.0
    again: float = 0.0
    piece_starts: float = 0.0
    over: float = 0.0
    behind_sum: bool = False
    in_turn: bool = False
    by_scalars: int = 0


def vector_passes(rule: OpClass, machine: Machine) -> float:
    """Vector instructions per element of `rule`, slow ones counted by what they take."""
    return rule.passes + rule.transcendentals * machine["transcendental_cycles"]


def vector_work(kernel: Kernel, rule: OpClass, machine: Machine) -> VectorWork:
    """Bytes and instructions of `kernel` by its class."""
    largest = max(kernel.operands, key=lambda operand: operand.nbytes, default=Operand((), "float32"))
    read, written, run = traffic_of(kernel, rule)
    joined = bool(machine["short_runs_join"])
    run = bytes_of_a_run(kernel) or run
    runs = Runs(read=run) if run else contiguous_runs(kernel, rule, joined=joined)
    turned = turned_bytes(kernel, rule) if joined else 0.0
    turns = thread_turns(kernel, machine) or row_turns(kernel, rule, machine)
    if turns is not None:
        read, written, runs = turns.read, turns.written, Runs()
    elif joined and rule.kind == "slice":
        # Rows that are turned are read whole; what the gradient of a slice is set into is written alone.
        read = float(kernel.read_bytes) if turned else min(read, float(kernel.read_bytes))
    elif joined and rule.rule == "scatter":
        read, written, runs = added_rows(kernel)
    elif rule.kind == "slice":
        read *= bytes_passed(kernel, machine["alignment"])
    elif writes_cache(kernel.type):
        read += lines_of_blocks(kernel, machine["alignment"])
    windows = windows_of(kernel) if rule.kind == "pooling" else None
    count = _elements(kernel, rule, windows)
    width, passes, steps = _instructions(kernel, rule, machine, count, largest)
    piecewise = rule.kind in _PIECEWISE and machine["piece_cycles"] > 0
    if machine["keeps_registers"]:
        # One function does all of them to a piece.
        steps = min(steps, 1.0)
    lanes = machine.element_lanes(width)
    if rule.kind == "pooling":
        # Neighbouring pixels of the result have taps in common, blocks of channels have none.
        lanes = min(lanes, BLOCK_CHANNELS)
    by_threads = turns is not None and not turns.in_turn
    # Threads pick elements of rows on their own, each a piece of its own.
    rows = 0.0 if by_threads else _rows_alone(kernel, rule, largest)
    row_starts = _row_starts(kernel, largest, steps, machine)
    cut = (
        core_cut_of(kernel, rule, machine, largest, rows if row_starts > 1 else 0.0, windows)
        if turns is None
        else turns.cut
    )
    operands = max(len([op for op in kernel.operands if op.count * 4 >= count]), 1)
    room = machine.ub / (_PIECES * operands) / (2 if passes > 4 else 1)
    if piecewise:
        # What is computed with lies there as wide as it is computed.
        room *= min(largest.nbytes / max(largest.count, 1) / width, 1.0)
    piece = max(min(room, (read + written) / operands / cut.parts), 32.0)
    pieces = max(count / cut.cores if by_threads else (read + written) / operands / cut.cores / piece, 1.0)
    again = _read_again(kernel, rule, machine)
    if rule.kind == "rows" and not again:
        # What is known of a row has to be known before any of it goes out.
        pieces = min(pieces, max(ceil(rows / cut.cores), 1.0))
    return VectorWork(
        read=read,
        written=written,
        elements=count,
        instructions=count * passes / lanes / (1.0 if piecewise else machine["vector_efficiency"])
        + turned / BLOCK_BYTES,
        rows=rows,
        row_elements=largest.count / rows if rows else 0.0,
        runs=runs,
        cores=cut.cores,
        piece=min(piece, runs.read) if runs.read else piece,
        pieces=pieces,
        steps=steps,
        issued_ns=cut.issued_ns,
        stages=cut.stages,
        merged=cut.merged,
        row_starts=row_starts,
        again=again,
        piece_starts=steps if piecewise and not by_threads else 0.0,
        over=min(read, written) if rule.kind == "optimizer" else 0.0,
        behind_sum=row_starts > 1 and reads_rows_behind_sum(kernel.type),
        in_turn=(turns is not None and not by_threads) or takes_turns(kernel.type, machine.npu_arch),
        by_scalars=tiling_bytes(kernel.type, machine.npu_arch) + bytes_of_counts(kernel, machine),
    )


_READ_THREE_TIMES = frozenset({"softmax", "masked_softmax", "log_softmax", "softmax_loss"})
"""Rules of rows that are read for the largest element, for the sum, and for the result."""
_ROW_BYTES = 16
"""Bytes of UB that an element of a row takes that is kept there: 12,288 in 192 KB (ops-nn, rms_norm_tiling.cpp)."""


def _read_again(kernel: Kernel, rule: OpClass, machine: Machine) -> float:
    """
    Bytes of rows that don't fit into UB whole, which are read anew for what is known of them only at their end.

    A softmax reads them for the largest, the sum and the result, a norm for the sum and the result (ops-nn,
    rms_norm_split_d.h).
    """
    if rule.kind != "rows":
        return 0.0
    if reads_groups_again(kernel, machine.npu_arch):
        return float(kernel.present[0].nbytes)
    long = [
        each
        for each in kernel.present
        if each.layout == "ND" and each.shape and _ROW_BYTES * _whole_row(kernel, each) > machine.ub
    ]
    return float(sum(each.nbytes for each in long) * (2 if rule.rule in _READ_THREE_TIMES else 1))


def _whole_row(kernel: Kernel, operand: Operand) -> int:
    """Elements that a core has to hold of a row: a group of channels, else what lies along the last axis."""
    return reduced_row(kernel, operand) if sums_groups(kernel) and operand == kernel.present[0] else operand.shape[-1]


def _elements(kernel: Kernel, rule: OpClass, windows: Windows | None) -> float:
    """Elements on which the instructions of a class are carried out; a byte of a mask has eight."""
    if rule.rule == "random":
        return float(sum(operand.count * (8 if operand.dtype == "uint8" else 1) for operand in kernel.outputs) or 1)
    if windows is not None:
        return float(windows.count)
    if rule.rule == "scatter" and kernel.present and kernel.outputs:
        return float(max((operand.count for operand in scattered(kernel)), default=1))
    given = rule.kind in ("gather", "slice", "pooling") or rule.rule == "swiglu_quant"
    return float(max((operand.count for operand in (kernel.outputs if given else kernel.operands)), default=1))


def _instructions(
    kernel: Kernel, rule: OpClass, machine: Machine, count: float, largest: Operand
) -> tuple[int, float, float]:
    """Bytes that an element takes while it is computed with, its vector instructions, and how many start in turn."""
    width = max((_compute_width(operand.dtype) for operand in kernel.operands if operand.count * 4 >= count), default=4)
    passes, steps = vector_passes(rule, machine), rule.passes + rule.transcendentals
    if rule.kind == "reduction":
        steps += log2(SUMMED_LANES)
        if width == _HALF and any(operand.dtype == "float32" for operand in kernel.outputs):
            # Sums are carried in the type of the result: each element is cast to it first.
            width, passes, steps = 2 * _HALF, passes + 1, steps + 1
    if rule.rule == "swiglu_quant" and kernel.present and kernel.present[0].dtype == "int32":
        # Each half by the factors of its columns and of its row.
        passes, steps = passes + 4, steps + 4
    if rule.widens or rule.rule == "swiglu_quant":
        # Norms and softmax compute in float32 whatever they are given.
        width = max(width, 4)
    if rule.kind == "sort":
        if rule.rule == "top_k":
            # What is sorted are pairs of a float32 and where it was, in 32 bits each.
            width = 4
        passes *= max(log2(max(largest.shape[-1] if largest.shape else 1, 2)), 1.0)
    if passes and count and "cast" not in kernel.type.casefold():
        # What the vector unit can't add as it is stored is cast on the way in and out.
        cast = ("bfloat16", "float16") if rule.widens else ("bfloat16",)
        casts = [min(op.count / count, 1.0) for op in kernel.operands if op.dtype in cast and op.count > 1]
        passes, steps = passes + sum(casts), steps + len(casts)
    if width == 8 and passes:
        # 64-bit integers are computed in 32-bit halves.
        passes, steps = passes * 4, steps * 4
    return width, passes, steps


def _rows_alone(kernel: Kernel, rule: OpClass, largest: Operand) -> float:
    """Rows that a norm or a sum goes along, 0 for classes without."""
    if rule.kind not in ("rows", "reduction") or not largest.shape:
        return 0.0
    rows = largest.count / reduced_row(kernel, largest) if largest.count else 0.0
    if rule.kind == "reduction" and kernel.outputs and kernel.outputs[0].count < rows:
        rows = float(kernel.outputs[0].count)
    return rows


def _row_starts(kernel: Kernel, largest: Operand, steps: float, machine: Machine) -> float:
    """
    Instructions that a row starts on its own: one where rows share them, all of the definition's where a kernel works
    on one row at a time, which is halved until a register holds what is left to add up.
    """
    row = reduced_row(kernel, largest) if largest.shape else 1
    if machine["keeps_registers"] or not one_row_at_a_time(kernel.type, row, machine.family):
        return 1.0
    return steps + max(log2(row / SUMMED_LANES), 0.0)


def _compute_width(dtype: str) -> int:
    """Bytes an element takes while it is computed with: bfloat16 as float32, small integers as halves."""
    if dtype == "bfloat16":
        return 4
    return max(DTYPE_BITS.get(dtype, 32) // 8, 2)
