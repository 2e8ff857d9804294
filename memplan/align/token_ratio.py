"""
Plans of another number of tokens than the run's: products tell both, for the weights they read are the same.

A served batch changes from step to step, and a plan is for one. What is written out in small kernels then has no size
that is planned, so that nothing but order would place it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from memplan.align.op_families import families_of, family_table
from memplan.align.tokens import TokenClass
from memplan.core.arrays import Int32s
from memplan.graph import TensorKind
from memplan.schema import Plan
from memplan.schema.plan import PlannedKernel, PlannedOperand

_EQUAL, _ENOUGH = 0.05, 0.7
"""Shares of products: as planned, from which on the plan is the run's; agreeing on another number of tokens."""


def plan_of_as_many_tokens(plan: Plan, kernels: Sequence[TokenClass], kernel_class: Int32s) -> Plan:
    """
    The plan with the sizes of its operands as where the run has another number of tokens than the plan.

    It is `plan` itself where some products run as planned, and where products don't agree on one ratio.
    """
    ratio, counts = _ratio(plan, kernels, kernel_class)
    if ratio == 1:
        return plan
    kept = {item.index: item.shape for item in plan.tensors if item.kind == TensorKind.WEIGHT.value or item.persistent}
    every = {*kept.values(), *(shape[::-1] for shape in kept.values())}
    widths = {side for shape in kept.values() for side in shape}
    least = min(counts)
    read: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for op in plan.ops:
        if op.kernel is not None:
            read[op.kernel].update(kept[tensor] for tensor in op.reads or () if tensor in kept)

    unknown = {op.kernel for op in plan.ops if op.reads is None}

    def of_run(operand: PlannedOperand | None, fixed: set[tuple[int, ...]]) -> PlannedOperand | None:
        if operand is None or operand.shape in fixed:
            return operand
        sides = [
            int(side * ratio) if side % least == 0 and (place == 0 or side in counts - widths) else side
            for place, side in enumerate(operand.shape)
        ]
        return replace(operand, shape=tuple(sides))

    def as_run(number: int, kernel: PlannedKernel) -> PlannedKernel:
        own = read[number]  # an activation may have the sizes of a weight of another op
        told = number not in unknown and not own
        fixed = own if told or any(item is not None and item.shape in own for item in kernel.inputs) else every
        made = [of_run(item, fixed) for item in kernel.outputs]
        return replace(
            kernel,
            inputs=tuple(of_run(item, fixed) for item in kernel.inputs),
            outputs=tuple(item for item in made if item is not None),
        )

    return replace(plan, kernels=tuple(as_run(number, kernel) for number, kernel in enumerate(plan.kernels)))


def _ratio(plan: Plan, kernels: Sequence[TokenClass], kernel_class: Int32s) -> tuple[Fraction, set[int]]:
    """Tokens of the run for each of the plan as most products have it, 1 where that isn't told; tokens planned."""
    known = family_table()
    product = known.number("product")
    planned: dict[int, set[tuple[int, int, int]]] = {}
    weights = {tensor.shape for tensor in plan.tensors if tensor.kind == TensorKind.WEIGHT.value}
    weights |= {shape[::-1] for shape in weights}
    for kernel in plan.kernels:
        if families_of(kernel.type)[0] != product or len(kernel.inputs) < 2 or not kernel.outputs:
            continue
        read, weight, made = kernel.inputs[0], kernel.inputs[1], kernel.outputs[0].shape
        if read is None or weight is None or weight.shape not in weights:
            continue
        if len(made) == len(read.shape) == len(weight.shape) == 2 and made[0] == read.shape[0]:
            planned.setdefault(weight.shape[0] * weight.shape[1], set()).add((made[0], read.shape[1], made[1]))
    votes: Counter[Fraction] = Counter()
    counts: dict[Fraction, set[int]] = {}
    ran = np.bincount(kernel_class, minlength=len(kernels)).tolist()
    for item, times in zip(kernels, ran, strict=True):
        if item.families[0] != product or len(item.inputs) < 2 or not item.outputs:
            continue
        found = set()
        for read_size, weight_size in (item.inputs[:2], item.inputs[1::-1]):
            for tokens, wide, narrow in planned.get(weight_size, ()):
                count, rest = divmod(read_size, wide)
                if not rest and count and count * narrow == item.outputs[0]:
                    found.add(Fraction(count, tokens))
                    counts.setdefault(Fraction(count, tokens), set()).add(tokens)
        if 1 in found:
            found = {Fraction(1)}
        for one in found:
            votes[one] += times
    total = sum(votes.values())
    if not total or votes[Fraction(1)] > _EQUAL * total:
        return Fraction(1), set()
    best, most = votes.most_common(1)[0]
    return (best, counts[best]) if most >= _ENOUGH * total else (Fraction(1), set())
