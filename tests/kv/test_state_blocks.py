"""States kept for prefixes: one for every block, copies of a request, or none, by engine and model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, plan_cache, resolve
from memplan.models import load_config
from memplan.models.drafts import with_draft
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


def eagle_head(hidden: int, heads: int) -> dict[str, object]:
    """A draft of one layer with heads of 64 elements, of which `heads` keep keys and values."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": 1,
        "num_attention_heads": 32, "num_key_value_heads": heads, "head_dim": 64, "intermediate_size": 4096,
        "vocab_size": 32_000, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("served", "tensor", "kv", "drafts", "memory", "blocks", "concurrency"),
    [
        # A draft's page is half of a state's: its blocks hold twice the tokens, or it is padded.
        ("vllm-0.33.0-h100", 4, "bfloat16", 5, 2 * GIB, 1956, 1956 / 68),
        # The page is sized for states without drafts.
        ("vllm-ascend-0.23.0.post1-a3", 2, "fp8", 3, 60 * GIB, 15259, 15259 / 26),
    ],
)
def test_a_draft_beside_states(
    served: str, tensor: int, kv: str, drafts: int, memory: int, blocks: int, concurrency: float
) -> None:
    """Answers of the engines' own planners to Falcon-H1 with an EAGLE head of 8 heads of 64 elements."""
    rows = json.loads((Path(__file__).parents[1] / "models" / "families.json").read_text("utf-8"))
    model = load_config(rows["falcon_h1"]["config"] | {"architectures": ["FalconH1ForCausalLM"]})
    drafted = with_draft(model, load_config(eagle_head(4096, 8)), "eagle")
    options = ServingOptions(8192, CacheOptions(kv=kv, speculative_tokens=drafts, draft_method="eagle"))
    pool = plan_cache(drafted, engine(served), options, memory, Layout(tensor=tensor))
    assert (pool.num_blocks, pool.max_concurrency) == (blocks, concurrency)


@pytest.mark.parametrize("device", ["a3", "310p"])
def test_attention_of_a_draft_joins_that_of_a_model_with_pictures(shared_data: Path, device: str) -> None:
    """The answer of vllm-ascend 0.30.0rc2: three layers of attention in a group, seven states in three."""
    document = json.loads((shared_data / "configs" / "nvidia--Qwen3.6-27B-NVFP4.json").read_text("utf-8"))
    text = document["text_config"]
    text |= {"num_hidden_layers": 9, "layer_types": text["layer_types"][:9]}
    del document["quantization_config"]
    model = with_draft(load_config(document), load_config(eagle_head(text["hidden_size"], 8)), "eagle")
    options = ServingOptions(8192, CacheOptions(speculative_tokens=5, draft_method="eagle"))
    pool = plan_cache(model, engine(f"vllm-ascend-0.30.0rc2-{device}"), options, 2 * GIB, Layout(tensor=4))
    assert [len(group.specs) for group in pool.groups] == [3, 3, 2, 2]
    assert (pool.num_blocks, pool.max_concurrency) == (780, 780 / 31)


def test_states_alone_are_not_shared_by_context_parallel_ranks() -> None:
    """The engine divides by the heads it does not find."""
    rows = json.loads((Path(__file__).parents[1] / "models" / "families.json").read_text("utf-8"))
    mamba = load_config(rows["mamba2"]["config"])
    with pytest.raises(InputError, match="no tokens for 2 context-parallel ranks"):
        plan_cache(mamba, engine("vllm-0.33.0-h100"), ServingOptions(1024), GIB, Layout(tensor=8, context=2))
