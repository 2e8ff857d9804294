"""What is done with the norm of a gradient is of that weight, not of the next one."""

from __future__ import annotations

from pathlib import Path

from memplan.align.rematch.summed_norms import take_summed_norms
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run


def rows_after(tmp_path: Path, kinds: list[int], size: int) -> list[int]:
    """Which norm (0 or 1) two kernels of single numbers, or of that `size`, between them and one behind are of."""
    rows = PlannedRows("llama", tmp_path)
    first, second, *_ = rows.extra("gradient norm")
    classes = made_classes([("vector_norm", (4096,), ()), ("pow", (size,), (size,)), ("add", (size, size), (size,))])
    given = made_assignment([first, first, second, second, second], [True, False, False, True, False], [0.9] * 5)
    take_summed_norms(made_run(rows.sequence, kinds, classes), given)
    return [0 if row == first else 1 for row in given.row.tolist()]


def test_sums_before_a_norm_are_of_the_one_before(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [0, 1, 2, 0, 1], 1) == [0, 0, 0, 1, 1]


def test_what_works_on_more_than_single_numbers_stays(tmp_path: Path) -> None:
    assert rows_after(tmp_path, [0, 1, 2, 0, 1], 4096) == [0, 0, 1, 1, 1]
