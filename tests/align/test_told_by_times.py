"""In a profile without shapes times tell which op of a family a kernel runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from memplan.align.rematch.told_by_times import take_told_by_times
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run

_SHORT, _LONG = 1_000, 30_000
"""Planned nanoseconds of the sum of a weight's gradients, and of that of activations."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> PlannedRows:
    return PlannedRows("llama_grouped", tmp_path_factory.mktemp("plan"))


def after(rows: PlannedRows, given: list[int], times: Sequence[float], sizes: tuple[int, ...] = ()) -> list[int]:
    """The rows of sums with those `given` that took those `times`, where those of activations are planned long."""
    planned = np.full(len(rows.sequence), _SHORT, dtype=np.int64)
    planned[rows.of_layers(".norm.1.sum")] = _LONG
    sequence = replace(rows.sequence, time=planned)
    assigned = made_assignment(given, [True] * len(given), [0.9] * len(given))
    classes, took = made_classes([("add", sizes, sizes[:1])]), np.array(times, dtype=np.float32)
    take_told_by_times(made_run(sequence, [0] * len(given), classes, times=took), assigned)
    found: list[int] = assigned.row.tolist()
    return found


def both(rows: PlannedRows) -> tuple[list[int], list[int]]:
    """Rows of the sums behind the gradients of norms, as planned and the other way round."""
    short, long = rows.of_layers(".norm.1.gamma"), rows.of_layers(".norm.1.sum")
    return [row for pair in zip(short, long, strict=True) for row in pair], [
        row for pair in zip(long, short, strict=True) for row in pair
    ]


def test_two_that_take_the_time_of_each_other_change_places(rows: PlannedRows) -> None:
    planned, other = both(rows)
    layers = len(planned) // 2
    assert after(rows, planned, [1.5 * _LONG, 0.8 * _SHORT] * layers) == other
    assert after(rows, planned, [1.5 * _SHORT, 0.8 * _LONG] * layers) == planned


def test_a_few_that_took_long_tell_nothing(rows: PlannedRows) -> None:
    planned, _ = both(rows)
    layers = len(planned) // 2
    assert after(rows, planned, [_LONG, _SHORT] * 2 + [_SHORT, _LONG] * (layers - 2)) == planned


def test_shapes_tell_more_than_times(rows: PlannedRows) -> None:
    planned, _ = both(rows)
    assert after(rows, planned, [_LONG, _SHORT] * (len(planned) // 2), (64,)) == planned


def test_an_op_that_nothing_runs_takes_the_kernel_of_its_time(rows: PlannedRows) -> None:
    short, long = rows.of_layers(".norm.1.gamma"), rows.of_layers(".norm.1.sum")
    given = [*short, *long[1:]]
    times = [float(_SHORT)] * len(short) + [float(_LONG)] * (len(long) - 1)
    times[1] = 1.2 * _LONG
    assert after(rows, given, times) == [short[0], long[0], *short[2:], *long[1:]]
    times[1] = 4.0 * _SHORT
    assert after(rows, given, times) == given
