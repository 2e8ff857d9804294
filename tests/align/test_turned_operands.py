"""What is turned behind an op but isn't what it made is turned for the next one that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memplan.align.rematch.turned_operands import take_turned_operands
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run

_TOKENS, _WIDTH, _WORDS = 64, 32, 1024
_MADE, _READ = _TOKENS * _WIDTH, _TOKENS * _WORDS


def rows_after(
    tmp_path: Path, turned: Sequence[tuple[str, int]], rows: Sequence[int], reads: tuple[int, int] = (_READ, _MADE)
) -> list[int]:
    """Of which of two products (0, 1) kernels between them are that turn so many elements each; `rows`: before."""
    planned = PlannedRows("llama", tmp_path)
    own, after = planned.of_layers(".o_proj")[:2]
    classes = made_classes([
        ("product", (_READ, _WORDS * _WIDTH), (_MADE,)),
        *((family, (size,), (size,)) for family, size in turned),
        ("product", reads, (_WORDS * _WIDTH,)),
    ])  # fmt: skip
    kinds = np.arange(len(classes), dtype=np.int32)
    core = [True, *(False for _ in turned), True]
    given = made_assignment(
        [own, *((own, after)[row] for row in rows), after], core, [1.0, *(0.6 for _ in turned), 0.9]
    )
    take_turned_operands(made_run(planned.sequence, kinds, classes), given)
    changed = [place for place, row in enumerate(given.row[1:-1].tolist()) if row == after and not rows[place]]
    assert all(given.chance[1 + place] == 0.9 and given.scope_chance[1 + place] == 0.9 for place in changed)
    return [0 if row == own else 1 for row in given.row[1:-1].tolist()]


def test_what_both_products_read_is_turned_for_the_second(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [("transpose", _READ), ("transpose", _MADE)], [0, 1]) == [1, 1]
    assert rows_after(tmp_path, [("transpose", _READ), ("transpose", _MADE)], [0, 0]) == [1, 1]


def test_a_result_that_is_turned_stays_with_what_made_it(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [("transpose", _MADE)], [0]) == [0]
    assert rows_after(tmp_path, [("transpose", _MADE), ("transpose", _READ)], [0, 0]) == [0, 1]


def test_what_the_second_does_not_read_stays(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [("transpose", _READ)], [0], reads=(_MADE, _MADE)) == [0]


def test_behind_what_computes_something_nothing_is_told(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [("softmax", _READ), ("transpose", _READ)], [0, 0]) == [0, 0]
