"""Equal ops in a row that are written out each have their half of the kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.rematch.equal_halves import take_halves
from tests.align.known_runs import torch_plan
from tests.align.made_assignments import made_run
from tests.align.torch_kinds import ALL_RUNS

_WRITTEN = [1, 2, 3, 4, 5, 6]
"""Classes of the kernels of one such op."""


def rows_and_twins(tmp_path: Path) -> tuple[PlannedSequence, int]:
    """The rows of a plan with as many keys as queries, and the first of two equal rotary embeddings on the way back."""
    plan = torch_plan(ALL_RUNS["sample_1001"], tmp_path)
    sequence = planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])
    twins = [
        row
        for row in range(len(sequence) - 1)
        if sequence.token[row] == sequence.token[row + 1] and plan.ops[int(sequence.op[row])].type == "RotaryMulGrad"
    ]
    assert twins
    return sequence, twins[0]


def assignment(rows: list[int]) -> KernelAssignment:
    row, ones = np.array(rows), np.ones(len(rows))
    how = np.full(len(rows), HOW.index(MatchedBy.PART), dtype=np.int8)
    zero = np.zeros(len(rows), dtype=np.int64)
    core = np.zeros(len(rows), dtype=np.bool_)
    return KernelAssignment(row, zero, row.copy(), ones, ones.copy(), how, row.copy(), row.copy(), core)


def test_one_that_seems_to_run_both_gives_back_a_half(tmp_path: Path) -> None:
    sequence, first = rows_and_twins(tmp_path)
    found = assignment([first, first] + [first + 1] * 12 + [first + 3])
    take_halves(made_run(sequence, [9, 9, *_WRITTEN, *_WRITTEN, 8]), found)
    assert found.row.tolist() == [first] * 8 + [first + 1] * 6 + [first + 3]


def test_what_the_next_op_has_of_the_second_half_is_given_back(tmp_path: Path) -> None:
    sequence, first = rows_and_twins(tmp_path)
    found = assignment([first + 1] * 11 + [first + 3])
    take_halves(made_run(sequence, [*_WRITTEN, *_WRITTEN]), found)
    assert found.row.tolist() == [first] * 6 + [first + 1] * 6


def test_kernels_that_are_no_halves_stay(tmp_path: Path) -> None:
    sequence, first = rows_and_twins(tmp_path)
    rows = [first + 1] * 12
    found = assignment(rows)
    take_halves(made_run(sequence, range(12)), found)
    assert found.row.tolist() == rows
