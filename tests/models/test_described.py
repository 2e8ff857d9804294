"""Families that `decoders.json` describes: totals of their reference implementations, field cases, whole steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.kv import CacheOptions, engine, logical_cache
from memplan.models import ModelConfig, load_config, parameter_counts, supported_families
from memplan.models.families.described import described_families
from memplan.models.parallel import Layout
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.steps.served_step import step_graph

TOTALS: dict[str, Any] = json.loads((Path(__file__).parent / "described.json").read_text(encoding="utf-8"))["families"]


def token_bytes(model: ModelConfig) -> int:
    """Bytes of 16-bit KV that one more token takes."""
    return logical_cache(model, engine("logical"), CacheOptions(), 1).length_bytes


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_those_of_the_reference_implementation(name: str) -> None:
    assert parameter_counts(load_config(TOTALS[name]["config"])).total == TOTALS[name]["total"]


@pytest.mark.parametrize("name", sorted(set(TOTALS) & set(described_families())))
def test_every_weight_has_its_op_in_a_decode_step(name: str) -> None:
    model = load_config(TOTALS[name]["config"])
    assert step_graph(model, Layout(), ServedStep(Phase.DECODE, 2, 256)).ops


def test_described_families_are_supported() -> None:
    assert set(described_families()) <= set(supported_families())


CASES = {
    40: (7.6e9, 57_344),
    41: (7.6e9, 57_344),
    42: (None, 98_304),
    44: (32.57e9, 62_464),
    45: (29.9e9, 54_144),
    47: (8.8e9, 49_152),
    49: (14.66e9, 204_800),
    50: (41.87e9, 131_072),
    51: (8.03e9, 139_264),
    53: (80.4e9, 131_072),
    55: (36.15e9, 262_144),
    56: (4.07e9, None),
    61: (119e9, None),
}
"""Of field cases: parameters of the decoder as published, rounded, and bytes of KV a token."""


@pytest.mark.parametrize("number", CASES)
def test_field_cases_of_families_that_were_unknown(number: int, shared_data: Path) -> None:
    """Went wrong once: these families were refused."""
    total, kept = CASES[number]
    model = load_config(next((shared_data / "field-cases" / "kv").glob(f"{number}-*")) / "config.json")
    if total is not None:
        assert parameter_counts(model).total == pytest.approx(total, rel=0.008)
    if kept is not None:
        assert token_bytes(model) == kept
