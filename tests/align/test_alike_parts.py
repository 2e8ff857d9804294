"""Parts behind ops of one kind are alike, and what turns the results of an op is of that op."""

from __future__ import annotations

import numpy as np
import pytest

from memplan.align.assignment import KernelAssignment
from memplan.align.classes.likelihood import Likelihoods
from memplan.align.rematch.turned_results import take_turned_results
from memplan.align.rematch.twin_parts import take_twin_parts
from tests.align.made_assignments import PlannedRows, made_assignment, made_classes, made_run

_SURE, _UNSURE = 0.95, 0.4


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> PlannedRows:
    return PlannedRows("llama_grouped", tmp_path_factory.mktemp("plan"))


def copies_behind_rotaries(rows: PlannedRows, *, clear: bool) -> tuple[KernelAssignment, list[int], list[int]]:
    """
    Copies behind the rotary embeddings of queries and keys, the latter's taken for attention's: after the rule.

    With the rows of the keys' embedding and of attention; `clear` is whether the former's can be nothing else's.
    """
    sequence = rows.sequence
    kinds = [("rotary", (64,), (64,)), ("copy", (64,), (64,)), ("rotary", (16,), (16,)), ("copy", (16,), (16,))]
    classes = made_classes([*kinds, ("attention", (64, 16, 16), (64,))])
    shape = len(sequence.classes), len(classes)
    ratio = np.ones(shape, dtype=np.float32)
    before = ratio.copy()
    before[:, 1] = 0.01 if clear else 1.0
    found = []
    queries, keys, attention = (rows.of_layers(f".{part}") for part in ("q.rotary", "k.rotary", "attention"))
    for query, key, after in zip(queries, keys, attention, strict=True):
        found += [query, query, key, after, after]
    layers = len(queries)
    assigned = made_assignment(
        found, [True, False, True, False, True] * layers, [_SURE, _SURE, 0.9, _UNSURE, 0.9] * layers
    )
    ratios = Likelihoods(ratio, before, ratio, before, ratio, ratio)
    take_twin_parts(made_run(sequence, [0, 1, 2, 3, 4] * layers, classes, ratios), assigned)
    return assigned, keys, attention


def test_what_is_behind_one_op_of_a_kind_is_behind_the_other(rows: PlannedRows) -> None:
    found, keys, _ = copies_behind_rotaries(rows, clear=True)
    assert found.row[3::5].tolist() == keys
    assert found.scope_chance[3::5] == pytest.approx(_SURE)


def test_what_may_be_of_the_next_op_in_both_places_stays(rows: PlannedRows) -> None:
    found, _, attention = copies_behind_rotaries(rows, clear=False)
    assert found.row[3::5].tolist() == attention
    assert (found.scope_chance[3::5] == _UNSURE).all()


def turned(rows: PlannedRows, made: tuple[int, ...], families: list[str], given: list[int]) -> list[int]:
    """
    Rows, from that of the gradient of attention on, of kernels of 64, 16 and 16 elements behind it, after the rule.

    It makes what is `made`, and the kernels had the rows `given`.
    """
    sequence = rows.sequence
    first = rows.of_layers(".attention.grad")[0]
    turns = [(family, (size,), (size,)) for family, size in zip(families, (64, 16, 16), strict=True)]
    classes = made_classes([("attention_grad", (64, 64, 16, 16), made), *turns, ("rotary_grad", (16,), (16,))])
    assigned = made_assignment([first + row for row in (0, *given, 1)], [True, False, False, False, True], [0.9] * 5)
    take_turned_results(made_run(sequence, range(5), classes), assigned)
    return [row - first for row in assigned.row[1:4].tolist()]


def test_all_results_are_turned_for_the_op_that_makes_them(rows: PlannedRows) -> None:
    assert turned(rows, (64, 16, 16), ["transpose"] * 3, [0, 1, 1]) == [0, 0, 0]


def test_what_is_no_result_or_of_another_family_stays(rows: PlannedRows) -> None:
    assert turned(rows, (64, 16), ["transpose"] * 3, [0, 1, 1]) == [0, 0, 1]
    assert turned(rows, (64, 16, 16), ["transpose", "cast", "transpose"], [0, 1, 1]) == [0, 1, 1]
    assert turned(rows, (64, 16, 16), ["transpose"] * 3, [1, 1, 1]) == [1, 1, 1]


def test_without_shapes_nothing_tells_what_is_turned(rows: PlannedRows) -> None:
    first = rows.of_layers(".attention.grad")[0]
    classes = made_classes([("attention_grad", (), ()), ("transpose", (), ()), ("rotary_grad", (), ())])
    assigned = made_assignment([first, first, first + 1, first + 1], [True, False, False, True], [0.9] * 4)
    take_turned_results(made_run(rows.sequence, [0, 1, 1, 2], classes), assigned)
    assert assigned.row.tolist() == [first, first, first + 1, first + 1]


def test_a_result_is_turned_back_for_an_op_for_which_operands_are_turned(rows: PlannedRows) -> None:
    sequence = rows.sequence
    first = rows.of_layers(".attention")[0]
    turn = ("transpose", (64,), (64,))
    classes = made_classes([turn, ("attention", (64, 64, 64), (64,)), ("product", (64, 64), (64,))])
    assigned = made_assignment(
        [first, first, first, first, first + 1, first + 1], [False] * 3 + [True, False, True], [0.8] * 3 + [0.9] * 3
    )
    take_turned_results(made_run(sequence, [0, 0, 0, 1, 0, 2], classes), assigned)
    assert assigned.row.tolist() == [first] * 5 + [first + 1]
    assert assigned.scope_chance[4] == 0.8
