"""
Time of a vector kernel, which streams its operands through UB in double-buffered pieces.

It is that of GM traffic and of vector instructions side by side, plus the launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.transfer import Copy, CopyTime, copy_time, dirty_in_l2
from memplan.cost.vector.kernel_work import VectorWork

SCALAR_LINE_BYTES = 64
"""A line of the scalar unit's cache (vendor's guide, DataCacheCleanAndInvalid)."""


@dataclass(frozen=True, slots=True)
class VectorTime:
    """Nanoseconds by pipe and in all."""

    duration: float
    vector: float
    copy: CopyTime
    work: VectorWork


def vector_time(
    work: VectorWork,
    machine: Machine,
    *,
    hot: float = 0.0,
    kept: float | None = None,
    double_buffer: bool = True,
    code_ns: float = 0.0,
    clean: bool = False,
) -> VectorTime:
    """
    Time of `work`; `hot` bytes of its reads are in L2 (none by default) and `kept` of its writes stay there. `code_ns`
    is what its cores wait for their code, none where it ran just before.

    Writes go into L2; by default they stay as far as all that the kernel moves fits there, the rest is written back
    while it runs. Where L2 was `clean` before, the last that passed through it stays: among others, what those wrote
    has to make room.
    """
    if clean and work.written:
        stays = dirty_in_l2(work.read - work.over, work.written, machine.l2) / work.written
    else:
        stays = machine.stays_in_l2(work.read + work.written)
    copy = Copy(
        read=work.read + work.again,
        written=work.written,
        hot=min(work.read, hot) + work.again,
        kept=min(work.written, work.written * stays if kept is None else kept),
        instruction=work.piece,
        row=work.runs.read or work.piece,
        stride=work.runs.read,
        written_run=work.runs.written,
        apart=work.runs.apart,
        clean=clean,
    )
    moved = copy_time(copy, machine, work.cores)
    cycle = 1e9 / machine.vector_clock_hz / work.cores
    vector = (work.instructions + work.rows * work.row_starts * machine["row_cycles"]) * cycle
    # What the instructions of the first piece wait for is counted below.
    vector += work.piece_starts * (work.pieces - 1) * machine["piece_cycles"] * cycle * work.cores
    vector = max(vector, work.issued_ns)
    in_turn = moved.read_ns + moved.write_ns + vector
    if work.behind_sum:
        each = ceil(work.rows / work.cores)
        ahead = vector / 2 + overlapped((moved.read_ns, vector / 2), machine["pipe_norm"])
        # Only the first row of a core comes in alone; each waits for its way in and for a scalar.
        busy = max(ahead + (in_turn - ahead) / each, moved.together_ns) + 2 * each * machine["instruction_start_ns"]
    elif double_buffer:
        busy = overlapped((moved.together_ns, vector), machine["pipe_norm"])
        # The first piece is read before, and the last one written after, anything runs beside it.
        busy += (in_turn - max(moved.read_ns, moved.write_ns, vector)) / work.pieces
    else:
        busy = max(in_turn, moved.together_ns)
    start = machine["instruction_start_ns"] * work.steps + code_ns
    start += work.by_scalars / SCALAR_LINE_BYTES * machine["scalar_line_ns"]
    if work.stages:
        # All cores are waited for as they are when a kernel starts.
        start += work.stages * machine["head_ns_per_vector_core"] * work.cores
        start += work.merged * machine["merge_cycles"] * 1e9 / machine.vector_clock_hz
    return VectorTime(busy + start + machine.head_ns(0, work.cores), vector, moved, work)
