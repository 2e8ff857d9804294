"""Times of kernels without shapes speak for ops as far as those of the run follow the plan's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memplan.align.classes.likelihood import Likelihoods, likelihoods
from memplan.align.pairs.timed_classes import timed_classes
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.core.arrays import Floats
from tests.align.made_assignments import PlannedRows, made_classes, made_run

_PARTS = (".q_proj+k_proj+v_proj", ".o_proj", ".gate_proj+up_proj", ".down_proj")
_TIMES = (4_000, 1_000, 16_000, 64_000)
"""Planned nanoseconds of these products."""


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlannedSequence, list[int]]:
    """A plan with those times, and the rows of the products of all its layers."""
    rows = PlannedRows("llama", tmp_path_factory.mktemp("plan"))
    time = rows.sequence.time.copy()
    of_part = [rows.of_layers(part) for part in _PARTS]
    for mine, took in zip(of_part, _TIMES, strict=True):
        time[mine] = took
    return replace(rows.sequence, time=time), sorted(row for mine in of_part for row in mine)


def factors(products: tuple[PlannedSequence, list[int]], ran: Callable[[Floats], Floats]) -> Floats:
    """How much the time of each of three kernels a product speaks for its op, of what `ran` makes of planned times."""
    sequence, rows = products
    kinds = made_classes([("product", (), ())])
    row = np.array(rows * 3)
    planned = sequence.time[row].astype(np.float64)
    ratios = likelihoods(sequence.classes, sequence.rules, kinds)
    took = ran(planned).astype(np.float32)
    timed = timed_classes(made_run(sequence, [0] * len(row), kinds, ratios, took), row)
    assert not timed.untimed.any()
    found: Floats = timed.factor[sequence.token[row], timed.kernel_class].astype(np.float64)
    assert isinstance(timed.ratios(ratios), Likelihoods)
    assert (timed.ratios(ratios).behind == ratios.behind[:, timed.untimed]).all()
    return found


def test_times_that_follow_the_plan_speak_for_their_ops_on_any_machine(
    products: tuple[PlannedSequence, list[int]],
) -> None:
    assert factors(products, lambda planned: 0.5 * planned).min() > 2.0
    assert factors(products, lambda planned: 30.0 * planned).min() > 2.0


def test_times_that_have_nothing_to_do_with_the_plan_say_nothing(products: tuple[PlannedSequence, list[int]]) -> None:
    chance = np.random.default_rng(7)
    mixed = factors(products, lambda planned: chance.permutation(planned))
    assert (mixed.min() > 0.5) & (mixed.max() < 2.0)
    assert np.abs(np.log(factors(products, lambda planned: np.full(len(planned), 7e5)))).max() < 0.05


def test_an_op_that_takes_far_longer_than_its_kind_is_not_ruled_out(
    products: tuple[PlannedSequence, list[int]],
) -> None:
    """Something may have stopped one kernel."""
    found = factors(products, lambda planned: np.where(np.arange(len(planned)) == 5, 900.0 * planned, planned))
    assert found[5] >= 0.1
    assert np.delete(found, 5).min() > 1.0


def test_few_kernels_tell_nothing(products: tuple[PlannedSequence, list[int]], tmp_path: Path) -> None:
    sequence, rows = products
    assert (factors((sequence, rows[:3]), lambda planned: planned) == 1.0).all()
