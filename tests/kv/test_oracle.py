"""The pool as vLLM's own planner answers: blocks, pages, concurrency and refusals, row by row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import CacheOptions, Engine, ServingOptions, engine, plan_cache, plan_stages
from memplan.kv.stage_pools import load_of
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout

KINDS = {
    "FullAttentionSpec": "full",
    "SlidingWindowSpec": "sliding",
    "ChunkedLocalAttentionSpec": "chunked",
    "MambaSpec": "state",
    "MLAAttentionSpec": "latent",
    "AscendMLAAttentionSpec": "latent",
    "SlidingWindowMLASpec": "sliding_latent",
    "AscendSlidingWindowMLASpec": "sliding_latent",
}


MADE_BY = {
    ("vllm", "0.23.0", None): "vllm-0.23.0",
    ("vllm-ascend", "0.23.0", None): "vllm-ascend-0.23.0.post1",
}
"""The engines that memplan describes, by what a row says of the planner that answered."""


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "kv-oracle").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield {**json.loads(line), "place": f"{path.name}:{number}"}


def described(row: dict[str, Any]) -> str | None:
    """The engine that answered, or `None` where memplan does not describe that release."""
    kind = row.get("engine") or ("vllm" if row["ascend"] is None else "vllm-ascend")
    name = MADE_BY.get((kind, row["vllm"], row.get("vllm_ascend")))
    return name if name is None or row["ascend"] is None else f"{name}-{row['ascend'].lower()}"


def told_at_configuration(row: dict[str, Any]) -> bool:
    """Whether the engine refused before it looked at memory: a rule of its options, not of its planner."""
    return row.get("stage") == "specs"


def published(folder: Path, row: dict[str, Any]) -> ModelConfig:
    """The model of a row, with the type of recurrent states that was asked for."""
    document = json.loads((folder / "configs" / f"{row['model']}.json").read_text(encoding="utf-8"))
    asked = (row.get("extra") or {}).get("mamba_ssm_cache_dtype")
    if asked is not None:
        document.get("text_config", document).update(mamba_ssm_dtype=asked, mamba_ssm_cache_dtype=asked)
    return load_config(document)


def options(row: dict[str, Any]) -> ServingOptions:
    """
    What memplan is asked for a row.

    Older rows give the block size asked for, and tokens that windows must hold with asynchronous scheduling counted in;
    newer ones what the engine made of its settings. Blocks beside recurrent states are sized by memplan itself.
    """
    kv = row.get("kv_cache_dtype", row["kv"])
    resolved = "block_size_asked" in row and not row["is_hybrid"]
    drafts = row.get("num_speculative_tokens", 0)
    return ServingOptions(
        length=row.get("max_model_len_fit") or row["max_model_len"],
        caches=CacheOptions(
            block_size=row["block_size"] if resolved else row.get("block_size_asked", row["block_size"]),
            kv=None if kv in ("bf16", "auto") else kv,
            speculative_tokens=drafts,
            mtp=drafts > 0,
            state_aligned=row.get("mamba_cache_mode") == "align",
        ),
        in_flight_tokens=row["max_num_batched_tokens"],
        hybrid=not row.get("disable_hma_resolved", row["disable_hma"]),
    )


def layout_of(row: dict[str, Any]) -> Layout:
    context = (row.get("extra") or {}).get("decode_context_parallel_size", 1)
    return Layout(tensor=row["tp"], pipeline=row.get("pp", 1), context=context)


def groups_of(row: dict[str, Any]) -> list[tuple[object, ...]]:
    return [(g["n"], KINDS[g["kind"]], g["block"], g["page"], g["blocks_per_req"]) for g in row["groups"]]


def test_every_row_of_a_described_planner_is_met(shared_data: Path) -> None:
    compared: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for row in rows(shared_data):
        name = described(row)
        if name is None:
            left_out[f"{row['engine']} {row.get('vllm_ascend') or row['vllm']}: not described"] += 1
            continue
        if told_at_configuration(row):
            left_out[f"{name}: refused at configuration"] += 1
            continue
        _compare(published(shared_data, row), engine(name), row)
        compared[name] += 1
    assert compared["vllm-0.23.0"] >= 580
    assert compared["vllm-ascend-0.23.0.post1-a3"] >= 32
    # What no described engine answers: it is counted here, so that no row is left out unseen.
    assert left_out == {
        "vllm 0.33.0: not described": 776,
        "vllm-ascend 0.30.0rc2: not described": 925,
        "vllm-0.23.0: refused at configuration": 43,
    }


def _compare(model: ModelConfig, back_end: Engine, row: dict[str, Any]) -> None:
    asked, layout, place = options(row), layout_of(row), row["place"]
    available = row.get("avail_bytes") or int(row["avail_gib"] * GIB)
    if "Hybrid KV cache manager is disabled but failed" in row.get("error", ""):
        with pytest.raises(InputError, match="can't be served without the hybrid KV cache manager"):
            plan_stages(model, back_end, asked, (available,) * layout.pipeline, layout)
        return
    pools = plan_stages(model, back_end, asked, (available,) * layout.pipeline, layout)
    refusals = [pool.refusal for pool in pools if pool.refusal is not None]
    if "error" in row:
        assert refusals, place
        needed = round(refusals[0].needed_bytes / GIB, 2)
        assert f"({needed} GiB KV cache is needed" in row["error"], place
        assert f"maximum model length is {refusals[0].estimated_length}." in row["error"], place
        return
    assert not refusals, place
    largest = max(pools, key=lambda pool: pool.bytes_per_block)
    assert largest.num_blocks == row["num_blocks"], place
    assert largest.bytes_per_block == row["bytes_per_block"], place
    assert [pool.allocated_bytes for pool in pools] == (row.get("allocated_per_stage") or [row["allocated"]]), place
    assert round(min(pool.max_concurrency for pool in pools), 4) == round(row["max_concurrency"], 4), place
    if layout.pipeline == 1:
        # Groups are told for the length asked for, also where a shorter one was fitted.
        load = load_of(back_end, replace(asked, length=max(asked.length, row["max_model_len"])), layout)
        found = [(len(g.specs), g.kind.value, g.block_size, g.page_bytes, g.blocks(load)) for g in pools[0].groups]
        assert found == groups_of(row), place


def test_asynchronous_scheduling_doubles_what_windows_hold(shared_data: Path) -> None:
    """A row of twice the batch is what asynchronous scheduling makes of the batch itself."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Pro.json")
    back_end = engine("vllm-ascend-0.23.0.post1-a3")
    row = next(row for row in rows(shared_data) if "async" in row["place"] and row["max_num_batched_tokens"] == 4096)
    asked = ServingOptions(
        length=row["max_model_len"],
        caches=CacheOptions(block_size=row["block_size"]),
        batched_tokens=2048,
        asynchronous=True,
    )
    pool = plan_cache(model, back_end, asked, row["avail_gib"] * GIB)
    assert round(pool.max_concurrency, 4) == row["max_concurrency"]


@pytest.mark.parametrize(
    ("batched", "asynchronous", "pipeline", "in_flight"),
    [(2048, False, 1, 2048), (2048, True, 1, 4096), (2048, False, 4, 8192), (2048, True, 4, 8192)],
)
def test_tokens_in_flight(batched: int, asynchronous: bool, pipeline: int, in_flight: int) -> None:
    ascend, upstream = engine("vllm-ascend-0.23.0.post1-a2"), engine("vllm-0.23.0")
    assert ascend.in_flight_tokens(batched, asynchronous=asynchronous, pipeline=pipeline) == in_flight
    assert upstream.in_flight_tokens(batched, asynchronous=asynchronous, pipeline=pipeline) == batched
