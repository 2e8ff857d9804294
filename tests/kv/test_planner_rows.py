"""More rows of vLLM's own planner, with drawn settings: every device, tensor, context and pipeline parallelism."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import BlockPool, CacheOptions, ServingOptions, engine, plan_cache, plan_stages
from memplan.kv.stage_pools import load_of
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout

ROWS: dict[str, Any] = json.loads((Path(__file__).parent / "planner_rows.json").read_text(encoding="utf-8"))


def back_end(row: dict[str, Any]) -> str:
    return "vllm-0.23.0" if row["ascend"] is None else f"vllm-ascend-0.23.0.post1-{row['ascend'].lower()}"


def layout_of(row: dict[str, Any]) -> Layout:
    return Layout(tensor=row["tp"], pipeline=row.get("pp", 1), context=row.get("dcp", 1))


def plan(model: ModelConfig, row: dict[str, Any]) -> tuple[BlockPool, ServingOptions] | None:
    """The pool, or `None` where the model and the engine don't go together at all."""
    layout = layout_of(row)
    options = ServingOptions(
        length=row["max_model_len"],
        caches=CacheOptions(
            block_size=row["block_size"],
            kv=None if row["kv"] == "bf16" and row["ascend"] else row["kv"],
            mtp=row.get("mtp", False),
        ),
        in_flight_tokens=row["max_num_batched_tokens"],
        hybrid=not row["disable_hma"],
    )
    try:
        return plan_cache(model, engine(back_end(row)), options, int(row["avail_gib"] * GIB), layout), options
    except InputError:
        return None


@pytest.mark.parametrize("device", [None, "A3", "A5"])
def test_drawn_rows(shared_data: Path, device: str | None) -> None:
    models: dict[str, ModelConfig] = {}
    for row in ROWS["single"]:
        if row["ascend"] != device:
            continue
        name = row["model"]
        model = models.setdefault(name, load_config(shared_data / "configs" / f"{name}.json"))
        planned = plan(model, row)
        if "refused" in row:
            needed, longest = row["refused"]
            if needed is None:
                assert planned is None or planned[0].refusal is not None, row
                continue
            assert planned is not None, row
            refusal = planned[0].refusal
            assert refusal is not None, row
            assert (round(refusal.needed_bytes / GIB, 2), refusal.estimated_length or None) == (needed, longest), row
            continue
        assert planned is not None, row
        pool, options = planned
        load = load_of(model, engine(back_end(row)), options, layout_of(row))
        assert pool.refusal is None, row
        assert [[len(g.specs), g.block_size, g.page_bytes, g.blocks(load)] for g in pool.groups] == row["groups"], row
        found = (pool.num_blocks, pool.bytes_per_block, pool.allocated_bytes, round(pool.max_concurrency, 4))
        wanted = (row["num_blocks"], row["bytes_per_block"], row["allocated"], row["max_concurrency"])
        assert found == wanted, row


def test_stages_of_a_pipeline(shared_data: Path) -> None:
    for row in ROWS["pipeline"]:
        model = load_config(shared_data / "configs" / f"{row['model']}.json")
        options = ServingOptions(
            length=row["max_model_len"],
            caches=CacheOptions(block_size=row["block_size"]),
            in_flight_tokens=row["mnbt"],
        )
        pools = plan_stages(
            model, engine(back_end(row)), options, tuple(gib * GIB for gib in row["gib"]), layout_of(row)
        )
        assert [pool.num_blocks for pool in pools] == [row["num_blocks"]] * row["pp"], row
        assert [round(pool.max_concurrency, 4) for pool in pools] == row["conc"], row
        assert [pool.allocated_bytes for pool in pools] == row["alloc"], row
