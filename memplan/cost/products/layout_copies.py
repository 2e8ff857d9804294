"""
Copies of a product's operands into the fractal layout, which vector cores make before the cube starts.

The library's product of 2201 (ops-nn, MatMulV3) lets MTE2 turn rows into fractals on the way where a row is short
enough for its instruction and begins on 256 bytes. Others are written to a workspace first: a block is read, turned and
written before the next one, and the cube waits until all of them are there. Graphs launch that kernel by the name of
the operation; profiles tell by the unit of a kernel whether vector cores took part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from memplan.core.resources import table
from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.op_classes import is_among
from memplan.cost.machine import Machine
from memplan.cost.operand_rows import line_share
from memplan.cost.products.matmul_problem import MatmulProblem
from memplan.cost.transfer import Copy, copy_time

_FRACTAL_BYTES, _FRACTAL_ROWS = 32, 16
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class LayoutCopies:
    """
    The product that the cube is left with, and what comes before: nanoseconds in all and of each pipe of the vector
    cores, bytes over GM and those that reach HBM. `avoidable` copies are not made where K is split over cores.
    """

    problem: MatmulProblem
    duration: float
    pipes: Mapping[str, float]
    gm_bytes: float
    hbm_bytes: float
    avoidable: bool


@cache
def _rule() -> Mapping[str, Any]:
    return dict(table("memplan.cost", "kernels.json")["copies_layout"])


_IN_BLOCKS = frozenset({"NZ", "NC1HWC0", "FRACTAL_Z"})


def as_cube_takes(kernel: Kernel, machine: Machine, *, blocks_alone: bool) -> Kernel:
    """
    `kernel` as a cube without float32 runs it, whose operands are halves then.

    A framework may tell the type of a tensor in front of the cast that its kernel needs. Of products the library
    multiplies float32 by vector units where it lies in rows (`blocks_alone`), in blocks the cube's types alone (CANN
    8.1, impl/dynamic/mat_mul.py and batch_matmul.py, `base_op_select_format`; MindSpore's matmul.py lists them), unless
    libraries of the generation make halves of all (`float32_as_halves`); of convolutions it has no other kernel. Where
    the cube lacks bfloat16 no kernel takes it: such a network runs in halves.
    """
    if machine.mac_rate("float32") or not machine.mac_rate("float16"):
        return kernel
    in_rows = not blocks_alone or bool(machine["float32_as_halves"])

    def halves(operand: Operand | None) -> Operand | None:
        if operand is None or machine.mac_rate(operand.dtype):
            return operand
        made = operand.dtype == "bfloat16" or (operand.dtype == "float32" and (in_rows or operand.layout in _IN_BLOCKS))
        return replace(operand, dtype="float16", stored=-1) if made else operand

    return replace(kernel, inputs=tuple(halves(each) for each in kernel.inputs))


def layout_copies(kernel: Kernel, problem: MatmulProblem, machine: Machine) -> LayoutCopies | None:
    """What vector cores copy before `problem`, `None` where the cube takes both operands as they lie."""
    told = kernel.core.upper() in ("", "MIX_AIC") and is_among(kernel.type, "copies_layout", "types")
    if machine.direct or not told or problem.batch > 1:
        return None
    sides = _sides(problem)
    copied = [_is_copied(inner, width) for _, inner, width in sides]
    conflict = _conflicts(problem)
    copied = [run != "nz" and (must or (side == 1 and conflict)) for side, (run, must) in enumerate(
        zip((problem.a_run, problem.b_run), copied, strict=True)
    )]  # fmt: skip
    if not any(copied):
        return None
    duration, moved, from_hbm, hot = machine["head_ns_per_vector_core_beside"] * machine.vectors, 0.0, 0.0, 0.0
    pipes = {"vector": 0.0, "mte3": 0.0, "mte2": 0.0}
    for (outer, inner, width), must in zip(sides, copied, strict=True):
        if not must:
            continue
        size = outer * inner * width
        row, rows = _block(outer, inner, width, machine)
        stays = machine.stays_in_l2(2 * size)
        piece = row * rows * width
        time = copy_time(
            Copy(size, size, kept=size * stays, instruction=piece, row=row * width, stride=inner * width,
                 written_run=rows * _FRACTAL_BYTES),
            machine, machine.vectors,
        )  # fmt: skip
        lines = float(line_share(rows * _FRACTAL_BYTES, machine["alignment"]))
        turn = size / width / machine.element_lanes(round(width)) / machine["vector_efficiency"]
        vector = turn / machine.vector_clock_hz / machine.vectors * 1e9
        duration += time.read_ns + vector + time.write_ns / lines
        pipes["vector"] += vector
        pipes["mte3"] += time.write_ns / lines
        pipes["mte2"] += time.read_ns
        moved, from_hbm, hot = moved + 2 * size, from_hbm + time.hbm_bytes, hot + size * stays
    left = replace(
        problem,
        a_run="nz" if copied[0] else problem.a_run,
        b_run="nz" if copied[1] else problem.b_run,
        hot_bytes=hot,
    )
    split = all(_turned_if_split(inner, width) for (_, inner, width), must in zip(sides, copied, strict=True) if must)
    return LayoutCopies(left, duration, pipes, moved, from_hbm, split)


def _sides(problem: MatmulProblem) -> tuple[tuple[int, int, float], tuple[int, int, float]]:
    """Of A and of B: rows in GM, elements of a row, bytes of an element."""
    a = (problem.k, problem.m) if problem.a_run == "m" else (problem.m, problem.k)
    b = (problem.n, problem.k) if problem.b_run == "k" else (problem.k, problem.n)
    return (*a, problem.a_bytes), (*b, problem.b_bytes)


def _is_copied(inner: int, width: float) -> bool:
    """Whether rows of `inner` elements can't be turned on the way; float32 alone has short rows that can."""
    rule = _rule()
    size = inner * width
    if inner > rule["longest_row_elements"]:
        return True
    return size % rule["row_bytes"] != 0 and size not in rule["short_row_bytes"] and width < _FLOAT_BYTES


def _turned_if_split(inner: int, width: float) -> bool:
    return bool(_rule()["split_row_bytes"] <= inner * width and inner <= _rule()["longest_row_elements"])


def _conflicts(problem: MatmulProblem) -> bool:
    """Whether rows of B lie so far apart that all cores ask the same bank of memory."""
    rule = _rule()["conflicts"]
    return bool(
        problem.b_run == "n" and problem.b_bytes == problem.a_bytes < _FLOAT_BYTES
        and problem.n % rule["columns"] == 0 and problem.m > rule["rows_above"] and problem.k >= rule["depth"]
    )  # fmt: skip


def _block(outer: int, inner: int, width: float, machine: Machine) -> tuple[int, int]:
    """Elements of a row and rows of the block that a core turns at a time in half of UB."""
    half = machine.ub // 2
    row = inner if inner * width <= _rule()["whole_row_bytes"] else min(inner, int(_rule()["part_row_bytes"] / width))
    rows = max(int(half / (row * width)), 1)
    if row == inner:
        rows = min(rows, -(-outer // machine.vectors))
    return row, max(rows, _FRACTAL_ROWS)
