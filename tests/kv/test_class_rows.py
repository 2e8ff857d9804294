"""Answers of the engines' own classes and planners to models as users serve them, with drafts and pipelines."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = [json.loads(line) for line in (HERE / "class_rows.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def draws() -> ModuleType:
    """The tool that asks the engines themselves, which has the same questions."""
    path = HERE.parents[1] / "tools" / "kv_oracle" / "model_draws.py"
    spec = importlib.util.spec_from_file_location("model_draws", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config(draws: ModuleType, row: dict[str, Any], configs: Path) -> dict[str, Any]:
    """The row's own config, or the published one with as many layers as the row says."""
    if "config" in row:
        return dict(row["config"])
    found: dict[str, Any] = draws.cut_to(
        json.loads((configs / f"{row['name']}.json").read_text("utf-8")), row["layers"]
    )
    return found


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['served']}-{row['name']}-{row['args'].get('max_model_len')}"
)
def test_a_plan_is_the_engines(row: dict[str, Any], draws: ModuleType, shared_data: Path) -> None:
    question = row | {"config": _config(draws, row, shared_data / "configs")}
    here = draws.ours(row["served"], question)
    assert not draws.unlike(here, row["answer"]), (here, row["answer"])
