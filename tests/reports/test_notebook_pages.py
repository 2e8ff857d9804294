"""Budgets and diagnoses show themselves in notebooks, by themselves and without loading anything."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import memplan
from memplan.findings import diagnose
from memplan.hardware import chip
from memplan.kv import ServingOptions, budget, engine
from memplan.models import load_config

SAMPLES = Path(str(resources.files("memplan.samples")))


def test_a_budget_and_a_diagnosis_are_pieces_of_html() -> None:
    die = chip("910B3")
    model = load_config(SAMPLES / "example_config.json")
    planned = budget(model, die, engine("vllm-ascend", die), ServingOptions(length=2048))
    shown = planned._repr_html_()
    assert "KV cache" in shown
    assert f"{planned.sequences:,} sequences of 2,048 tokens" in shown
    found = diagnose(memplan.open_profile(SAMPLES / "llama_train_profile"))
    told = found._repr_html_()
    assert "Findings" in told
    for text in (shown, told):
        assert "<table" in text
        assert "<html" not in text
        assert "<script" not in text
        assert "http" not in text.split("</style>")[-1].partition("xmlns")[0]
