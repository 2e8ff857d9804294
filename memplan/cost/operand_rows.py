"""What the rows of an operand in GM cost MTE2: rows of their own, lines they share with others, crooked strides."""

from __future__ import annotations

import numpy as np

from memplan.cost.machine import Machine
from memplan.cost.overlap import Array


def operand_cycles(
    run: str,
    extent: Array,
    depth: Array,
    k_l1: Array,
    width: float,
    dim: int,
    k: int,
    port: float,
    machine: Machine,
) -> Array:
    """Cycles that MTE2 needs at least for one tile's operand: bytes over its port, but so many for each GM row."""
    if run == "nz":
        nz: Array = extent * depth * width / port
        return nz
    along_k = run == "k"
    length = (np.minimum(k_l1, depth) if along_k else extent) * width
    count = extent * np.ceil(depth / k_l1) if along_k else depth
    rows: Array = count * np.maximum(machine["mte2_row_cycles"], length / port)
    rows = rows / run_share(run, extent, width, machine)
    return rows / stride_share(run, dim, k, width, machine)


def stride_share(run: str, dim: int, k: int, width: float, machine: Machine) -> float:
    """`alignment_share` of one operand's rows in GM."""
    return 1.0 if run == "nz" else alignment_share((k if run == "k" else dim) * width, machine, "unaligned_l1_share")


def run_share(run: str, extent: Array, width: float, machine: Machine) -> Array:
    """`line_share` of one operand; runs along K continue in the next slice and waste nothing."""
    return np.ones_like(extent) if run in ("k", "nz") else line_share(extent * width, machine["alignment"])


def line_share(length: Array | float, line: float) -> Array:
    """How much of the lines that runs of `length` bytes touch is theirs: all of it where runs never straddle a line."""
    length = np.asarray(length, dtype=float)
    fits = (length % line == 0) | (line % length == 0)
    return np.where(fits, 1.0, length / (length + line - 32))


def alignment_share(stride: float, machine: Machine, unaligned: str) -> float:
    """What is left of a rate when GM rows begin `stride` bytes apart."""
    if stride % machine["alignment"] == 0:
        return 1.0
    return machine["aligned_32_share"] if stride % 32 == 0 else machine[unaligned]
