"""Where a step without shapes has as many updates as planned, and their times agree, each is of the next weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.op_families import family_table
from memplan.align.planned.planned_sequence import PlannedSequence
from memplan.align.rematch.updates_in_turn import take_updates_in_turn
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run

_UPDATE, _HELP = 0, 1


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlannedSequence, list[int]]:
    """A plan whose updates take the longer the later they stand, by turns, and their rows."""
    sequence = PlannedRows("llama_grouped", tmp_path_factory.mktemp("plan")).sequence
    optimizer = family_table().number("optimizer")
    rows = np.flatnonzero((sequence.classes.main[sequence.token] == optimizer) & (sequence.op >= 0))
    time = sequence.time.copy()
    time[rows] = 1000 * (1 + np.arange(len(rows)) % 5)
    return replace(sequence, time=time), rows.tolist()


def taken(
    updates: tuple[PlannedSequence, list[int]],
    *,
    slower: float = 3.0,
    missing: int = 0,
    turned: bool = False,
    sizes: tuple[int, ...] = (),
) -> KernelAssignment:
    """Updates with a small kernel before each, all of which were taken for the first one."""
    sequence, rows = updates
    planned = sequence.time[rows].astype(np.float32) * slower
    mine = (planned[::-1] if turned else planned)[: len(rows) - missing]
    kinds = np.tile(np.array([_HELP, _UPDATE], dtype=np.int32), len(mine))
    times = np.stack((np.full(len(mine), 9.0, dtype=np.float32), mine), axis=1).reshape(-1)
    found = made_assignment([rows[0]] * len(kinds), [False, True] * len(mine), [0.2] * len(kinds))
    classes = made_classes([("optimizer", sizes, sizes), ("add", sizes, sizes)])
    take_updates_in_turn(made_run(sequence, kinds, classes, times=times), found)
    return found


def test_each_is_of_the_next_weight_with_what_leads_to_it(updates: tuple[PlannedSequence, list[int]]) -> None:
    found = taken(updates)
    assert found.row.tolist() == found.first.tolist() == [row for row in updates[1] for _ in range(2)]
    assert found.core.tolist() == [False, True] * len(updates[1])
    assert found.chance.min() > 0.9


@pytest.mark.parametrize(("missing", "turned", "sizes"), [(1, False, ()), (0, True, ()), (0, False, (64, 64))])
def test_what_speaks_against_that_leaves_all_as_it_was(
    updates: tuple[PlannedSequence, list[int]], missing: int, turned: bool, sizes: tuple[int, ...]
) -> None:
    """One is missing, times disagree, or shapes tell more."""
    found = taken(updates, missing=missing, turned=turned, sizes=sizes)
    assert set(found.row.tolist()) == {updates[1][0]}
    assert found.chance.max() == 0.2
