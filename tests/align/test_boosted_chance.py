"""Probabilities of matches: what speaks for one raises its own, and the trees are summed as they are written."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from memplan.align.probabilities.boosted_chance import boosted_chance, summed_chance
from memplan.align.probabilities.boosted_loops import summed_trees
from memplan.align.probabilities.match_features import WAYS, MatchFeatures
from memplan.core.resources import table


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
        told = table("memplan.align", "calibration.json")[claim]
        less, more = (
            summed_chance(told, of.rows(np.array([given])))[0] for given, of in ((0.1, doubted), (0.99, unsure))
        )
        assert less < more


def test_trees_go_right_from_their_threshold_on() -> None:
    rows = np.array([[0.0, 5.0], [1.0, 5.0], [1.0, 1.0]], dtype=np.float32)
    total = np.zeros(3)
    asks = np.array([[0, 1, 1]], dtype=np.int64)
    least = np.array([[1.0, 9.0, 2.0]], dtype=np.float32)
    summed_trees(rows, asks, least, np.array([[1.0, 2.0, 3.0, 4.0]]), 2, total)
    assert total.tolist() == [1.0, 4.0, 3.0]


def test_what_is_given_is_one_of_a_few_levels_that_rise() -> None:
    for claim in ("op", "scope"):
        least, right = zip(*table("memplan.align", "calibration.json")[claim]["levels"], strict=True)
        assert list(least) == sorted(set(least))
        assert list(right) == sorted(set(right))
        given = {chance(share, features("kernel", own=own), claim) for share in (0.02, 0.5, 0.9, 1.0) for own in (1, 9)}
        assert given <= set(right)


def test_rows_have_what_their_names_say() -> None:
    rows = features("written", own=2.0, many=3.0).rows(np.array([0.5]))
    named = dict(zip(MatchFeatures.names(), rows[0].tolist(), strict=True))
    assert named["chance"] == 0.0
    assert (named["own"], named["many"], named["way.written"], named["way.kernel"]) == (2.0, 3.0, 1.0, 0.0)
