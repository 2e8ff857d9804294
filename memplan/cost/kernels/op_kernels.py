"""Kernels of the ops of a graph, and as plans record them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from memplan.cost.kernels.kernel import Attribute, Kernel, Operand
from memplan.graph import Graph, Op, Tensor
from memplan.schema import Plan, PlannedAttribute, PlannedKernel, PlannedOperand


def kernel_of_op(op: Op, graph: Graph) -> Kernel:
    """The kernel that `op` launches, from the tensors of `graph`."""
    return Kernel(
        type=op.type,
        inputs=tuple(_operand(graph.tensors[index]) for index in op.inputs),
        outputs=tuple(_operand(graph.tensors[index]) for index in op.outputs),
        attributes=_attributes(op.attrs),
    )


def _operand(tensor: Tensor) -> Operand:
    return Operand(tensor.shape, tensor.dtype, tensor.layout, tensor.nbytes)


_IDENTITY = frozenset({"listed", "unique_id", "forward_id", "forward_name", "recompute_id"})
"""Attributes that tell one op from its equals and say nothing of its work."""


def _attributes(attributes: Mapping[str, object]) -> tuple[tuple[str, Attribute], ...]:
    return tuple(
        sorted(
            (key, value)
            for key, value in attributes.items()
            if isinstance(value, (str, int, float, bool)) and key not in _IDENTITY
        )
    )


_LARGEST_INT, _LONGEST_TEXT = 2**63, 256


def planned_kernel(kernel: Kernel) -> PlannedKernel:
    """`kernel` as a plan records it, without attributes that no plan file can hold or that are long texts."""
    return PlannedKernel(
        type=kernel.type,
        inputs=tuple(None if operand is None else _planned(operand) for operand in kernel.inputs),
        outputs=tuple(_planned(operand) for operand in kernel.outputs),
        attributes=tuple(
            PlannedAttribute(name, value)
            for name, value in kernel.attributes
            if value is not None
            and not (isinstance(value, str) and len(value) > _LONGEST_TEXT)
            and not (isinstance(value, int) and not -_LARGEST_INT <= value < _LARGEST_INT)
            and not (isinstance(value, float) and not isfinite(value))
        ),
    )


def _planned(operand: Operand) -> PlannedOperand:
    return PlannedOperand(operand.shape, operand.dtype, operand.layout, operand.nbytes)


def kernel_of_plan(plan: Plan, op: int) -> Kernel | None:
    """The kernel that op `op` of `plan` launches, `None` where it launches none or the plan's file doesn't say."""
    index = plan.ops[op].kernel
    if index is None:
        return None
    record = plan.kernels[index]
    return Kernel(
        type=record.type,
        inputs=tuple(None if operand is None else _of_plan(operand) for operand in record.inputs),
        outputs=tuple(_of_plan(operand) for operand in record.outputs),
        attributes=tuple((attribute.name, attribute.value) for attribute in record.attributes),
    )


def _of_plan(operand: PlannedOperand) -> Operand:
    return Operand(operand.shape, operand.dtype, operand.layout, operand.nbytes)
