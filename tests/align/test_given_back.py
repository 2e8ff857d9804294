"""Kernels that make positions are in no plan, though they may seem to be a part of the op that stands there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.classes.op_families import family_table
from memplan.align.classes.tokens import TokenClass, token_classes
from memplan.align.planned.planned_sequence import planned_sequence
from memplan.align.rematch.given_back import give_back_positions
from tests.align.known_runs import torch_plan
from tests.align.made_assignments import made_run
from tests.align.torch_kinds import ALL_RUNS

_KINDS = ("range", "add", "concat", "norm")


def given_back(rows: list[int], core: list[bool], sizes: list[int], folder: Path) -> list[int]:
    """The rows left to kernels of `_KINDS`, one of each, which had `rows`, counted from the second norm on."""
    plan = torch_plan(ALL_RUNS["llama"], folder)
    sequence = planned_sequence(plan, [op.index for op in plan.ops if op.kernel is not None])
    norms = [place for place, op in enumerate(sequence.op.tolist()) if op >= 0 and "norm." in plan.ops[op].name]
    row = np.array([one if one < 0 else norms[1] + one for one in rows])
    number = family_table().number
    classes = token_classes(
        [TokenClass((number(kind),), (size,), (size,), 32) for kind, size in zip(_KINDS, sizes, strict=True)]
    )
    place = np.where(row < 0, norms[1], row)
    chance, how = np.full(len(row), 0.3), np.full(len(row), HOW.index(MatchedBy.PART), dtype=np.int8)
    found = KernelAssignment(
        row, np.zeros(len(row), dtype=np.int64), place, chance, chance.copy(), how, row.copy(), row.copy(),
        np.array(core),
    )  # fmt: skip
    give_back_positions(made_run(sequence, range(len(row)), classes), found)
    assert (found.chance[(found.row < 0) & (np.array(rows) >= 0)] == 0.7).all()
    return [-1 if one < 0 else one - norms[1] for one in found.row.tolist()]


_MAIN = [False, False, False, True]


def test_what_stands_between_two_kernels_of_positions_and_is_small_is_of_them(tmp_path: Path) -> None:
    assert given_back([-1, 0, -1, 0], _MAIN, [64, 64, 64, 4096], tmp_path) == [-1, -1, -1, 0]


def test_what_is_as_large_as_its_op_or_has_no_positions_behind_it_stays(tmp_path: Path) -> None:
    assert given_back([-1, 0, -1, 0], _MAIN, [64, 1 << 30, 64, 4096], tmp_path) == [-1, 0, -1, 0]
    assert given_back([-1, 0, 0, 0], _MAIN, [64, 64, 64, 4096], tmp_path) == [-1, 0, 0, 0]


def test_one_that_counts_up_is_of_no_op_that_stands_elsewhere(tmp_path: Path) -> None:
    assert given_back([9, 0, -1, 0], _MAIN, [64, 64, 64, 4096], tmp_path) == [-1, -1, -1, 0]
    assert given_back([0, 0, -1, 0], _MAIN, [64, 64, 64, 4096], tmp_path) == [0, 0, -1, 0]
