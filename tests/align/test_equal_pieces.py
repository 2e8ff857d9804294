"""Gate, up and down of one size: each of them is told by its turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.likelihood import likelihoods
from memplan.align.classes.op_families import families_of
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.align.planned.planned_sequence import PlannedSequence, planned_sequence
from memplan.align.rematch.equal_pieces import take_equal_pieces_in_turn
from tests.align.known_runs import torch_plan
from tests.align.made_assignments import made_run
from tests.align.torch_kinds import ALL_RUNS

WIDE = 256
TOKENS = 320


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> PlannedSequence:
    """A network as wide as the model."""
    run = ALL_RUNS["llama"]
    run = replace(run, config={**run.config, "intermediate_size": WIDE})
    assert (run.config["hidden_size"], run.batch * run.sequence) == (WIDE, TOKENS)
    plan = torch_plan(run, Path(tmp_path_factory.mktemp("wide")))
    ops = [op.index for op in plan.ops if op.kernel is not None]
    return planned_sequence(plan, ops)


def rows_of(sequence: PlannedSequence) -> tuple[int, int]:
    """The rows of gate and up together, and of down, of a way forward."""
    products = [row for row in range(len(sequence)) if sequence.classes.pieces[sequence.token[row]]]
    wanted = ((TOKENS * WIDE, WIDE * WIDE), (TOKENS * WIDE,))
    both = next(row for row in products if set(sequence.classes.pieces[sequence.token[row]]) == {wanted})
    return both, both + 2


def matched(sequence: PlannedSequence, row: list[int]) -> KernelAssignment:
    """Products of one size that the rows are given, as they are given after all."""
    kernels = token_classes([TokenClass(families_of("aten::mm"), (TOKENS * WIDE, WIDE * WIDE), (TOKENS * WIDE,), 32)])
    ratios = likelihoods(sequence.classes, sequence.rules, kernels)
    count, how = len(row), HOW.index(MatchedBy.KERNEL)
    found = KernelAssignment(
        row=np.array(row),
        step=np.zeros(count, dtype=np.int64),
        place=np.array(row),
        chance=np.ones(count),
        scope_chance=np.ones(count),
        how=np.full(count, how, dtype=np.int8),
        first=np.array(row),
        last=np.array(row),
        core=np.ones(count, dtype=np.bool_),
    )
    take_equal_pieces_in_turn(made_run(sequence, [0] * count, kernels, ratios), found)
    return found


@pytest.mark.parametrize("said", [(0, 0, 0), (0, 1, 1), (1, 1, 1), (0, 0, 1)])
def test_two_run_gate_and_up_and_the_third_down(sequence: PlannedSequence, said: tuple[int, ...]) -> None:
    both, down = rows = rows_of(sequence)
    assert matched(sequence, [rows[which] for which in said]).row.tolist() == [both, both, down]


def test_a_count_that_is_no_whole_turn_stays(sequence: PlannedSequence) -> None:
    rows = list(rows_of(sequence))
    assert matched(sequence, rows).row.tolist() == rows
