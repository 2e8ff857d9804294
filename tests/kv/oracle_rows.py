"""The answers of the engines' own planners, as requests to memplan: each row asked as a user asks."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What a row asks: an engine by name, its options as given, the layout, and the memory of each stage."""

    engine: str
    options: ServingOptions
    layout: Layout
    available: tuple[int, ...]


def oracle_rows(folder: Path, file: str) -> Iterator[tuple[str, Row]]:
    """The rows of one file, each with its place."""
    for number, line in enumerate((folder / "kv-oracle" / file).read_text(encoding="utf-8").splitlines(), 1):
        yield f"{file}:{number}", json.loads(line)


def engine_name(row: Row) -> str:
    """The engine that answered."""
    if row["ascend"] is not None:
        return f"vllm-ascend-{row.get('vllm_ascend', '0.23.0.post1')}-{row['ascend'].lower()}"
    return "vllm-0.23.0" if row["vllm"] == "0.23.0" else f"vllm-{row['vllm']}-{row['soc'].lower()}"


@functools.lru_cache(maxsize=128)
def published(path: Path, states: str | None) -> ModelConfig:
    """The model of a row, with the type of recurrent states that was asked for."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if states is not None:
        document.get("text_config", document).update(mamba_ssm_dtype=states, mamba_ssm_cache_dtype=states)
    return load_config(document)


def model_of(folder: Path, row: Row) -> ModelConfig:
    """The model of a row."""
    states = (row.get("extra") or {}).get("mamba_ssm_cache_dtype")
    return published(folder / "configs" / f"{row['model']}.json", states)


def question(folder: Path, row: Row) -> Question:
    """
    What the engine was asked.

    Rows made before others give the block size asked for, tokens that windows must hold with every batch under way
    counted in, and no prefix caching. Newer ones give what was asked beside what became of it; that scheduling ahead
    was switched off is told by what became of it alone.
    """
    extra = row.get("extra") or {}
    older = "block_size_asked" not in row
    drafts = row.get("num_speculative_tokens") or 0
    fitted = row["max_model_len"] < 0 or "max_model_len_fit" in row
    options = ServingOptions(
        length=row["max_model_len"] if row["max_model_len"] > 0 else model_of(folder, row).max_positions,
        caches=CacheOptions(
            block_size=row["block_size"] if older else row["block_size_asked"],
            kv=None if row["kv"] == "auto" else row["kv"],
            index_kv=(extra.get("attention_config") or {}).get("indexer_kv_dtype"),
            speculative_tokens=drafts,
        ),
        batched_tokens=row["max_num_batched_tokens"],
        asynchronous=False if older or row.get("async_scheduling") is False else None,
        prefix_caching=False if older else row["prefix_caching_asked"],
        hybrid=not row["disable_hma"],
        fits_length=fitted,
        runner="V2" if row.get("v2_runner_env") else None,
    )
    layout = Layout(tensor=row["tp"], pipeline=row.get("pp", 1), context=extra.get("decode_context_parallel_size", 1))
    memory = row.get("avail_bytes") or int(row.get("avail_gib", 20) * GIB)
    return Question(engine_name(row), options, layout, (memory,) * layout.pipeline)
