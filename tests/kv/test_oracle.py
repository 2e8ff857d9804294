"""The pool as the engines' own planners answer: blocks, bytes, concurrency, refusals, every row as a user asks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import BlockPool, CacheOptions, ServingOptions, engine, plan_cache, plan_stages, resolve
from memplan.kv.stage_pools import load_of
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from tests.kv.oracle_rows import Question, Row, engine_name, model_of, oracle_rows, question

FILES = {
    "vllm-0.23.0-cuda-style.jsonl": 28,
    "vllm-0.23.0-real-H100.jsonl": 597,
    "vllm-0.33.0-H100.jsonl": 620,
    "vllm-0.33.0-B200.jsonl": 78,
    "vllm-0.33.0-deepseek-v41.jsonl": 50,
    "vllm-0.33.0-more-models.jsonl": 28,
    "vllm-ascend-0.23.0.post1-A3.jsonl": 28,
    "vllm-ascend-0.23.0.post1-A3-async.jsonl": 4,
    "vllm-ascend-0.30.0rc2-A2.jsonl": 179,
    "vllm-ascend-0.30.0rc2-A3.jsonl": 482,
    "vllm-ascend-0.30.0rc2-A5.jsonl": 182,
    "vllm-ascend-0.30.0rc2-deepseek-v41.jsonl": 82,
}
"""Rows of each file; all of them are right."""

FALLEN = {f"vllm-0.33.0-B200.jsonl:{number}" for number in (68, 69, 72, 73)}
"""
Qwen3-Next on B200 in 16 bits: answered where FlashInfer was not installed, which the engine needs by its own metadata.
Its selection then falls to the next kernel, whose blocks are larger: these rows are asked with that kernel by name, as
users of such an environment ask.
"""


@pytest.mark.parametrize("file", FILES)
def test_every_row_is_right_as_asked(shared_data: Path, file: str) -> None:
    rows = list(oracle_rows(shared_data, file))
    wrong = {place: fault for place, row in rows if (fault := _fault(shared_data, row, named=place in FALLEN))}
    assert not wrong, wrong
    assert len(rows) == FILES[file]


def _fault(folder: Path, row: Row, *, named: bool = False) -> str:
    """What is wrong with memplan's answer to `row`, nothing where it is right; the kernel may be asked for by name."""
    asked, model = question(folder, row), model_of(folder, row)
    if named:
        caches = replace(asked.options.caches, attention=row["backends"][0])
        asked = replace(asked, options=replace(asked.options, caches=caches))
    back_end = engine(asked.engine)
    try:
        pools = plan_stages(model, back_end, asked.options, asked.available, asked.layout)
    except InputError as error:
        return "" if "error" in row else str(error)
    refusal = next((pool.refusal for pool in pools if pool.refusal is not None), None)
    if "error" in row:
        if refusal is None:
            return f"not refused: {row['error']}"
        needed = f"({round(refusal.needed_bytes / GIB, 2)} GiB KV cache is needed"
        longest = f"maximum model length is {refusal.estimated_length}."
        return "" if needed in row["error"] and longest in row["error"] else f"{needed} {longest}"
    if refusal is not None:
        return refusal.message
    largest = max(pools, key=lambda pool: pool.planned_per_block)
    if "num_blocks_scaled" in row or "error_scaled" in row:
        fault = _profiled_fault(row, asked, model)
        if fault:
            return fault
        if asked.options.fits_length:
            # The length was fitted once more, to what the worker says it has; the concurrency is of that length.
            fitted = profiled_pools(asked, model)[0].length
            pools = plan_stages(model, back_end, _of_length(asked.options, fitted), asked.available, asked.layout)
    settings = resolve(model, back_end, asked.options, asked.layout)
    # Older rows give the block size asked for, and tokens that follow from a rounded concurrency.
    row_is_older = "block_size_asked" not in row
    found = {
        "num_blocks": largest.num_blocks,
        "bytes_per_block": largest.bytes_per_block if row_is_older else largest.planned_per_block,
        "max_concurrency": round(pools[0].max_concurrency, 4),
        "kv_tokens": int(_as_printed(pools[0].max_concurrency, older=row_is_older) * pools[0].length),
        "block_size": row["block_size"] if row_is_older else settings.options.caches.block_size,
        "prefix_caching": settings.options.prefix_caching,
        "async_scheduling": settings.options.asynchronous,
        "max_concurrent_batches": settings.batches,
    }
    if asked.layout.pipeline == 1 and not asked.options.fits_length:
        load = load_of(model, back_end, asked.options, asked.layout)
        groups = Counter((len(group.members), group.blocks(load)) for group in pools[0].groups)
        wanted_groups = Counter((group["n"], group["blocks_per_req"]) for group in row.get("groups", ()))
        if wanted_groups and groups != wanted_groups:
            return f"groups {groups} are {wanted_groups}"
    wanted = {name: row[name] for name in found if name in row}
    wanted["max_concurrency"] = round(wanted["max_concurrency"], 4)
    return "; ".join(f"{name} {found[name]} is {value}" for name, value in wanted.items() if found[name] != value)


def profiled_pools(asked: Question, model: ModelConfig) -> tuple[BlockPool, ...]:
    """The pools where the memory is what a worker finds free."""
    back_end = engine(asked.engine)
    return plan_stages(model, back_end, asked.options, asked.available, asked.layout, profiled=True)


def _profiled_fault(row: Row, asked: Question, model: ModelConfig) -> str:
    """What is wrong where the memory is what a worker finds free, of which several groups of layers leave a part."""
    pools = profiled_pools(asked, model)
    refusal = next((pool.refusal for pool in pools if pool.refusal is not None), None)
    if "error_scaled" in row:
        needed = "" if refusal is None else f"({round(refusal.needed_bytes / GIB, 2)} GiB"
        return "" if needed and needed in row["error_scaled"] else f"scaled: {refusal}"
    if row["num_blocks_scaled"] is None:
        return ""
    found = (pools[0].num_blocks, round(pools[0].max_concurrency, 4))
    wanted = (row["num_blocks_scaled"], round(row["max_concurrency_scaled"], 4))
    return "" if found == wanted else f"scaled: {found} is {wanted}"


def _of_length(options: ServingOptions, length: int) -> ServingOptions:
    return replace(options, length=length, fits_length=False)


def _as_printed(concurrency: float, *, older: bool) -> float:
    return round(concurrency, 4) if older else concurrency


def test_asynchronous_scheduling_doubles_what_windows_hold(shared_data: Path) -> None:
    """A row of twice the batch is what asynchronous scheduling, the engine's default, makes of the batch itself."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Pro.json")
    back_end = engine("vllm-ascend-0.23.0.post1-a3")
    rows = (row for _, row in oracle_rows(shared_data, "vllm-ascend-0.23.0.post1-A3-async.jsonl"))
    row = next(row for row in rows if row["max_num_batched_tokens"] == 4096)
    asked = ServingOptions(
        length=row["max_model_len"], caches=CacheOptions(block_size=row["block_size"]), batched_tokens=2048
    )
    pool = plan_cache(model, back_end, asked, row["avail_gib"] * GIB)
    assert engine_name(row) == back_end.name
    assert round(pool.max_concurrency, 4) == row["max_concurrency"]


@pytest.mark.parametrize(
    ("name", "asynchronous", "pipeline", "batches"),
    [
        ("vllm-ascend-0.23.0.post1-a2", False, 1, 1),
        ("vllm-ascend-0.23.0.post1-a2", True, 1, 2),
        ("vllm-ascend-0.23.0.post1-a2", True, 4, 4),
        ("vllm-0.33.0-h100", True, 1, 2),
        ("vllm-0.33.0-h100", True, 4, 5),
        ("vllm-0.33.0-h100", False, 4, 4),
        ("vllm-0.23.0", True, 4, 1),
    ],
)
def test_tokens_in_flight(shared_data: Path, name: str, asynchronous: bool, pipeline: int, batches: int) -> None:
    model = load_config(shared_data / "configs" / "openai--gpt-oss-120b.json")
    asked = ServingOptions(length=4096, batched_tokens=2048, asynchronous=asynchronous)
    settings = resolve(model, engine(name), asked, Layout(pipeline=pipeline))
    assert settings.options.in_flight_tokens == batches * 2048


def test_settings_left_open_say_what_they_became_and_why(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3.5-397B-A17B.json")
    settings = resolve(model, engine("vllm-0.33.0-h100"), ServingOptions(length=4096))
    said = {str(item.setting): (str(item.value), str(item.reason)) for item in settings.choices}
    assert said["attention kernel"][0] == "FLASH_ATTN"
    assert said["block size"] == ("2112", "the smallest whose page covers a recurrent state of 4,268,032 B")
    assert said["prefix caching"] == ("on", "the engine's default")
    given = ServingOptions(length=4096, prefix_caching=False, asynchronous=False)
    said = {
        str(item.setting): (str(item.value), str(item.reason))
        for item in resolve(model, engine("vllm-0.33.0-h100"), given).choices
    }
    assert said["block size"][0] == "2096"
    assert said["prefix caching"] == ("off", "given")
    assert said["asynchronous scheduling"] == ("off", "given")


def test_a_kernel_is_asked_for_by_name_where_the_engine_lets_one(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json")
    asked = ServingOptions(4096, CacheOptions(attention="flash_attn"))
    settings = resolve(model, engine("vllm-0.33.0-b200"), asked)
    assert settings.options.caches.block_size == 640
    assert [str(item.value) for item in settings.choices[:1]] == ["FLASH_ATTN"]
    with pytest.raises(InputError, match="no attention kernel 'FLASHMLA'"):
        resolve(model, engine("vllm-0.33.0-b200"), ServingOptions(4096, CacheOptions(attention="FLASHMLA")))
    npu = engine("vllm-ascend-0.30.0rc2-a3")
    own = resolve(model, npu, ServingOptions(4096)).options.caches
    assert resolve(model, npu, asked).options.caches == replace(own, attention="flash_attn")


def test_a_stage_without_caches_is_refused(shared_data: Path) -> None:
    """Went wrong once: a division by zero, as in the engine itself."""
    model = load_config(shared_data / "configs" / "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json")
    plain = next(layer.index for layer in model.layers if layer.mixer is None)
    layout = Layout(pipeline=3, stage_layers=(plain, 1, None))
    with pytest.raises(InputError, match="pipeline stage 1 of 3 holds no layer that keeps a cache"):
        plan_stages(model, engine("vllm-0.33.0-h100"), ServingOptions(4096), (GIB,) * 3, layout)


@pytest.mark.parametrize(
    ("name", "layers", "layout", "asked", "available", "blocks"),
    [
        ("vllm-ascend-0.30.0rc2-a2", 9, Layout(tensor=8, pipeline=3), ServingOptions(20_000), 2 * GIB, 4096),
        ("vllm-ascend-0.30.0rc2-a2", 13, Layout(tensor=8, pipeline=2), ServingOptions(20_000), 8 * GIB, 16384),
        ("vllm-0.33.0-h100", 13, Layout(pipeline=4), ServingOptions(8192, CacheOptions(64)), 20 * GIB, 6068),
        ("vllm-0.33.0-h100", 13, Layout(pipeline=3), ServingOptions(8192, CacheOptions(64)), 20 * GIB, 18204),
        ("vllm-0.23.0", 13, Layout(pipeline=4), ServingOptions(8192, CacheOptions(64)), 20 * GIB, None),
    ],
)
def test_states_of_a_stage_without_attention_are_not_padded(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    layers: int,
    layout: Layout,
    asked: ServingOptions,
    available: int,
    blocks: int | None,
) -> None:
    """As the engines' planners answered: each worker aligns states with the attention of its own stage, if any."""
    fields = json.loads((shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"num_hidden_layers": layers}))
    model, memory = load_config(tmp_path / "config.json"), (available,) * layout.pipeline
    if blocks is None:
        with pytest.raises(InputError, match="does not divide the largest one"):
            plan_stages(model, engine(name), asked, memory, layout)
        return
    assert plan_stages(model, engine(name), asked, memory, layout)[0].num_blocks == blocks


def test_windows_kept_whole_are_spread_over_context_parallel_ranks(shared_data: Path) -> None:
    """Went wrong once: refused for windows that the engine keeps as full attention when told to."""
    model = load_config(shared_data / "configs" / "google--gemma-3-27b-it.json")
    asked, layout = ServingOptions(4096, prefix_caching=False, hybrid=False), Layout(tensor=32, context=2)
    assert plan_stages(model, engine("vllm-0.23.0"), asked, (8 * GIB,), layout)[0].num_blocks > 0
    with pytest.raises(InputError, match="does not spread sliding windows"):
        plan_stages(model, engine("vllm-0.23.0"), replace(asked, hybrid=True), (8 * GIB,), layout)


@pytest.mark.parametrize("name", ["vllm-ascend-0.23.0.post1-a3", "vllm-ascend-0.30.0rc2-a3"])
def test_windows_beside_compressed_caches_are_not_spread_either(name: str, shared_data: Path) -> None:
    """Went wrong once: planned, where the engines' specs of windows ask for one context-parallel rank."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Flash.json")
    with pytest.raises(InputError, match="does not spread sliding windows"):
        plan_stages(model, engine(name), ServingOptions(8192), (20 * GIB,), Layout(tensor=8, context=2))


@pytest.mark.parametrize(
    ("name", "layout", "said"),
    [
        ("google--gemma-3-27b-it", Layout(tensor=16, context=2), "would have to repeat 16 key/value heads"),
        ("Qwen--Qwen3-8B", Layout(tensor=16, context=3), "do not divide the 16 ranks"),
        ("meta-llama--Meta-Llama-3.1-8B", Layout(tensor=24), "32 attention heads can't be divided among 24 ranks"),
        ("deepseek-ai--DeepSeek-V3", Layout(tensor=3), "128 attention heads can't be divided among 3 ranks"),
    ],
)
def test_layouts_that_heads_do_not_divide_among_are_refused(
    shared_data: Path, name: str, layout: Layout, said: str
) -> None:
    model = load_config(shared_data / "configs" / f"{name}.json")
    for served in ("vllm-0.23.0", "vllm-0.33.0-h100", "vllm-ascend-0.30.0rc2-a3"):
        with pytest.raises(InputError, match=said):
            resolve(model, engine(served), ServingOptions(4096, hybrid=False), layout)


@pytest.mark.parametrize(
    ("served", "document", "said"),
    [
        ("vllm-0.23.0", "deepseek-ai--DeepSeek-V4.1-Flash", "has no class for deepseek_v41"),
        ("vllm-ascend-0.23.0.post1-a3", "deepseek-ai--DeepSeek-V4.1-Flash", "has no class for deepseek_v41"),
    ],
)
def test_models_of_later_releases_are_refused(shared_data: Path, served: str, document: str, said: str) -> None:
    """Went wrong once: the draws against vLLM 0.23 stopped at a kind of cache that it does not have."""
    model = load_config(shared_data / "configs" / f"{document}.json")
    with pytest.raises(InputError, match=said):
        resolve(model, engine(served), ServingOptions(4096))


def test_classes_that_a_release_does_not_register_are_refused() -> None:
    """Went wrong: K-EXAONE's file names a class that vLLM 0.30 has by transformers' spelling alone, 0.33 by both."""
    described = json.loads((Path(__file__).parents[1] / "models" / "described.json").read_text())
    published = described["families"]["exaone_moe"]["config"]
    spelled, published_as = "ExaoneMoeForCausalLM", "ExaoneMoEForCausalLM"
    models = {name: load_config({**published, "architectures": [name]}) for name in (spelled, published_as)}
    served = engine("vllm-ascend-0.30.0rc2-a3")
    resolve(models[spelled], served, ServingOptions(2048))
    resolve(models[published_as], engine("vllm-0.33.0-h100"), ServingOptions(2048))
    with pytest.raises(InputError, match=f"has no class for {published_as}"):
        resolve(models[published_as], served, ServingOptions(2048))


def test_models_without_attention_keep_no_prefixes_unless_told() -> None:
    model = load_config(
        {
            "model_type": "mamba2",
            "vocab_size": 32000,
            "hidden_size": 1024,
            "num_hidden_layers": 4,
            "num_heads": 32,
            "head_dim": 64,
            "state_size": 128,
            "n_groups": 1,
            "conv_kernel": 4,
            "expand": 2,
            "chunk_size": 256,
        }
    )
    for served in ("vllm-0.33.0-h100", "vllm-ascend-0.30.0rc2-a3"):
        settings = resolve(model, engine(served), ServingOptions(4096))
        assert (settings.options.prefix_caching, settings.state_blocks) == (False, 1)
        assert resolve(model, engine(served), ServingOptions(4096, prefix_caching=True)).options.prefix_caching
