"""
Plans of another number of tokens than the run's: products tell both, for the weights they read are the same.

A served batch changes from step to step, and a plan is for one. What is written out in small kernels then has no size
that is planned, so that nothing but order would place it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from memplan.align.classes.op_families import families_of, family_table
from memplan.align.classes.tokens import TokenClass
from memplan.core.arrays import Int32s
from memplan.graph import TensorKind
from memplan.schema import Plan
from memplan.schema.plan import PlannedKernel, PlannedOperand

_EQUAL, _ENOUGH = 0.05, 0.7
"""Shares of products: as planned, from which on the plan is the run's; agreeing on another number of tokens."""


def plan_of_as_many_tokens(plan: Plan, counts: Mapping[int, int]) -> Plan:
    """The plan with the sizes of its operands as where each planned number of tokens is that of `counts`, if any."""
    if not counts:
        return plan
    kept = {item.index: item.shape for item in plan.tensors if item.kind == TensorKind.WEIGHT.value or item.persistent}
    every = {*kept.values(), *(shape[::-1] for shape in kept.values())}
    widths = {side for shape in kept.values() for side in shape}
    read: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for op in plan.ops:
        if op.kernel is not None:
            read[op.kernel].update(kept[tensor] for tensor in op.reads or () if tensor in kept)

    unknown = {op.kernel for op in plan.ops if op.reads is None}
    derived = _derived_counts(plan, counts)

    def of_run(operand: PlannedOperand | None, fixed: set[tuple[int, ...]], own: int | None) -> PlannedOperand | None:
        if operand is None or operand.shape in fixed:
            return operand
        sides = [
            _side_of_run(side, counts, derived, own)
            if place == 0
            else counts[side]
            if side in counts and side not in widths
            else side
            for place, side in enumerate(operand.shape)
        ]
        return replace(operand, shape=tuple(sides))

    def as_run(number: int, kernel: PlannedKernel) -> PlannedKernel:
        weights = read[number]  # an activation may have the sizes of a weight of another op
        told = number not in unknown and not weights
        fixed = weights if told or any(item is not None and item.shape in weights for item in kernel.inputs) else every
        own = _own_count(kernel, counts)
        made = [of_run(item, fixed, own) for item in kernel.outputs]
        return replace(
            kernel,
            inputs=tuple(of_run(item, fixed, own) for item in kernel.inputs),
            outputs=tuple(item for item in made if item is not None),
        )

    return replace(plan, kernels=tuple(as_run(number, kernel) for number, kernel in enumerate(plan.kernels)))


def _own_count(kernel: PlannedKernel, counts: Mapping[int, int]) -> int | None:
    """The number of tokens that a planned kernel is of, where that is one of `counts` alone."""
    firsts = {item.shape[0] for item in (*kernel.inputs, *kernel.outputs) if item is not None and item.shape}
    found = firsts & counts.keys()
    return found.pop() if len(found) == 1 else None


def _derived_counts(plan: Plan, counts: Mapping[int, int]) -> Mapping[int, int]:
    """
    What becomes of multiples of a number of tokens, as kernels show that have both, such as those that send each token
    to several experts; without those that become several things.
    """
    found: dict[int, set[int]] = defaultdict(set)
    for kernel in plan.kernels:
        own = _own_count(kernel, counts)
        for item in (*kernel.inputs, *kernel.outputs):
            if own is not None and item is not None and item.shape and not item.shape[0] % own:
                found[item.shape[0]].add(item.shape[0] // own * counts[own])
    return {side: one.pop() for side, one in found.items() if len(one) == 1}


def _side_of_run(side: int, counts: Mapping[int, int], derived: Mapping[int, int], own: int | None) -> int:
    """The first side of an operand in the run; `own` is what its kernel is of."""
    if side in counts:
        return counts[side]
    if own is None and side in derived:
        return derived[side]
    tokens = own if own is not None and not side % own else max((one for one in counts if not side % one), default=0)
    return side // tokens * counts[tokens] if tokens else side


def tokens_of_run(plan: Plan, kernels: Sequence[TokenClass], kernel_class: Int32s) -> Mapping[int, int]:
    """
    The run's number of tokens for each number that is planned, as most products have it, the usual one last.

    A step may have several: ranks that share tokens round their part up. There is none where some products run as
    planned, and where products don't agree on one ratio.
    """
    votes = _token_votes(plan, kernels, kernel_class)
    total = sum(votes.values())

    def explained(base: tuple[int, int]) -> int:
        """Products that ran with numbers of tokens of the ratio of `base`."""
        return sum(count for pairs, count in votes.items() if any(_of_one_ratio(pair, base) for pair in pairs))

    others = {pair for pairs in votes for pair in pairs if pair[0] != pair[1]}
    if not others:
        return {}
    base = max(others, key=lambda pair: (explained(pair), pair[0]))
    agreed: Counter[tuple[int, int]] = Counter()
    as_planned = only_as_planned = 0
    for pairs, count in votes.items():
        fitting = [pair for pair in pairs if _of_one_ratio(pair, base)]
        agreed.update(dict.fromkeys(fitting, count))
        if any(planned == ran for planned, ran in pairs):
            as_planned += count
            only_as_planned += 0 if fitting else count
    enough = explained(base) >= max(_ENOUGH * total, as_planned)
    if only_as_planned > _EQUAL * total or not enough:
        return {}
    # The rarer of two that agree for one planned number comes first and is replaced.
    return dict(sorted(agreed, key=lambda pair: agreed[pair]))


def _of_one_ratio(pair: tuple[int, int], base: tuple[int, int]) -> bool:
    """Whether numbers of tokens, planned and run, are in the ratio of those of `base`, but for rounding."""
    planned, ran = pair
    if planned == base[0]:
        return ran == base[1]
    return abs(ran * base[0] - planned * base[1]) <= max(planned, base[0])


def _token_votes(
    plan: Plan, kernels: Sequence[TokenClass], kernel_class: Int32s
) -> Mapping[frozenset[tuple[int, int]], int]:
    """
    How many products of the run tell of numbers of tokens, planned and run, which are several where sizes coincide.

    A product reads a weight, or makes the gradient of one from two things with as many rows as there are tokens.
    """
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
    votes: Counter[frozenset[tuple[int, int]]] = Counter()
    ran = np.bincount(kernel_class, minlength=len(kernels)).tolist()
    for item, times in zip(kernels, ran, strict=True):
        if item.families[0] != product or len(item.inputs) < 2 or not item.outputs:
            continue
        made_size, found = item.outputs[0], set()
        for first, second in (item.inputs[:2], item.inputs[1::-1]):
            for size, beside in ((second, made_size), (made_size, second)):
                for tokens, wide, narrow in planned.get(size, ()):
                    count, rest = divmod(first, wide)
                    if count and not rest and count * narrow == beside:
                        found.add((tokens, count))
        if found:
            votes[frozenset(found)] += times
    return votes
