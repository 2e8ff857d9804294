"""What public rows that ask the same leave to any predictor."""

from __future__ import annotations

from math import exp
from pathlib import Path
from random import Random
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.engine_rows import engine_rows
from benchmarks.serving_pairs import RowPair, reach_cells, reachable_error, row_pairs

PAGE = Path(__file__).parents[2] / "benchmarks/serving.md"


def _pair(apart: float) -> RowPair:
    row = cast(Any, SimpleNamespace(told={}))
    return RowPair(row, row, apart)


@pytest.mark.parametrize("apart", [1.0, 1.3, 2.5, 10.0])
def test_no_prediction_is_nearer_to_both_rows(apart: float) -> None:
    """Tried at every place between two rows, the better of which takes 1."""
    tried = (1 + (apart - 1) * step / 10000 for step in range(10001))
    least = min(max(abs(time - 1), abs(time / apart - 1)) for time in tried)
    assert _pair(apart).at_best == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("width", [0.1, 0.3, 0.6])
def test_what_pairs_say_of_all_rows_is_what_the_middle_misses_them_by(width: float) -> None:
    chance = Random(7)
    pairs = [_pair(exp(abs(chance.gauss(0, width) - chance.gauss(0, width)))) for _ in range(20000)]
    missed = [abs(exp(chance.gauss(0, width)) - 1) for _ in range(20000)]
    found = reachable_error(pairs)
    assert found.median == pytest.approx(median(missed), rel=0.05)
    assert found.far == pytest.approx(sum(error > 0.4 for error in missed) / len(missed), abs=0.02)
    assert found.at_best == pytest.approx(median((pair.apart - 1) / (pair.apart + 1) for pair in pairs))


@pytest.mark.slow
def test_the_page_has_the_pairs_of_now(shared_data: Path) -> None:
    pairs, page = row_pairs(engine_rows(shared_data), shared_data), PAGE.read_text("utf-8").replace(" %", "%")
    for name, own in (("all", pairs), ("told", [pair for pair in pairs if pair.told])):
        assert f"| {name} | {' | '.join(reach_cells(reachable_error(own)))} |" in page
