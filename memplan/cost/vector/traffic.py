"""Bytes that a vector kernel reads and writes."""

from __future__ import annotations

import re
from math import prod

from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import OpClass
from memplan.cost.vector.runs import BLOCK_BYTES, Runs

_NUMBER = re.compile("[0-9]+")


def scattered(kernel: Kernel) -> tuple[Operand, ...]:
    """What a kernel brings to the rows that it updates: all operands but those rows themselves where they are given."""
    in_place = not kernel.outputs or kernel.present[0].shape == kernel.outputs[0].shape
    return kernel.present[1:] if in_place else kernel.present


def added(kernel: Kernel) -> Operand:
    """The rows that a kernel adds to those of its table, by its type the largest of what it brings to them."""
    dtype = (kernel.outputs or kernel.present)[0].dtype
    brought = (operand for operand in scattered(kernel) if operand.dtype == dtype)
    return max(brought, key=lambda operand: operand.count, default=kernel.present[0])


def traffic_of(kernel: Kernel, rule: OpClass) -> tuple[float, float, float]:
    """Bytes read, bytes written, and bytes of a contiguous run where runs are short (0: as long as pieces)."""
    read, written = float(kernel.read_bytes), float(kernel.written_bytes)
    if rule.kind == "optimizer" and not written and kernel.present:
        # Updated in place: everything of the parameter's shape except the gradient.
        same = [op for op in kernel.present if op.shape == kernel.present[0].shape]
        written = float(sum(op.nbytes for op in same[:-1]) if len(same) > 1 else kernel.present[0].nbytes)
    if rule.kind == "fill":
        if not kernel.outputs:
            # What is given is cleaned where it lies.
            return 0.0, read, 0.0
        return min(read, written) if rule.rule != "fill" else 0.0, written, 0.0
    if rule.kind == "slice":
        return written, written, 0.0
    if rule.kind == "gather" and rule.rule == "gather" and kernel.present:
        others = sum(op.nbytes for op in kernel.present[1:])
        run = kernel.outputs[0].nbytes / max(row_count(kernel.outputs[0]), 1) if kernel.outputs else 0.0
        return min(read, written + others), written, run
    if rule.kind == "gather" and kernel.present and kernel.outputs:
        # Only the rows that are updated move, read and written.
        updates = float(sum(operand.nbytes for operand in scattered(kernel)))
        if 0 < updates < written:
            return 2 * updates, updates, 0.0
    return read, written, 0.0


def added_rows(kernel: Kernel) -> tuple[float, float, Runs]:
    """
    Bytes that a scatter reads and writes where memory itself adds what is written, and its runs.

    Each row that is added is a transfer of its own, whatever there was (CANN 8.1, impl/unsorted_segment_sum_d.py,
    `set_atomic_add`; zeros before are a kernel of their own).
    """
    table = kernel.outputs[0] if kernel.outputs else kernel.present[0]
    rows = added(kernel)
    indices = sum(each.nbytes for each in kernel.present if each.dtype != table.dtype)
    run = rows.nbytes / max(rows.count, 1) * prod(table.shape[1:])
    return rows.nbytes + float(indices), float(rows.nbytes), Runs(written=run)


def lines_of_blocks(kernel: Kernel, line: float) -> float:
    """Bytes of the lines that come to L2 where tokens go into caches in blocks, each of which is a part of a line."""
    blocks = sum(each.nbytes for each in kernel.outputs if each.layout == "NZ") / BLOCK_BYTES
    return blocks * line


def bytes_passed(kernel: Kernel, line: float) -> float:
    """
    Bytes that come in for each one of a slice that takes one element in so many of a row: all that lie between, or a
    line of `line` bytes for each where they are farther apart.
    """
    told = _NUMBER.findall(str(kernel.attribute("strides") or kernel.attribute("steps")))
    if not told or not kernel.outputs:
        return 1.0
    return max(min(float(told[-1]), line / element_bytes(kernel.outputs[0].dtype)), 1.0)


def row_count(operand: Operand) -> float:
    return operand.count / max(operand.shape[-1], 1) if operand.shape else 1.0
