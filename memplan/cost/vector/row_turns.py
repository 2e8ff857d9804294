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
from memplan.cost.kernels.op_classes import OpClass, row_steps, rows_a_task
from memplan.cost.machine import Machine
from memplan.cost.vector.core_cut import CoreCut
from memplan.cost.vector.runs import BLOCK_BYTES
from memplan.cost.vector.traffic import added, row_count

_HELD = 2
"""Rows that UB has to hold for elements to be picked there: of scores, and of the weights of their classes."""


@dataclass(frozen=True, slots=True)
class RowTurns:
    """
    How rows are dealt out, with what the busiest core's steps take to start, and bytes moved in and out, which come one
    after the other where they are `in_turn`.
    """

    cut: CoreCut
    read: float
    written: float
    in_turn: bool = True


@dataclass(frozen=True, slots=True)
class _Rows:
    """`count` indices, `task` of them dealt out at a time, each for `outside` rows, and bytes moved in and out."""

    count: int
    read: float
    written: float
    outside: int = 1
    task: int = 1


def row_turns(kernel: Kernel, rule: OpClass, machine: Machine) -> RowTurns | None:
    """The turns of `kernel` of class `rule`, `None` where it takes no rows one by one, or tells too little."""
    first = kernel.present[0] if kernel.present else None
    if first is None or not first.shape or not first.count:
        return None
    long = len(first.shape) > 1 and _HELD * first.shape[-1] * element_bytes(first.dtype) > machine.ub
    steps = row_steps(kernel.type, machine.npu_arch, long=long)
    if not steps:
        return None
    rows = {"gather": _taken_rows, "picked_loss": _picked_elements}.get(rule.rule, _added_rows)(kernel)
    count = max(rows.count, 1)
    each = min(ceil(ceil(count / rows.task) / (kernel.block_count or machine.vectors)) * rows.task, count)
    cores, issued = ceil(count / each), rows.outside * each * steps * machine["instruction_start_ns"]
    return RowTurns(CoreCut(cores, cores, issued), rows.read, rows.written)


def _picked_elements(kernel: Kernel) -> _Rows:
    """An element of each row, and the weight of its class, in a block each."""
    scores = kernel.present[0]
    rows = scores.count // scores.shape[-1]
    return _Rows(
        rows, float(_HELD * BLOCK_BYTES * rows + sum(each.nbytes for each in kernel.present if _tells(each))), 0.0
    )


def _taken_rows(kernel: Kernel) -> _Rows:
    """Rows, or single elements, that are taken out of a table, whose indices come last."""
    table, last = kernel.present[0], kernel.present[-1]
    made = kernel.outputs[0] if kernel.outputs else last
    told = [each for each in kernel.present[1:] if each.shape == last.shape]
    blocks = made.nbytes >= BLOCK_BYTES * last.count and len(told) == 1
    task = rows_a_task(kernel.type, table.shape[0] if blocks else None)
    return _Rows(last.count, float(made.nbytes + sum(each.nbytes for each in told)), float(made.nbytes), task=task)


def _added_rows(kernel: Kernel) -> _Rows:
    """Rows that are added to others: they come in, and memory itself adds them to those."""
    rows = added(kernel)
    table = kernel.outputs[0] if kernel.outputs else kernel.present[0]
    indices = [each for each in kernel.present if _tells(each) and each != rows]
    told = max((each.count for each in indices), default=0)
    if len(rows.shape) == len(table.shape):
        axis = _axis(rows, table, told)
        outside, count = prod(rows.shape[:axis]), rows.shape[axis]
    else:
        outside, count = 1, told or int(row_count(rows))
    return _Rows(count, float(rows.nbytes + sum(each.nbytes for each in indices)), float(rows.nbytes), outside)


def _tells(operand: Operand) -> bool:
    """Whether it may say which rows are meant."""
    return "int" in operand.dtype and len(operand.shape) < 2


def _axis(rows: Operand, table: Operand, count: int) -> int:
    """The axis of so many indices: that by which what is added differs from its table, or the first one as long."""
    pairs = list(enumerate(zip(rows.shape, table.shape, strict=True)))
    unlike = [axis for axis, (one, other) in pairs if one != other]
    return (unlike or [axis for axis, (size, _) in pairs if size == count] or [0])[0]
