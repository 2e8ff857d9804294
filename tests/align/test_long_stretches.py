"""What a long stretch of one family begins as, it is throughout."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.rematch.long_stretches import take_long_stretches
from tests.align.known_runs import torch_plan
from tests.align.made_assignments import made_run
from tests.align.torch_kinds import ALL_RUNS


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> PlannedSequence:
    plan = torch_plan(ALL_RUNS["sample_1001"], tmp_path_factory.mktemp("plan"))
    return planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])


def rows_of(sequence: PlannedSequence) -> tuple[int, int, int]:
    """Rows of the clipping of two gradients, and of the first update."""
    clips = [
        row
        for row, number in enumerate(sequence.extra.tolist())
        if number >= 0 and sequence.extras[number].what == "gradient clipping"
    ]
    optimizer = family_table().number("optimizer")
    updates = np.flatnonzero((sequence.classes.main[sequence.token] == optimizer) & (sequence.op >= 0))
    return clips[0], clips[1], int(updates[0])


def given(sequence: PlannedSequence, rows: list[int], families: list[str], core: bool = False) -> list[int]:
    """The rows of kernels of those families after the rule."""
    number = family_table().number
    kinds = sorted(set(families))
    classes = token_classes([TokenClass((number(name),), (64,), (64,), 32) for name in kinds])
    row, ones, zero = np.array(rows), np.ones(len(rows)), np.zeros(len(rows), dtype=np.int64)
    how = np.full(len(rows), HOW.index(MatchedBy.PART), dtype=np.int8)
    is_core = np.array([core and row >= 0 for row in rows])
    found = KernelAssignment(row, zero, row.copy(), ones, ones.copy(), how, row.copy(), row.copy(), is_core)
    take_long_stretches(made_run(sequence, [kinds.index(name) for name in families], classes), found)
    return list(found.row.tolist())


def test_parts_of_updates_among_clipped_gradients_are_clipped_ones(sequence: PlannedSequence) -> None:
    first, second, update = rows_of(sequence)
    rows = [first, second, update, update, -1, update, second, update]
    assert given(sequence, rows, ["mul"] * 8) == [first] + [second] * 7


def test_an_update_that_is_written_out_stays(sequence: PlannedSequence) -> None:
    first, second, update = rows_of(sequence)
    rows = [first, second, update, update, update, update, update, update]
    assert given(sequence, rows, ["mul", "mul", "add", "mul", "sqrt", "div", "mul", "add"]) == rows
    assert given(sequence, [update, *rows], ["mul"] * 9) == [update, *rows]


def test_kernels_that_run_their_op_stay(sequence: PlannedSequence) -> None:
    first, second, update = rows_of(sequence)
    rows = [first, second, *[update] * 6]
    assert given(sequence, rows, ["mul"] * 8, core=True) == rows
