"""States kept for prefixes: one for every block, copies of a request, or none, by engine and model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, plan_cache, resolve
from memplan.models import load_config
from memplan.models.parallel import Layout


def test_a_state_is_kept_for_every_block_where_the_model_can(shared_data: Path) -> None:
    """The engine's own answer: vLLM 0.23.0 with the published model's classes, 5 GiB, one draft token."""
    model = load_config(shared_data / "configs" / "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16.json")
    asked = ServingOptions(8192, CacheOptions(block_size=16, speculative_tokens=1), prefix_caching=True)
    settings = resolve(model, engine("vllm-0.23.0"), asked)
    assert settings.options.caches.block_size == 8448
    assert settings.state_blocks is None
    pool = plan_cache(model, engine("vllm-0.23.0"), asked, 60 * GIB)
    assert pool.max_concurrency == pool.num_blocks / 9


@pytest.mark.parametrize(
    ("served", "kept"), [("vllm-0.23.0", 2), ("vllm-0.33.0-h100", 3), ("vllm-ascend-0.23.0.post1-a3", 2)]
)
def test_a_delta_net_keeps_copies_of_a_request(shared_data: Path, served: str, kept: int) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json")
    assert resolve(model, engine(served), ServingOptions(8192, prefix_caching=True)).state_blocks == kept


def test_blocks_beside_states_kept_whole_are_chunks(shared_data: Path) -> None:
    """Nemotron-H computes 128 tokens at once; without prefixes a block need only cover a state."""
    model = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    with_prefixes, without = (
        resolve(model, engine("vllm-0.23.0"), ServingOptions(8192, prefix_caching=on)).options.caches.block_size
        for on in (True, False)
    )
    assert with_prefixes is not None
    assert without is not None
    assert with_prefixes % 128 == 0
    assert with_prefixes - without < 128


@pytest.mark.parametrize(("served", "width"), [("vllm-0.33.0-h100", 2 * 96), ("vllm-ascend-0.30.0rc2-a3", 2 * 96)])
def test_latents_that_an_engine_expands_are_kept_by_head(served: str, width: int) -> None:
    """Vllm model_executor/models/minicpm3.py: 40 heads of 96 elements, values padded to the width of keys."""
    rows = json.loads((Path(__file__).parents[1] / "models" / "described.json").read_text("utf-8"))
    model = load_config(rows["families"]["minicpm3"]["config"])
    for ranks in (1, 4):
        pool = plan_cache(model, engine(served), ServingOptions(1024), GIB, Layout(tensor=ranks))
        size = pool.groups[0].specs[0].block_size
        assert pool.bytes_per_block == 62 * size * 40 // ranks * width * 2


@pytest.mark.parametrize("asked", [None, 64])
def test_vllm_ascend_forces_its_block_where_there_are_states_alone(asked: int | None) -> None:
    """The engine's own answer to Mamba; only models with attention beside states keep the size that covers a state."""
    mamba = load_config(
        {
            "model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": 50280, "hidden_size": 768,
            "state_size": 16, "num_hidden_layers": 32, "conv_kernel": 4, "expand": 2, "time_step_rank": 48,
            "intermediate_size": 1536, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
        }
    )  # fmt: skip
    options = ServingOptions(8192, CacheOptions(block_size=asked))
    assert resolve(mamba, engine("vllm-ascend-0.30.0rc2-a3"), options).options.caches.block_size == 128
    assert resolve(mamba, engine("vllm-0.33.0-h100"), options).options.caches.block_size != 128


@pytest.mark.parametrize(("ranks", "asked"), [(1, None), (1, 256), (2, 512)])
def test_the_310p_covers_states_in_steps_of_128_whatever_is_asked_for(
    shared_data: Path, ranks: int, asked: int | None
) -> None:
    """Answers of vllm-ascend 0.30.0rc2; others step by what is asked for."""
    model = load_config(shared_data / "configs" / "nvidia--Nemotron-H-56B-Base-8K.json")
    options = ServingOptions(8192, CacheOptions(block_size=asked))
    settings = resolve(model, engine("vllm-ascend-0.30.0rc2-310p"), options, Layout(tensor=ranks))
    assert settings.options.caches.block_size == 4224
