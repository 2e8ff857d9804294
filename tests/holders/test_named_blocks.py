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


def test_a_tensor_that_was_copied_and_dropped_lives_on_in_the_copy() -> None:
    plan = layered_plan(20)
    tensor = next(item for item in plan.tensors if item.producer == 2)
    blocks = run(plan, 1)
    columns = blocks.name, blocks.size, blocks.allocation_ns, blocks.release_ns
    rows = list(zip(*columns, strict=True))
    own = next(place for place, row in enumerate(rows) if row[0] == plan.ops[2].name)
    copy = plan.ops[3].name, tensor.nbytes, plan.ops[3].start_ns, rows[own][3]
    rows[own] = (*rows[own][:3], plan.ops[4].start_ns)
    # Where the host was when they are released, blocks of the way back tell.
    back = [(op.name, 512, op.start_ns, op.start_ns + op.duration_ns) for op in plan.ops[20:]]
    every = [*rows[: own + 1], copy, *rows[own + 1 :], *back]
    size, made, freed = (np.array([row[column] for row in every], dtype=np.int64) for column in (1, 2, 3))
    join = join_blocks(plan, Allocations([row[0] for row in every], size, made, freed))
    assert join.tensor[own] == -1
    # Of the two that the op beside it asked for, one is its own.
    assert sorted(join.tensor[own + 1 : own + 3].tolist()) == sorted(
        item.index for item in plan.tensors if item.producer in (2, 3)
    )
