"""The models that step graphs are tried on: every published config at hand, and one of every family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.models import ModelConfig, load_config

FAMILIES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "models" / "families.json").read_text(encoding="utf-8")
)
FAMILY_NAMES = [name for name in FAMILIES if name != "source"]


@pytest.fixture(scope="session")
def family_models() -> Mapping[str, ModelConfig]:
    return {name: load_config(FAMILIES[name]["config"]) for name in FAMILY_NAMES}


@pytest.fixture(scope="session")
def published_models(published_configs: list[Path]) -> list[ModelConfig]:
    return [load_config(path) for path in published_configs]


@pytest.fixture(scope="session")
def llama(shared_data: Path) -> ModelConfig:
    """The first four layers of Llama 3.1 8B, as published."""
    model = load_config(shared_data / "configs" / "meta-llama--Meta-Llama-3.1-8B.json")
    return replace(model, layers=model.layers[:4])


@pytest.fixture(scope="session")
def deepseek(shared_data: Path) -> ModelConfig:
    """The first four layers of DeepSeek-V3, three dense ones and one of experts, without those that draft."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.json")
    return replace(model, layers=model.layers[:4], mtp_layers=())
