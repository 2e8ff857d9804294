"""Which kernel the selected item stands for: the plan's op, the profile's rows of it, and what it launches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memplan.cost.kernels.kernel import Kernel, Operand
from memplan.cost.kernels.kernel_columns import kernel_at
from memplan.cost.kernels.op_kernels import kernel_of_plan
from memplan.graph.op_names import op_spellings
from memplan.gui.model.kernels_of_slices import DEVICE_TRACKS, kernel_of_slice
from memplan.gui.model.session.session import ItemRef, Session, SliceRef
from memplan.schema import Plan, PlannedOp
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.profile import Kernels

_ON_CORE = ("AI_CORE", "AI_VECTOR_CORE", "AIC", "AIV", "MIX_")
"""How the cores that compute begin in kernel tables, old ones and new ones."""


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """
    What the profile says of a kernel: `count` launches that took `duration_ns` together.

    `row` is the longest of them in `table`; -1 and `None` where the profile has no kernel table.
    """

    duration_ns: int
    count: int = 1
    table: Kernels | None = None
    row: int = -1


@dataclass(frozen=True, slots=True)
class Subject:
    """The plan's op, its measurement, or both; neither for a slice that is no kernel."""

    name: str
    op: PlannedOp | None = None
    measured: MeasuredKernel | None = None


def subject_of(session: Session, item: ItemRef | None) -> Subject | None:
    """What `item` stands for; `None` where it stands for nothing (nothing selected, a tensor that no op makes)."""
    plan = session.document.plan
    step = session.planned_op_of(item)
    if plan is not None and step is not None:
        op = plan.ops[step]
        return Subject(op.name, op, _measured_op(session, op))
    return _measured_slice(session, item) if isinstance(item, SliceRef) else None


def costliest(session: Session) -> Subject | None:
    """
    What is shown while nothing is selected: the planned op that takes longest, of a run alone the longest kernel.

    `None` where neither plan nor profile has one with a time.
    """
    plan, rank = session.document.plan, session.document.rank
    launched = [op for op in plan.ops if op.launches and op.duration_ns] if plan is not None and plan.timed else []
    if launched:
        op = max(launched, key=lambda op: op.duration_ns)
        return Subject(op.name, op, _measured_op(session, op))
    table = rank.kernels() if rank is not None else None
    if table is None or not len(table):
        return None
    cores = dictionary_encoded(table.core)
    on_core = np.array([core.upper().startswith(_ON_CORE) for core in cores.values], dtype=bool)[cores.codes]
    if not on_core.any():
        return None
    row = int(np.argmax(np.where(on_core, table.duration_ns, -1)))
    return Subject(table.name[row], None, MeasuredKernel(int(table.duration_ns[row]), 1, table, row))


def _measured_op(session: Session, op: PlannedOp) -> MeasuredKernel | None:
    """The kernels that the comparison found for `op`."""
    comparison, rank = session.document.comparison, session.document.rank
    if comparison is None or rank is None:
        return None
    matches = comparison.matches
    place = int(np.searchsorted(matches.op, op.index))
    if place == len(matches) or int(matches.op[place]) != op.index:
        return None
    total, table = int(matches.duration_ns[place]), rank.kernels()
    if table is None:
        return MeasuredKernel(total)
    first = int(np.searchsorted(table.start_ns, matches.start_ns[place]))
    last = int(np.searchsorted(table.start_ns, matches.end_ns[place], side="right"))
    rows = [row for row in range(first, last) if op.name in op_spellings(table.name[row])]
    if not rows and first < last:
        rows = [first]  # matched by type and order: its kernel has another name
    if not rows:
        return MeasuredKernel(total)
    return MeasuredKernel(total, len(rows), table, max(rows, key=lambda row: int(table.duration_ns[row])))


def _measured_slice(session: Session, item: SliceRef) -> Subject | None:
    track, rank = session.tracks.track(item.track), session.document.rank
    lanes = session.tracks.lanes(track)
    if lanes is None or rank is None:
        return None
    slices = lanes.slices
    name = slices.names[slices.name[item.index]]
    if track.kind not in DEVICE_TRACKS:
        return Subject(name)
    duration, table = int(slices.duration_ns[item.index]), rank.kernels()
    if table is None:
        op = _op_of_kernel(session, name, int(slices.start_ns[item.index]))
        return Subject(name, op, MeasuredKernel(duration) if op is not None else None)
    row = kernel_of_slice(table, track.kind, slices, item.index)
    if row < 0:
        return Subject(name)
    op = _op_of_kernel(session, table.name[row], int(table.start_ns[row]))
    return Subject(name, op, MeasuredKernel(duration, 1, table, row))


def _op_of_kernel(session: Session, name: str, start_ns: int) -> PlannedOp | None:
    """The planned op of a measured kernel: by its start in the compared step, else by a name that one op alone has."""
    plan, comparison = session.document.plan, session.document.comparison
    if plan is None or comparison is None:
        return None
    matches = comparison.matches
    known = tuple(op_spellings(name))
    for place in np.flatnonzero(matches.start_ns == start_ns):
        op = plan.ops[int(matches.op[place])]
        if op.name in known or not matches.by_name[place]:
            return op
    for spelling in known:
        named = [op for op in plan.ops if op.name == spelling]
        if named:
            return named[0] if len(named) == 1 else None
    return None


def kernel_of(plan: Plan | None, subject: Subject) -> tuple[Kernel | None, bool]:
    """What the subject launches, and whether that is told from the profile's row instead of the plan."""
    if plan is not None and subject.op is not None:
        kernel = kernel_of_plan(plan, subject.op.index)
        if kernel is not None:
            return kernel, False
    measured = subject.measured
    if measured is None or measured.table is None:
        return None, False
    return kernel_at(measured.table, measured.row), True


_MOST_OPERANDS = 6


def operands_text(kernel: Kernel) -> str:
    """Operands as `64×256 float32, 256×128 float32 NZ → 64×128 float32`."""
    inputs = [_operand_text(operand) for operand in kernel.inputs if operand is not None]
    outputs = [_operand_text(operand) for operand in kernel.outputs]
    return _read_and_made(inputs, outputs)


def _operand_text(operand: Operand) -> str:
    shape = "×".join(map(str, operand.shape)) or "1"
    return f"{shape} {operand.dtype}" + (f" {operand.layout}" if operand.layout != "ND" else "")


def _read_and_made(read: list[str], made: list[str]) -> str:
    """Without an arrow where it is not told what is made, as of kernels that write over what they read."""
    return " → ".join([_listed(read), _listed(made)]) if made else _listed(read)


def _listed(texts: list[str]) -> str:
    shown = ", ".join(texts[:_MOST_OPERANDS])
    return shown + (f", … +{len(texts) - _MOST_OPERANDS}" if len(texts) > _MOST_OPERANDS else "")


def storages_text(plan: Plan, step: int) -> str:
    """The storages that op `step` touches, for plans that don't hold its operands."""
    read = [tensor for tensor in plan.tensors if step in tensor.uses and tensor.producer != step]
    made = [tensor for tensor in plan.tensors if tensor.producer == step and tensor.kind != "workspace"]
    sides = [
        [_operand_text(Operand(tensor.shape, tensor.dtype, tensor.layout)) for tensor in side] for side in (read, made)
    ]
    return _read_and_made(*sides)
