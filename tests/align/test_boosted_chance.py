"""Probabilities of matches: what speaks for one raises its own, and the trees are summed as they are written."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest

from benchmarks.calibration_fit import ShownRuns, rising_levels
from memplan.align.kernel_scopes import KernelScopes
from memplan.align.probabilities import told_apart
from memplan.align.probabilities.boosted_chance import boosted_chance, stated_chance
from memplan.align.probabilities.boosted_loops import summed_trees
from memplan.align.probabilities.match_features import (
    NEITHER,
    SHAPES,
    SIGHTS,
    TIMES,
    WAYS,
    MatchFeatures,
    sight_of,
)
from memplan.core.arrays import Floats
from memplan.core.resources import table
from tests.align.made_assignments import made_assignment


def features(way: str, **values: float) -> MatchFeatures:
    """One match of that way; what isn't given is 0."""
    columns = [np.array([values.get(column.name, 0.0)], dtype=np.float32) for column in fields(MatchFeatures)[1:]]
    return MatchFeatures(np.array([WAYS.index(way)], dtype=np.int8), *columns)


def chance(given: float, match: MatchFeatures, claim: str = "op") -> float:
    return float(boosted_chance(np.array([given]), match, claim)[0])


def test_a_kernel_whose_sizes_fit_nothing_else_is_surer_than_a_part_that_fits_as_well_elsewhere() -> None:
    sure = features("kernel", own=11.0, margin=9.0, alike=1.0, spread=1.0, beside=0.0, heavy=1.0)
    unsure = features("part", own=1.5, margin=0.0, alike=0.4, spread=0.3, beside=1.0, uneven=1.0, many=5.0)
    doubted = replace(unsure, like_doubt=np.array([0.9], np.float32), near_doubt=np.array([0.5], np.float32))
    for claim in ("op", "scope"):
        assert chance(0.99, sure, claim) > 0.95
        assert chance(0.99, unsure, claim) < chance(0.99, sure, claim) - 0.05
        assert chance(0.1, doubted, claim) < chance(0.99, sure, claim) - 0.05


def test_trees_go_right_from_their_threshold_on() -> None:
    rows = np.array([[0.0, 5.0], [1.0, 5.0], [1.0, 1.0]], dtype=np.float32)
    total = np.zeros(3)
    asks = np.array([[0, 1, 1]], dtype=np.uint32)
    least = np.array([[1.0, 9.0, 2.0]], dtype=np.float32)
    summed_trees(rows, asks, least, np.array([[1.0, 2.0, 3.0, 4.0]]), 2, total)
    assert total.tolist() == [1.0, 4.0, 3.0]


def test_what_is_stated_is_one_of_a_few_levels_that_rise_and_nothing_below_even_odds() -> None:
    """The less a run has that tells kernels apart, the less is stated."""
    for claim, sight in product(("op", "scope", "place"), SIGHTS):
        least, right = zip(*table("memplan.align", "calibration.json")[claim]["levels"][sight], strict=True)
        assert (least[0], right[0]) == (0.0, None)
        assert list(least) == sorted(set(least))
        assert list(right[1:]) == sorted(set(right[1:]))
        assert right[1] > 0.8
        stated = stated_chance(np.array([0.0, least[1] - 0.001, least[1], 1.0]), sight, claim)
        assert np.isnan(stated).tolist() == [True, True, False, False]
        assert stated[2:].tolist() == [right[1], right[-1]]
        assert least[1] == {SHAPES: 0.5, TIMES: 0.6, NEITHER: 0.95}[sight]


def test_a_run_says_whether_its_times_agree_with_the_plan() -> None:
    few, most = np.array([0.0, 0.0, 1.0], np.float32), np.ones(3, np.float32)
    assert sight_of(few, most) == SHAPES
    assert sight_of(most, np.array([-2.0, 0.9, 0.9], np.float32)) == TIMES
    assert sight_of(most, np.array([-2.0, 0.7, 0.7], np.float32)) == NEITHER
    assert sight_of(most[:0], most[:0]) == SHAPES


def test_a_match_less_likely_than_not_is_not_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its op and scope have no probability; its place has one of its own, or none."""
    said = {"op": [0.9, 0.1, 0.1], "scope": [0.2, 0.9, 0.9], "place": [0.9, 0.1]}

    def trees(chance: Floats, features: MatchFeatures, claim: str) -> Floats:
        assert len(chance) == len(features.way) == len(said[claim])
        return np.array(said[claim])

    monkeypatch.setattr(told_apart, "boosted_chance", trees)
    one = features("kernel")
    three = MatchFeatures(*(np.repeat(getattr(one, column.name), 3) for column in fields(MatchFeatures)))
    found = made_assignment([3, 4, -1], [True] * 3, [0.9] * 3)
    likely, place = told_apart.state_chances(found, three)
    assert likely.tolist() == said["op"]
    assert np.isnan(found.chance).tolist() == np.isnan(found.scope_chance).tolist() == [False, True, True]
    assert found.scope_chance[0] == found.chance[0]  # a scope is no less likely than its op
    assert np.isnan(place).tolist() == [False, False, True]


def test_a_kernel_that_is_not_told_apart_keeps_the_place_that_is_sure() -> None:
    column = np.array([0, 1, 1], dtype=np.int32)
    sure = np.array([0.9, np.nan, np.nan])
    scopes = KernelScopes(column, column, column, column, column, sure, sure, ("a", "b"), ("p", "q"), ("x", "y"))
    told = told_apart.scopes_as_stated(scopes, np.isnan(sure), np.array([0.9, 0.8, np.nan]))
    assert told.untold().tolist() == [False, True, True]
    assert [told.path(kernel) for kernel in range(3)] == [
        "layers.0.p, x, a, micro-batch 0", "layers.1, not told apart, b, micro-batch 1", "not told apart",
    ]  # fmt: skip


def test_rows_have_what_their_names_say() -> None:
    rows = features("written", own=2.0, many=3.0).rows(np.array([0.5]))
    named = dict(zip(MatchFeatures.names(), rows[0].tolist(), strict=True))
    assert named["chance"] == 0.0
    assert (named["own"], named["many"], named["way.written"], named["way.kernel"]) == (2.0, 3.0, 1.0, 0.0)


def level_of_runs(shares: list[float], kernels: int = 50) -> float | None:
    """The level of runs with so many kernels each, all given the same, of which these shares are right."""
    right = np.concatenate([np.arange(kernels) < round(share * kernels) for share in shares]).astype(np.float64)
    run = np.repeat(np.arange(len(shares)), kernels)
    shown = ShownRuns(run, np.ones(len(run)), np.full(len(shares), kernels**-0.5))
    _, (_, level) = rising_levels(np.full(len(run), 0.7), right, shown, (0.5,))
    return level


def test_a_level_that_few_runs_tell_is_the_likely_one_that_holds_in_most_of_them() -> None:
    """Two runs that are wrong by far pull the share to 0.92, by which ten that are right are each too modest."""
    assert level_of_runs([1.0] * 10 + [0.52, 0.52]) == pytest.approx(0.951)
    assert level_of_runs([0.9] * 10 + [1.0, 1.0]) == pytest.approx(0.9167, abs=1e-4)  # the share holds in as many


def test_a_level_that_many_runs_tell_is_their_share() -> None:
    many = [1.0, 0.8] * 200
    assert level_of_runs(many) == pytest.approx(0.9, abs=0.011)
    assert level_of_runs([1.0] * 900 + [0.4] * 100) == pytest.approx(0.94, abs=0.012)
    assert level_of_runs([0.98] * 9) == 0.98


def test_levels_rise_and_kernels_of_a_run_that_are_few_tell_no_share_of_it() -> None:
    given = np.repeat([0.6, 0.8, 0.9], 100)
    right = np.concatenate([np.arange(100) < count for count in (60, 50, 90)]).astype(np.float64)
    shown = ShownRuns(np.arange(300) % 20, np.ones(300), np.ones(20))
    assert rising_levels(given, right, shown, (0.5, 0.7, 0.85)) == [(0.0, None), (0.5, 0.55), (0.85, 0.9)]
