"""What was used of a KV cache, from engines' logs and from msServiceProfiler's tables, beside the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memplan.cli.app import app
from memplan.core.errors import InputError
from memplan.traces.cache_use import CacheUse, cache_use

CORE = "(EngineCore_0 pid=77) INFO 06-01 10:00:00 [kv_cache_utils.py:829] "
ENGINE = "INFO 06-01 10:01:00 [loggers.py:118] Engine 000: Avg generation throughput: 10.5 tokens/s, "
LOG = "\n".join(
    (
        f"{CORE}GPU KV cache size: 1,011,712 tokens",
        f"{CORE}Maximum concurrency for 40,960 tokens per request: 24.70x",
        f"{ENGINE}Running: 7 reqs, Waiting: 0 reqs, GPU KV cache usage: 12.5%, Prefix cache hit rate: 0.0%",
        f"{ENGINE}Running: 31 reqs, Waiting: 3 reqs, GPU KV cache usage: 61.0%, Prefix cache hit rate: 0.0%",
        f"{ENGINE}Running: 2 reqs, Waiting: 0 reqs, GPU KV cache usage: 1.0%",
    )
)


def test_a_log_of_vllm_tells_limits_and_the_most_that_was_used(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    path.write_text(LOG, encoding="utf-8")
    assert cache_use(path) == CacheUse(
        str(path), tokens=1_011_712, context=40_960, concurrency=24.7, usage=0.61, sequences=31, waiting=3
    )


def test_of_several_starts_in_a_log_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "old.log"
    path.write_text("INFO # GPU blocks: 3060, # CPU blocks: 2048\nINFO # NPU blocks: 1,530, # CPU blocks: 0\n", "utf-8")
    assert cache_use(path).blocks == 1530


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("timestamp(ms),free_kvcache_blocks,allocated_kvcache_blocks", ("1,100,0", "2,40,60", "3,90,10")),
        ("timestamp(ms),total_blocks,used_blocks", ("1,100,0", "2,100,60", "3,100,10")),
        (
            "timestamp(ms),total_blocks,free_blocks,kvcache_usage_rate",
            ("1,100,100,0.0", "2,100,40,0.6", "3,100,90,0.1"),
        ),
        ("name,timestamp(ms),device_kvcache_left", ("a,1,100", "b,2,40", "c,3,90")),
    ],
)
def test_tables_of_the_service_profiler_tell_blocks(tmp_path: Path, header: str, rows: tuple[str, ...]) -> None:
    (tmp_path / "kvcache.csv").write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    (tmp_path / "batch.csv").write_text("name,batch_size\na,4\nb,9\n", encoding="utf-8")
    found = cache_use(tmp_path)
    assert (found.blocks, found.used_blocks, found.usage, found.sequences) == (100, 60, 0.6, 9)


def test_what_tells_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("nothing of the kind\n", encoding="utf-8")
    with pytest.raises(InputError, match="tells nothing"):
        cache_use(tmp_path / "other.log")
    with pytest.raises(InputError, match="can't be read"):
        cache_use(tmp_path / "absent.log")


def test_planned_and_used_stand_side_by_side(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    path.write_text(LOG, encoding="utf-8")
    config = shared_data / "configs" / "Qwen--Qwen3-8B.json"
    command = ["kv", str(config), "--used", str(path)]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    assert "Planned beside used" in answer.output
    assert "1,011,712" in answer.output
    answer = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(answer.stdout)["used"]["sequences"] == 31
