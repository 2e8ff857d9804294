"""The pool as vLLM's own planner answers: blocks, pages, concurrency and refusals, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memplan.kv import CacheOptions, ServingOptions, engine, plan_cache
from memplan.kv.stage_pools import load_of
from memplan.models import load_config
from memplan.core.units import GIB

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


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "kv-oracle").glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield {**json.loads(line), "place": f"{path.name}:{number}"}


def options(row: dict[str, Any]) -> ServingOptions:
    # The rows give the tokens that windows must hold, asynchronous scheduling already counted in.
    return ServingOptions(
        length=row["max_model_len"],
        caches=CacheOptions(
            tensor_parallel=row["tp"],
            block_size=row["block_size"],
            kv=None if row["kv"] == "bf16" else row["kv"],
        ),
        in_flight_tokens=row["max_num_batched_tokens"],
        hybrid=not row["disable_hma"],
    )


def test_every_row_of_the_planner_is_met(shared_data: Path) -> None:
    compared = 0
    for row in rows(shared_data):
        name = "vllm-0.23.0" if row["ascend"] is None else f"vllm-ascend-0.23.0.post1-{row['ascend'].lower()}"
        back_end, asked = engine(name), options(row)
        model = load_config(shared_data / "configs" / f"{row['model']}.json")
        pool = plan_cache(model, back_end, asked, row["avail_gib"] * GIB)
        compared += 1
        if "error" in row:
            assert pool.refusal is not None, row["place"]
            needed = round(pool.refusal.needed_bytes / GIB, 2)
            assert f"({needed} GiB KV cache is needed" in row["error"], row["place"]
            assert f"maximum model length is {pool.refusal.estimated_length}." in row["error"], row["place"]
            continue
        assert pool.refusal is None, row["place"]
        assert pool.num_blocks == row["num_blocks"], row["place"]
        assert pool.bytes_per_block == row["bytes_per_block"], row["place"]
        assert pool.allocated_bytes == row["allocated"], row["place"]
        assert round(pool.max_concurrency, 4) == round(row["max_concurrency"], 4), row["place"]
        load = load_of(back_end, asked)
        found = [(len(g.specs), g.kind.value, g.block_size, g.page_bytes, g.blocks(load)) for g in pool.groups]
        assert found == [
            (group["n"], KINDS[group["kind"]], group["block"], group["page"], group["blocks_per_req"])
            for group in row["groups"]
        ], row["place"]
    assert compared >= 60


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
