"""The longest sequence when none is asked for: answers of the engines themselves to models with stretched positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.kv import CacheOptions, ServingOptions, engine, resolve
from memplan.kv.sequence_lengths import sequence_lengths
from memplan.models import load_config
from memplan.models.parallel import Layout

SIZES: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 32_000,
    "torch_dtype": "bfloat16",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("fields", "older", "newer"),
    [
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 8.0}}, 32_768, 32_768),
        ({"model_type": "qwen3", "max_position_embeddings": 40_960, "rope_scaling": YARN}, 131_072, 40_960),
        (
            {
                "model_type": "phi3",
                "max_position_embeddings": 131_072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]},
            },
            4096,
            4096,
        ),
        ({"model_type": "cohere", "max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072, 131_072),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131_072,
                "sliding_window": 1024,
                "sliding_window_pattern": 6,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            131_072,
            131_072,
        ),
    ],
)
def test_positions_stretch_as_the_release_says(fields: dict[str, Any], older: int, newer: int) -> None:
    model = load_config(SIZES | fields)
    told = {
        name: sequence_lengths(model, engine(name).lengths).default
        for name in ("vllm-0.23.0", "vllm-0.33.0-h100", "vllm-ascend-0.30.0rc2-a3")
    }
    assert told == {"vllm-0.23.0": older, "vllm-0.33.0-h100": newer, "vllm-ascend-0.30.0rc2-a3": newer}


def test_a_tokenizer_can_be_shorter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SIZES | {"max_position_embeddings": 32_768}), "utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 8192}', "utf-8")
    model = load_config(tmp_path)
    assert sequence_lengths(model, engine("vllm-0.33.0-h100").lengths).default == 8192
    assert sequence_lengths(model, engine("sglang-0.5.23-npu").lengths).default == 32_768


def test_a_longer_one_is_said_to_be_refused() -> None:
    model, served = load_config(SIZES | {"max_position_embeddings": 4096}), engine("vllm-0.33.0-h100")
    choices = {choice.setting.text: choice for choice in resolve(model, served, ServingOptions(8192)).choices}
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN" in str(choices["longest sequence"].reason)
    assert "longest sequence" not in {
        choice.setting.text for choice in resolve(model, served, ServingOptions(4096)).choices
    }


def test_experts_are_shared_only_where_there_are_some() -> None:
    model = load_config(SIZES | {"max_position_embeddings": 4096})
    with pytest.raises(InputError, match="does not share experts"):
        resolve(model, engine("vllm-0.33.0-h100"), ServingOptions(4096), Layout(tensor=2, expert=2))
    resolve(model, engine("sglang-0.5.23-npu", chip("910B3")), ServingOptions(4096), Layout(tensor=2, expert=2))


@pytest.mark.parametrize(("dtype", "refused"), [("bfloat16", True), ("float32", True), ("float16", False)])
def test_a_float_cache_is_the_models(dtype: str, refused: bool) -> None:
    model = load_config(SIZES | {"max_position_embeddings": 4096, "torch_dtype": dtype})
    asked = ServingOptions(4096, CacheOptions(kv="float16"))
    if refused:
        with pytest.raises(InputError, match="keeps no cache in 'float16'"):
            resolve(model, engine("vllm-0.33.0-h100"), asked)
    else:
        resolve(model, engine("vllm-0.33.0-h100"), asked)
    resolve(model, engine("vllm-0.23.0"), asked)
