"""What times say of matches of kernels without shapes, for those who tell how sure these are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memplan.align.planned.time_ranks import likeness_of_times, rank_agreement
from memplan.align.probabilities.time_evidence import time_evidence
from memplan.core.arrays import Floats
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run

_TIMES = {".q_proj+k_proj+v_proj": 4_000, ".o_proj": 1_000, ".gate_proj+up_proj": 16_000, ".down_proj": 64_000}
"""Planned nanoseconds of these products."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> PlannedRows:
    return PlannedRows("llama", tmp_path_factory.mktemp("plan"))


def evidence(
    rows: PlannedRows, slower: Floats, sizes: tuple[int, ...] = ()
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Of kernels that run all of these products, so many times slower than planned each; a part of one is the last."""
    time = rows.sequence.time.copy()
    for part, took in _TIMES.items():
        time[rows.of_layers(part)] = took
    sequence = replace(rows.sequence, time=time)
    mine = sorted(row for part in _TIMES for row in rows.of_layers(part))
    count = len(mine)
    found = made_assignment([*mine, mine[0]], [True] * count + [False], [0.9] * (count + 1))
    times = np.append(time[mine] * np.resize(slower, count), 10.0).astype(np.float32)
    classes = made_classes([("product", sizes, sizes)])
    off, like, family, run = time_evidence(made_run(sequence, [0] * (count + 1), classes, times=times), found)
    return off.tolist(), like.tolist(), family.tolist(), run.tolist()


def test_a_machine_that_is_slower_throughout_agrees(rows: PlannedRows) -> None:
    off, like, family, run = evidence(rows, np.array([30.0]))
    assert max(off[:-1]) < 0.01
    assert max(like[:-1]) < 0.01
    assert min(family) > 0.99
    assert min(run) > 0.99
    assert off[-1] == like[-1] == -2.0  # a part has no time of its own, but stands in a run that has


def test_one_that_took_far_longer_is_off_and_its_like_a_little(rows: PlannedRows) -> None:
    slower = np.ones(4 * len(rows.of_layers(".o_proj")))
    slower[0] = np.e**3
    off, like, _, run = evidence(rows, slower)
    assert off[0] == pytest.approx(3.0, abs=0.01)
    assert max(off[1:]) < 0.01
    assert 0.1 < like[0] < 3.0
    assert run[0] < 0.999


def test_times_in_the_other_order_disagree(rows: PlannedRows) -> None:
    planned = np.array([4.0, 1.0, 16.0, 64.0])
    _, _, family, run = evidence(rows, planned**-2.0)
    assert max(family) < -0.9
    assert max(run) < -0.9


def test_of_kernels_with_shapes_times_say_nothing(rows: PlannedRows) -> None:
    for column in evidence(rows, np.array([1.0]), (64, 64)):
        assert set(column) == {-2.0}


def test_ranks_agree_whatever_the_scale_and_one_value_alone_tells_nothing() -> None:
    planned = np.array([1.0, 5.0, 5.0, 20.0])
    assert rank_agreement(planned, np.array([2.0, 9.0, 9.0, 8e3])) == pytest.approx(1.0)
    assert rank_agreement(planned, -planned) == pytest.approx(-1.0)
    assert rank_agreement(planned, np.full(4, 7.0)) == 0.0


def test_updates_in_order_are_liker_than_turned_ones() -> None:
    planned = [10, 400, 50, 3000, 10, 410, 60]
    ran = [90, 3000, 500, 21000, 80, 2900, 470]
    assert likeness_of_times(planned, ran) > 1.2 * likeness_of_times(planned[::-1], ran)
