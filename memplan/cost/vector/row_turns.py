"""
Rows that a kernel takes one by one to or from where indices say, each of whose steps waits for the one before.

Scatters that memory itself adds up, gradients of embeddings, indexing by tensors, and losses that pick an element of
each row have such kernels. Indices are dealt out to cores; where they are of an inner axis, each is gone to for all
that lies outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import longest_short_table, op_class, row_steps, rows_a_task
from memplan.cost.machine import Machine
from memplan.cost.vector.runs import BLOCK_BYTES

_HELD = 2
"""Rows that UB has to hold for elements to be picked there: of scores, and of the weights of their classes."""


@dataclass(frozen=True, slots=True)
class RowTurns:
    """Cores that get rows, nanoseconds that the busiest one's steps take to start, and bytes moved in and out."""

    cores: int
    issued_ns: float
    read: float
    written: float


def row_turns(kernel: Kernel, machine: Machine) -> RowTurns | None:
    """The turns of `kernel`, `None` where it takes no rows one by one, or tells too little."""
    first = kernel.present[0] if kernel.present else None
    if first is None or not first.shape or not first.count:
        return None
    if steps := row_steps(kernel.type, machine.npu_arch):
        taken = op_class(kernel.type).rule == "gather"
        return (_taken_rows if taken else _added_rows)(kernel, machine, steps)
    long = len(first.shape) > 1 and _HELD * first.shape[-1] * element_bytes(first.dtype) > machine.ub
    steps = row_steps(kernel.type, machine.npu_arch, long=long)
    if not steps:
        return None
    rows = first.count // first.shape[-1]
    read = _HELD * BLOCK_BYTES * rows + sum(each.nbytes for each in kernel.present if _tells(each))
    return _dealt(kernel, machine, 1, rows, steps, float(read), 0.0)


def _taken_rows(kernel: Kernel, machine: Machine, steps: int) -> RowTurns:
    """Rows, or single elements, that are taken out of a table, whose indices come last."""
    table, last = kernel.present[0], kernel.present[-1]
    made = kernel.outputs[0] if kernel.outputs else last
    told = [each for each in kernel.present[1:] if each.shape == last.shape]
    blocks = made.nbytes >= BLOCK_BYTES * last.count and len(told) == 1
    task = rows_a_task(kernel.type, short_table=blocks and table.shape[0] <= longest_short_table(kernel.type))
    read = float(made.nbytes + sum(each.nbytes for each in told))
    return _dealt(kernel, machine, 1, last.count, steps, read, float(made.nbytes), task)


def _added_rows(kernel: Kernel, machine: Machine, steps: int) -> RowTurns:
    """Rows that are added to others: they come in, and memory itself adds them to those."""
    table = kernel.present[0]
    in_place = bool(kernel.outputs) and table.shape == kernel.outputs[0].shape
    others = [each for each in kernel.present[1:] if each.dtype == table.dtype] if in_place else []
    added = max(others, key=lambda each: each.count, default=table)
    indices = [each for each in kernel.present if _tells(each) and each != added]
    read = added.nbytes + sum(each.nbytes for each in indices)
    outside, count = 1, added.count // max(added.shape[-1], 1)
    told = max((each.count for each in indices), default=0)
    if others and len(added.shape) != len(table.shape):
        count = told or count
    elif others:
        axis = _axis(added, table, told)
        outside, count = prod(added.shape[:axis]), added.shape[axis]
    return _dealt(kernel, machine, outside, count, steps, float(read), float(added.nbytes))


def _tells(operand: Operand) -> bool:
    """Whether it may say which rows are meant."""
    return "int" in operand.dtype and len(operand.shape) < 2


def _axis(added: Operand, table: Operand, count: int) -> int:
    """The axis of so many indices: that by which what is added differs from its table, or the first one as long."""
    pairs = list(enumerate(zip(added.shape, table.shape, strict=True)))
    unlike = [axis for axis, (one, other) in pairs if one != other]
    return (unlike or [axis for axis, (size, _) in pairs if size == count] or [0])[0]


def _dealt(
    kernel: Kernel, machine: Machine, outside: int, count: int, steps: int, read: float, written: float, task: int = 1
) -> RowTurns:
    most = kernel.block_count or machine.vectors
    each = min(ceil(ceil(max(count, 1) / task) / most) * task, max(count, 1))
    issued = outside * each * steps * machine["instruction_start_ns"]
    return RowTurns(ceil(max(count, 1) / each), issued, read, written)
