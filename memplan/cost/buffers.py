"""
What a kernel keeps on chip: its buffers by tier, how many copies of each, and over which stages of the pipeline.

A stage is one step of an iteration; iterations overlap, so that stage `s` of iteration `i` runs at slot `i + s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from memplan.core.units import round_up
from memplan.cost.attention import SLICE, AttentionProblem, AttentionTime
from memplan.cost.kernels.kernel import Kernel
from memplan.cost.kernels.op_classes import op_class
from memplan.cost.machine import Machine
from memplan.cost.products import MatmulProblem, Tiling
from memplan.cost.vector import VectorWork
from memplan.graph.model import DTYPE_BITS
from memplan.schema.planned_tiling import Stage

MATMUL_STAGES = (
    Stage("GM to L1", "MTE2"), Stage("L1 to L0", "MTE1"), Stage("multiply", "cube"), Stage("L0C to GM", "FixPipe"),
)  # fmt: skip
VECTOR_STAGES = Stage("GM to UB", "MTE2"), Stage("compute", "vector"), Stage("UB to GM", "MTE3")


def attention_stages(machine: Machine) -> tuple[Stage, ...]:
    """Stages of an attention kernel; probabilities go back to L1 through GM where cube and vector share no buffer."""
    return (
        Stage("keys to L1", "MTE2"), Stage("keys to L0", "MTE1"), Stage("scores", "cube"),
        Stage("scores out", "FixPipe"), Stage("softmax", "vector"),
        Stage("P, V to L1", "MTE3" if machine.direct else "MTE2"), Stage("P, V to L0", "MTE1"),
        Stage("P times V", "cube"), Stage("product out", "FixPipe"), Stage("rescale", "vector"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BufferNeed:
    """
    `copies` buffers of `size` bytes in `tier`, each filled at stage `first` by pipe `filled_by` and last read at stage
    `last` by pipe `read_by`. A buffer that `stays` is filled once and kept over all iterations.
    """

    name: str
    tier: str
    size: int
    copies: int
    first: int
    last: int
    filled_by: str
    read_by: str
    stays: bool = False


def matmul_buffers(problem: MatmulProblem, tiling: Tiling) -> list[BufferNeed]:
    """Buffers of a matmul over `MATMUL_STAGES`."""
    fractal = int(32 / max(problem.a_bytes, problem.b_bytes))
    depth = round_up(ceil(problem.k / tiling.splits), fractal)
    k_l1, k = min(tiling.k_l1, depth), min(tiling.k, depth)
    needs = []
    for name, extent, width in (("A", tiling.m, problem.a_bytes), ("B", tiling.n, problem.b_bytes)):
        stays = tiling.resident == name
        size = ceil(extent * (depth if stays else k_l1) * width)
        copies = 1 if stays else tiling.l1_buffers
        needs.append(
            BufferNeed(
                f"{name} slice" if not stays else f"{name} panel", "L1", size, copies, 0, 1, "MTE2", "MTE1", stays
            )
        )
        needs.append(BufferNeed(f"{name} tile", f"L0{name}", ceil(extent * k * width), 2, 1, 2, "MTE1", "cube"))
    needs.append(BufferNeed("C tile", "L0C", tiling.m * tiling.n * 4, tiling.l0c_buffers, 2, 3, "cube", "FixPipe"))
    return needs


def vector_buffers(kernel: Kernel, work: VectorWork) -> list[BufferNeed]:
    """Buffers of a vector kernel over `VECTOR_STAGES`."""
    needs = []
    full = [op for op in kernel.operands if op.count * 4 >= work.elements]
    largest = max((DTYPE_BITS.get(op.dtype, 16) for op in full), default=16)
    for index, operand in enumerate(kernel.present):
        if operand in full:
            size = max(int(work.piece * DTYPE_BITS.get(operand.dtype, 16) // largest) // 32 * 32, 32)
            needs.append(BufferNeed(f"input {index}", "UB", size, 2, 0, 1, "MTE2", "vector"))
    for index, operand in enumerate(kernel.outputs):
        if operand in full:
            size = max(int(work.piece * DTYPE_BITS.get(operand.dtype, 16) // largest) // 32 * 32, 32)
            needs.append(BufferNeed(f"output {index}", "UB", size, 2, 1, 2, "vector", "MTE3"))
    if op_class(kernel.type).passes > 4:
        needs.append(BufferNeed("intermediate", "UB", max(int(work.piece) // 32 * 32, 32), 1, 1, 1, "vector", "vector"))
    return needs


def attention_buffers(problem: AttentionProblem, time: AttentionTime, machine: Machine) -> list[BufferNeed]:
    """Buffers of an attention kernel over `attention_stages`."""
    q, kv, width = time.block_q, time.block_kv, problem.q_bytes
    step_k = _slice(q, problem.d_qk, problem, machine)
    part = min(kv, SLICE, machine.l0c // (2 * q * 4) // 16 * 16)
    right = min(ceil(part * step_k * problem.kv_bytes), machine.l0b // 2)
    rows = _rows_in_ub(kv, problem, machine, q)
    needs = [
        BufferNeed("Q", "L1", ceil(q * problem.d_qk * width), 1, 0, 1, "MTE2", "MTE1", stays=True),
        BufferNeed("K", "L1", ceil(part * problem.d_qk * problem.kv_bytes), 2, 0, 1, "MTE2", "MTE1"),
        BufferNeed("Q or P tile", "L0A", ceil(q * step_k * width), 2, 1, 2, "MTE1", "cube"),
        BufferNeed("K or V tile", "L0B", right, 2, 1, 2, "MTE1", "cube"),
        BufferNeed("S tile", "L0C", q * part * 4, 2, 2, 3, "cube", "FixPipe"),
        BufferNeed("S rows", "UB", rows * kv * 4, 2, 3, 4, "FixPipe" if machine.direct else "MTE2", "vector"),
    ]
    if not problem.indexer:
        source = "MTE3" if machine.direct else "MTE2"
        needs += [
            BufferNeed("P", "L1", ceil(q * part * width), 2, 5, 6, source, "MTE1"),
            BufferNeed("P rows", "UB", ceil(rows * kv * width), 2, 4, 5, "vector", "MTE3"),
            BufferNeed("O rows", "UB", rows * problem.d_v * 4, 1, 8, 9, "MTE2", "vector", stays=True),
        ]
        if not problem.shared_kv:
            needs.append(BufferNeed("V", "L1", ceil(part * problem.d_v * problem.kv_bytes), 2, 5, 6, "MTE2", "MTE1"))
    needs.append(BufferNeed("row maxima and sums", "UB", max(q, 8) * 2 * 32, 1, 4, 9, "vector", "vector", stays=True))
    return needs


def _slice(q: int, depth: int, problem: AttentionProblem, machine: Machine) -> int:
    """How much of the head size an L0A slice holds, twice buffered."""
    room = int(machine.l0a // (2 * q * problem.q_bytes)) // 16 * 16
    return max(min(depth, room, 128), 16)


def _rows_in_ub(kv: int, problem: AttentionProblem, machine: Machine, q: int) -> int:
    """Rows of scores that one vector core holds with everything double-buffered; a multiple of 8 where one fits."""
    room = machine.ub - max(q, 8) * 64
    row = 2 * kv * 4 + 2 * kv * problem.q_bytes + problem.d_v * 4
    rows = int(room // row)
    return max(min(rows // 8 * 8 or rows, max(q // 2, 1)), 1)
