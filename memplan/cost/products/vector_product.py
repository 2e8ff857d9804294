"""Products of types that the cube does not take, by vector units."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.products.matmul_problem import MatmulProblem
from memplan.cost.transfer import Copy, CopyTime, copy_time
from memplan.cost.vector.kernel_work import SUMMED_LANES

_WORD = 4
"""Bytes of an element of the types that these kernels are known for."""


@dataclass(frozen=True, slots=True)
class VectorProduct:
    """Nanoseconds of a product by vector units, on how many cores, and the bytes that they move."""

    duration: float
    vector: float
    copy: CopyTime
    cores: int
    moved: float


def vector_product(problem: MatmulProblem, machine: Machine, blocks: int = 0) -> VectorProduct:
    """
    A product of a type that the cube does not take, on `blocks` cores, or as many as the library uses.

    Its kernels for types of 4 bytes (CANN 8.1, impl/matmul_vector.py) make one row of the result at a time, for which
    all of B is read again: for each k a multiplication and an addition along N, or, where K is contiguous, for each n a
    multiplication and a sum along K. The buffers of A and B are doubled, not the result's. Of others nothing is known:
    they take all cores and read each operand once.
    """
    known = problem.a_bytes == problem.b_bytes == _WORD
    cores = min(blocks, machine.vectors) if blocks else _cores_of_rows(problem, machine) if known else machine.vectors
    along_k = problem.b_run == "k"
    passes = 1 + log2(SUMMED_LANES) if known and along_k else 2
    vector = problem.flops / 2 * passes / machine.vector_rate(cores) * 1e9
    if known:
        started = 2 * problem.batch * problem.m * (problem.n if along_k else problem.k) / cores
        vector = max(vector, started * machine["instruction_start_ns"])
    again = problem.b_total * (problem.m - 1) if known else 0.0
    kept = problem.b_total / problem.b_batch <= machine["l2_kept_share"] * machine.l2
    read = problem.a_total + problem.b_total + again
    moved = copy_time(Copy(read, problem.c_total, hot=again if kept else 0.0), machine, cores)
    busy = overlapped((moved.read_ns, vector), machine["pipe_norm"]) + moved.write_ns
    return VectorProduct(busy + machine.head_ns(0, cores), vector, moved, cores, read + problem.c_total)


def _cores_of_rows(problem: MatmulProblem, machine: Machine) -> int:
    """
    Rows are dealt out in equal parts, to one core alone if they are few or what a core writes is no whole blocks.

    Of many products it is they that are dealt out (CANN 8.1, impl/batch_matmul_vector.py).
    """
    rows = problem.m
    if problem.batch > 1:
        return ceil(problem.batch / ceil(problem.batch / machine.vectors)) if problem.n % 8 == 0 else 1
    cores = next((count for count in range(machine.vectors, 0, -1) if rows % count == 0), 1)
    whole = problem.n * rows // cores % 16 == 0 if problem.a_run == "m" else problem.n % 8 == 0
    return cores if rows >= machine.vectors and whole else 1
