"""Blocks that carry the names of the ops that asked for them."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.holders import join_blocks
from memplan.schema import Plan
from memplan.traces.profile import Allocations
from tests.small_plans import layered_plan


def run(plan: Plan, repetitions: int, doubled: frozenset[int] = frozenset()) -> Allocations:
    """What the forward ops of `plan` allocate in so many repetitions; of the ops `doubled` a larger block as well."""
    names, sizes, made, freed = [], [], [], []
    forward = [tensor for tensor in plan.tensors if tensor.producer is not None]
    for repetition in range(repetitions):
        for tensor in forward:
            assert tensor.producer is not None
            for size in (tensor.nbytes, 3 * tensor.nbytes)[: 2 if tensor.producer in doubled else 1]:
                names.append(plan.ops[tensor.producer].name)
                sizes.append(size)
                made.append(repetition * plan.makespan_ns + plan.ops[tensor.producer].start_ns)
                freed.append(repetition * plan.makespan_ns + plan.ops[tensor.end - 1].start_ns)
    columns = [np.array(column, dtype=np.int64) for column in (sizes, made, freed)]
    return Allocations(names, columns[0], columns[1], columns[2])


@pytest.mark.parametrize("doubled", [frozenset(), frozenset({1, 4})])
def test_every_repetition_of_a_plan_of_which_only_the_first_half_allocates_is_joined(doubled: frozenset[int]) -> None:
    """Went wrong once: steps were told apart by a fall over half of the plan, which such a plan never shows."""
    plan = layered_plan(6)
    blocks = run(plan, 4, doubled)
    join = join_blocks(plan, blocks)
    made = {tensor.producer: tensor for tensor in plan.tensors if tensor.producer is not None}
    seen = []
    for row, name in enumerate(blocks.name):
        op = next(op.index for op in plan.ops if op.name == name)
        fits = blocks.size[row] == made[op].nbytes
        assert join.tensor[row] == (made[op].index if fits else -1)
        seen += [(int(join.step[row]), op)] * int(fits)
    assert seen == [(step, op) for step in range(4) for op in sorted(made)]
