"""Where probabilities of matches come from: parts of claims, kept and read again, give the same file to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration_fit
from benchmarks.boosted_trees import Boosting
from benchmarks.calibration_claims import RawClaims
from benchmarks.calibration_fit import PARTS, calibration_source, calibration_text
from benchmarks.calibration_parts import keep_parts, kept_parts, parts_told
from memplan.align.probabilities.match_features import MatchFeatures
from memplan.core.resources import table
from tests.align.torch_configs import RUNS, SEEN_RUNS

COUNT = 400


def made(seed: int) -> RawClaims:
    """A run of claims the likelier right, the higher their first feature is."""
    chance = np.random.default_rng(seed)
    rows = chance.random((COUNT, len(MatchFeatures.names()))).astype(np.float32)
    right = (chance.random(COUNT) < rows[:, 0]).astype(np.float64)
    claims = ("op", "scope", "place")
    weight = chance.random(COUNT) + 0.5
    return RawClaims(dict.fromkeys(claims, rows), dict.fromkeys(claims, right), np.ones(COUNT), weight)


def made_parts() -> dict[str, list[RawClaims]]:
    return {name: [made(10 * at), made(10 * at + 1)] if at % 2 else [] for at, name in enumerate(PARTS)}


def test_kept_parts_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_fit, "_BOOSTING", Boosting(trees=2, depth=2))
    parts = made_parts()
    keep_parts(tmp_path, parts)
    again = kept_parts(tmp_path, PARTS)
    assert parts_told(again) == parts_told(parts)
    text = calibration_text("made", parts)
    assert text == calibration_text("made", again)
    document = json.loads(text)
    assert list(document["parts"]) == list(PARTS)
    assert document["parts"]["recorded"]["kernels"] == 2 * COUNT


def test_a_digest_tells_any_change_of_what_was_said() -> None:
    one, two = made(1), made(2)
    digests = {
        str(parts_told({"part": runs})["part"]["digest"])
        for runs in (
            [one, two], [two, one], [one],
            [replace(one, weight=one.weight * 2), two],
            [replace(one, right={**one.right, "op": 1.0 - one.right["op"]}), two],
        )
    }  # fmt: skip
    assert len(digests) == 5


def test_the_file_at_hand_was_fitted_to_what_the_command_names() -> None:
    """Its own parts were not kept: it says on which rules they were collected, and has no digests."""
    document = table("memplan.align", "calibration.json")
    named = calibration_source(
        range(5400, 5580), range(5200, 5340), [*RUNS, *SEEN_RUNS], 120, (5200, 5201, 5202, 5203)
    )  # fmt: skip
    assert document["source"].startswith(named)
    assert "parts" in document or "Claims were collected in parts on rules before" in document["source"]
