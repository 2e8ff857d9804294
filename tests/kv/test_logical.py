"""Published figures of bytes per token and per sequence, engine by engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.core.units import GIB
from memplan.kv import CacheOptions, LogicalCache, engine, logical_cache
from memplan.models import load_config
from memplan.models.parallel import ONE_RANK, Layout

MILLION = 1_048_576


def cache(
    folder: Path,
    model: str,
    back_end: str,
    length: int,
    options: CacheOptions | None = None,
    *,
    ranks: Layout = ONE_RANK,
) -> LogicalCache:
    config = load_config(folder / "configs" / f"{model}.json")
    return logical_cache(config, engine(back_end), options or CacheOptions(), length, ranks=ranks)


@pytest.mark.parametrize(
    ("model", "back_end", "kv", "gib"),
    [
        ("Pro", "vllm-ascend-0.23.0.post1-a2", None, 8.719),
        ("Pro", "vllm-ascend-0.23.0.post1-a3", None, 8.719),
        ("Pro", "logical", None, 9.642),
        ("Pro", "vllm-ascend-0.23.0.post1-a5", None, 5.828),
        ("Pro", "vllm-0.23.0", "fp8_ds_mla", 5.404),
        ("Flash", "vllm-ascend-0.23.0.post1-a3", None, 6.089),
        ("Flash", "logical", None, 6.735),
        ("Flash", "vllm-ascend-0.23.0.post1-a5", None, 4.070),
        ("Flash", "vllm-0.23.0", "fp8_ds_mla", 3.774),
    ],
)
def test_v4_at_a_million_tokens(shared_data: Path, model: str, back_end: str, kv: str | None, gib: float) -> None:
    found = cache(shared_data, f"deepseek-ai--DeepSeek-V4-{model}", back_end, MILLION, CacheOptions(kv=kv))
    assert round(found.total_bytes / GIB, 3) == gib


def test_parts_of_v4_pro_at_a_million_tokens(shared_data: Path) -> None:
    found = cache(shared_data, "deepseek-ai--DeepSeek-V4-Pro", "vllm-ascend-0.23.0.post1-a3", MILLION)
    assert found == LogicalCache(9_335_472_128, 7_995_392, 18_710_528)


@pytest.mark.parametrize(
    ("model", "back_end", "options", "per_token"),
    [
        ("meta-llama--Meta-Llama-3.1-8B", "logical", CacheOptions(), 131_072),
        ("meta-llama--Meta-Llama-3.1-70B", "logical", CacheOptions(), 327_680),
        ("meta-llama--Meta-Llama-3.1-405B", "logical", CacheOptions(), 516_096),
        ("Qwen--Qwen3-8B", "logical", CacheOptions(), 147_456),
        ("Qwen--Qwen3-32B", "logical", CacheOptions(), 262_144),
        ("Qwen--Qwen3-30B-A3B", "logical", CacheOptions(), 98_304),
        ("Qwen--Qwen3-235B-A22B", "logical", CacheOptions(), 192_512),
        ("MiniMaxAI--MiniMax-M2.5", "logical", CacheOptions(), 253_952),
        ("mistralai--Mixtral-8x7B-v0.1", "logical", CacheOptions(), 131_072),
        ("deepseek-ai--DeepSeek-V3", "vllm-ascend-0.23.0.post1-a3", CacheOptions(), 70_272),
        ("deepseek-ai--DeepSeek-V3", "vllm-ascend-0.23.0.post1-a3", CacheOptions(mtp=True), 71_424),
        ("moonshotai--Kimi-K2.5", "vllm-ascend-0.23.0.post1-a3", CacheOptions(), 70_272),
        ("deepseek-ai--DeepSeek-V3.2", "vllm-ascend-0.23.0.post1-a3", CacheOptions(), 85_888),
        ("deepseek-ai--DeepSeek-V3.2", "vllm-ascend-0.23.0.post1-a3", CacheOptions(index_c8=True), 78_202),
        ("deepseek-ai--DeepSeek-V3.2", "vllm-0.23.0", CacheOptions(kv="fp8_ds_mla"), 48_068),
        ("zai-org--GLM-5.2", "vllm-ascend-0.23.0.post1-a3", CacheOptions(), 78 * 1152 + 21 * 256),
    ],
)
def test_bytes_per_token(shared_data: Path, model: str, back_end: str, options: CacheOptions, per_token: int) -> None:
    found = cache(shared_data, model, back_end, 1000, options)
    assert found == LogicalCache(1000 * per_token, 0, 0)


@pytest.mark.parametrize(
    ("model", "per_token", "state"),
    [
        ("Qwen--Qwen3-Next-80B-A3B-Instruct", 24_576, 39_518_208),
        ("Qwen--Qwen3.5-397B-A17B", 30_720, 45 * (73_728 + 4_194_304)),
        ("Qwen--Qwen3.5-35B-A3B", 20_480, 30 * (49_152 + 2_097_152)),
    ],
)
def test_hybrids_keep_states_beside_tokens(shared_data: Path, model: str, per_token: int, state: int) -> None:
    assert cache(shared_data, model, "logical", 100_000) == LogicalCache(100_000 * per_token, 0, state)


@pytest.mark.parametrize(
    ("model", "below", "asymptote", "window"),
    [
        ("google--gemma-3-27b-it", 507_904, 81_920, 1024),
        ("openai--gpt-oss-120b", 73_728, 36_864, 128),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 196_608, 49_152, 8192),
    ],
)
def test_windows_and_chunks_stop_growing(
    shared_data: Path, model: str, below: int, asymptote: int, window: int
) -> None:
    assert cache(shared_data, model, "logical", window).total_bytes == window * below
    grown = [cache(shared_data, model, "logical", length).total_bytes for length in (10 * window, 11 * window)]
    assert grown[1] - grown[0] == window * asymptote


def test_heads_are_repeated_where_there_are_fewer_than_ranks_and_latents_always(shared_data: Path) -> None:
    def rank(model: str, ranks: int) -> int:
        return cache(shared_data, model, "logical", 1, ranks=Layout(tensor=ranks)).total_bytes

    assert [rank("Qwen--Qwen3-30B-A3B", ranks) for ranks in (1, 2, 4, 8, 16)] == [
        98_304,
        49_152,
        24_576,
        24_576,
        24_576,
    ]
    assert rank("deepseek-ai--DeepSeek-V3", 16) == 70_272


@pytest.mark.parametrize("model", ["deepseek-ai--DeepSeek-V4-Pro", "deepseek-ai--DeepSeek-V3"])
def test_context_parallel_ranks_share_what_grows_and_repeat_what_does_not(shared_data: Path, model: str) -> None:
    one, two = (cache(shared_data, model, "logical", MILLION, ranks=Layout(context=ranks)) for ranks in (1, 2))
    assert two.length_bytes * 2 == one.length_bytes
    assert (two.window_bytes, two.state_bytes) == (one.window_bytes, one.state_bytes)
