"""Each kind of evidence has a curve of its own, or goes by that of the kinds with which it shares its first words."""

from __future__ import annotations

import numpy as np

from memplan.align.probabilities.calibrated_chance import calibrated_chance
from memplan.align.probabilities.evidence import MatchEvidence
from memplan.core.resources import table


def told(*names: str) -> MatchEvidence:
    return MatchEvidence(np.arange(len(names), dtype=np.int8), names)


def test_sizes_that_fit_nothing_else_are_surer_than_order() -> None:
    given = calibrated_chance(np.full(3, 0.9), told("kernel.size", "kernel.order", "part.weak"), "scope")
    assert given[0] > given[1] > given[2]


def test_an_unseen_kind_goes_by_its_first_words() -> None:
    assert "kernel.never" not in table("memplan.align", "calibration.json")["op"]
    unseen, known, strange = calibrated_chance(np.full(3, 0.9), told("kernel.never", "kernel", "strange"), "op")
    assert unseen == known
    assert strange == 0.9


def test_probabilities_rise_with_what_the_model_gives() -> None:
    for claim in ("op", "scope"):
        for name in table("memplan.align", "calibration.json")[claim]:
            raw = np.linspace(0.0, 1.0, 21)
            given = calibrated_chance(raw, MatchEvidence(np.zeros(21, dtype=np.int8), (name,)), claim)
            assert (np.diff(given) >= 0).all()
            assert given.min() >= 0.0
            assert given.max() <= 1.0
