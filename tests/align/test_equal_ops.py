"""An op of a kind that nothing seems to run, where the one before it seems to run twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.rematch.equal_ops import take_equal_ops_in_turn
from memplan.schema import Plan
from tests.align.known_runs import torch_plan
from tests.align.made_assignments import made_run
from tests.align.torch_kinds import ALL_RUNS


def sums(plan: Plan) -> tuple[PlannedSequence, list[int]]:
    """The rows of a plan, and those of the sums behind attention of one micro-batch, which are all alike."""
    sequence = planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])
    name = [plan.ops[op].name if op >= 0 else "" for op in sequence.op.tolist()]
    rows = [place for place, one in enumerate(name) if one.endswith(("attention.add", "ffn.add"))]
    assert len({int(sequence.token[row]) for row in rows}) == 1
    return sequence, rows


def assignment(rows: list[int], steps: list[int]) -> KernelAssignment:
    row, ones = np.array(rows), np.ones(len(rows))
    pairs = list(zip(rows, steps, strict=True))
    core = np.array([pairs.index(pair) == place for place, pair in enumerate(pairs)])
    how = np.full(len(rows), HOW.index(MatchedBy.KERNEL), dtype=np.int8)
    return KernelAssignment(
        row, np.array(steps), row.copy(), ones, ones.copy(), how, row.copy(), row.copy(), core.astype(np.bool_)
    )  # fmt: skip


def test_the_first_op_of_a_step_is_not_the_last_one_of_the_step_before(tmp_path: Path) -> None:
    sequence, rows = sums(torch_plan(ALL_RUNS["llama"], tmp_path))
    first, *others = rows
    last = others[-1]
    found = assignment([last, *others, last, *others], [0] * (len(others) + 2) + [1] * len(others))
    take_equal_ops_in_turn(made_run(sequence, [0] * len(found.row)), found)
    assert found.row.tolist() == [first, *others, first, *others]
    assert found.step.tolist() == [0] * len(rows) + [1] * len(rows)
    assert found.core.all()


def test_what_runs_twice_without_another_missing_stays(tmp_path: Path) -> None:
    sequence, rows = sums(torch_plan(ALL_RUNS["llama"], tmp_path))
    found = assignment([*rows, rows[-1]], [0] * (len(rows) + 1))
    take_equal_ops_in_turn(made_run(sequence, [0] * len(found.row)), found)
    assert found.row.tolist() == [*rows, rows[-1]]
