"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real profiles, benchmark instances and configs beside the project; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside the project")
    return folder


@pytest.fixture(scope="session")
def published_configs(shared_data: Path) -> list[Path]:
    """Every published config at hand that is read; those of a quantisation not read yet are named in the models' tests."""
    return [path for path in sorted((shared_data / "configs").glob("*.json")) if path.stem not in UNREAD_CONFIGS]


UNREAD_CONFIGS = frozenset(
    {
        "nvidia--GLM-5.2-NVFP4",
        "nvidia--Gemma-4-31B-IT-NVFP4",
        "nvidia--Kimi-K2.7-Code-NVFP4",
        "nvidia--Qwen3.6-27B-NVFP4",
    }
)
"""Checkpoints quantised by modelopt: refused by name of the method."""
