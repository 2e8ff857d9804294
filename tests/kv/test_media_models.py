"""Models whose pictures attend in both directions, and classes that know one cache type: kernels, steps, types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.kv import CacheOptions, EngineSettings, ServingOptions, engine, resolve
from memplan.models import ModelConfig, load_config

_MODELS = Path(__file__).parents[1] / "models"


def _decoder(**more: object) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((_MODELS / "families.json").read_text("utf-8"))["gemma4_text"]["config"]
    return config | more


def _resolved(model: ModelConfig, served: str, **more: Any) -> EngineSettings:
    return resolve(model, engine(served), ServingOptions(8192, **more))


def _choice(settings: EngineSettings, name: str) -> str:
    return next(str(choice.value) for choice in settings.choices if str(choice.setting) == name)


@pytest.mark.parametrize(("served", "size"), [("vllm-0.33.0-b200", 64), ("vllm-0.33.0-h100", 16)])
def test_pictures_need_a_kernel_that_looks_ahead(served: str, size: int) -> None:
    """Answers of vLLM's own classes: text alone takes the usual kernel, in blocks of 16."""
    text = load_config(_decoder())
    media = load_config({"model_type": "gemma4", "text_config": _decoder(use_bidirectional_attention="vision")})
    assert _resolved(text, served).options.caches.block_size == 16
    assert _resolved(media, served).options.caches.block_size == size
    assert "TRITON" in _choice(_resolved(media, served), "attention kernel")
    assert "TRITON" not in _choice(_resolved(text, served), "attention kernel")


@pytest.mark.parametrize("served", ["vllm-0.33.0-b200", "vllm-0.23.0", "vllm-ascend-0.30.0rc2-a3"])
def test_a_step_holds_the_largest_video(served: str) -> None:
    """32 frames of 70 tokens and 8 around each, unless told otherwise; not where pictures are read in order."""
    media = load_config({"model_type": "gemma4", "text_config": _decoder(use_bidirectional_attention="vision")})
    in_order = load_config({"model_type": "gemma4", "text_config": _decoder()})
    assert _resolved(media, served).options.batched_tokens == 32 * 78
    assert _resolved(media, served, batched_tokens=2048).options.batched_tokens == 2048
    assert _resolved(in_order, served).options.batched_tokens == 2048


def test_a_unified_model_attends_both_ways_by_default() -> None:
    unified = load_config({"model_type": "gemma4_unified", "text_config": _decoder()})
    assert unified.media_prefix
    none = {"model_type": "gemma4_unified", "text_config": _decoder(use_bidirectional_attention=None)}
    assert not load_config(none).media_prefix


@pytest.mark.parametrize("served", ["vllm-0.33.0-h100", "vllm-0.23.0", "vllm-ascend-0.23.0.post1-a5"])
def test_a_class_that_does_not_pass_the_type_on_keeps_the_default(served: str) -> None:
    """Vllm model_executor/models/falcon.py gives its attention no cache configuration."""
    described = json.loads((_MODELS / "described.json").read_text("utf-8"))
    falcon = load_config(described["families"]["falcon"]["config"])
    asked = CacheOptions(kv="fp8")
    assert _resolved(falcon, served, caches=asked).options.caches.kv == "bf16"
    assert _choice(_resolved(falcon, served, caches=asked), "cache type") == "bf16"


def test_a_type_that_the_engine_has_not_is_refused_for_every_class() -> None:
    described = json.loads((_MODELS / "described.json").read_text("utf-8"))
    falcon = load_config(described["families"]["falcon"]["config"])
    with pytest.raises(InputError, match="keeps no cache in 'fp8'"):
        _resolved(falcon, "vllm-ascend-0.30.0rc2-310p", caches=CacheOptions(kv="fp8"))
