"""What was used of a KV cache, from engines' logs and from msServiceProfiler's tables, beside the plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memplan.cli.app import command_app
from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.units import GIB
from memplan.traces.logs.cache_use import CacheUse, cache_use

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


ASCEND = "\n".join(
    (
        "(Worker pid=9) INFO 11-20 09:00:00 [worker.py:651] Available KV cache memory: 30.25 GiB",
        f"{CORE}NPU KV cache size: 1,228,800 tokens, Maximum concurrency for 40,960 tokens per request: 30.00x",
        f"{CORE}Engine 000: vllm cache_config_info with initialization after num_gpu_blocks is: 9600",
        f"{ENGINE}Running: 9 reqs, Waiting: 2 reqs, Deferred: 1 reqs, Preemptions: 4, NPU KV cache usage: 25.0%",
        "INFO 11-20 09:05:00 [loggers.py:192] Engine 000: Iteration(7): 2 context requests, 512 context tokens, "
        "11 generation requests, 11 generation tokens, iteration elapsed time: 41.20 ms, NPU KV cache usage: 26.0%",
    )
)
SGLANG = (
    "[2026-10-01 08:00:00 TP0] max_total_num_tokens=402816, chunked_prefill_size=8192, max_prefill_tokens=16384, "
    "max_running_requests=2048, context_len=40960, available_gpu_mem=6.12 GB\n"
    "[2026-10-01 08:01:00 TP0] Prefill batch, #new-seq: 2, #new-token: 900, #cached-token: 0, token usage: 0.02, "
    "#running-req: 3, #queue-req: 8, #pending-token: 0, \n"
    "[2026-10-01 08:02:00 TP0] Decode batch, #running-req: 12, #token: 100704, token usage: 0.25, npu graph: True, "
    "gen throughput (token/s): 310.40, #queue-req: 1\n"
)
HYBRID = (
    "[2026-10-01 08:02:00 TP0] Decode batch, #running-req: 4, #full token: 4000, full token usage: 0.10, "
    "#swa token: 900, swa token usage: 0.90, npu graph: True, gen throughput (token/s): 10.40, #queue-req: 0"
)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            ASCEND,
            {
                "nbytes": round(30.25 * GIB), "tokens": 1_228_800, "context": 40_960, "concurrency": 30.0,
                "blocks": 9600, "used_blocks": 2496, "usage": 0.26, "sequences": 11, "waiting": 2,
                "preemptions": 4,
            },
        ),
        (
            SGLANG,
            {
                "tokens": 402_816, "context": 40_960, "used_tokens": 100_704, "usage": 0.25, "sequences": 12,
                "waiting": 8,
            },
        ),
        # Of a model with sliding windows what is kept of every token counts.
        (HYBRID, {"used_tokens": 4000, "usage": 0.1, "sequences": 4, "waiting": 0}),
    ],
    ids=["vllm-ascend 0.30 on vLLM 0.33", "SGLang 0.5.23", "SGLang, hybrid"],
)  # fmt: skip
def test_lines_are_read_as_the_engines_write_them(tmp_path: Path, log: str, expected: dict[str, Any]) -> None:
    path = tmp_path / "serve.log"
    path.write_text(log, encoding="utf-8")
    assert cache_use(path) == CacheUse(str(path), **expected)


def test_every_line_names_where_its_text_is_made() -> None:
    lines = table("memplan.traces.logs", "engine_log_lines.json")
    for items in (*lines["limits"].values(), *lines["used"].values(), *lines["summed"].values()):
        for item in items:
            assert item["source"]
            assert re.compile(item["line"]).groups == 1


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
    answer = CliRunner().invoke(command_app(), command)
    assert answer.exit_code == 0, answer.output
    assert "Planned beside used" in answer.output
    assert "1,011,712" in answer.output
    answer = CliRunner().invoke(command_app(), [*command, "--json"])
    assert json.loads(answer.stdout)["used"]["sequences"] == 31


METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="Qwen/Qwen3-8B"}} {running}.0
vllm:num_requests_waiting{{engine="0",model_name="Qwen/Qwen3-8B"}} 3.0
vllm:{usage}{{engine="0",model_name="Qwen/Qwen3-8B"}} {share}
vllm:num_preemptions_total{{engine="0",model_name="Qwen/Qwen3-8B"}} 7.0
vllm:cache_config_info{{block_size="128",cache_dtype="auto",engine="0",num_gpu_blocks="3000",num_gpu_blocks_override="None"}} 1.0
"""  # noqa: E501 - as a server writes it
MINDIE = """# TYPE num_requests_running gauge
num_requests_running{model_name="llama2-7b"} 41
num_requests_waiting{model_name="llama2-7b"} 0
num_preemptions_total{model_name="llama2-7b"} 637
avg_prompt_throughput_toks_per_s{model_name="llama2-7b"} 601.76
npu_cache_usage_perc{model_name="llama2-7b"} 0.5
"""
SGLANG_METRICS = """sglang:num_running_reqs{model_name="m",tp_rank="0"} 9.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 2.8e-01
sglang:num_used_tokens{model_name="m"} 123859.0
sglang:max_total_num_tokens{model_name="m"} 442354.0
"""


@pytest.mark.parametrize("usage", ["gpu_cache_usage_perc", "kv_cache_usage_perc"])
def test_metrics_of_vllm_are_read_however_often_they_were_asked_for(tmp_path: Path, usage: str) -> None:
    path = tmp_path / "metrics.txt"
    asked = ((12, "0.42310000000000003"), (31, "0.61"), (2, "9.8e-05"))
    path.write_text("".join(METRICS.format(running=running, usage=usage, share=share) for running, share in asked))
    assert cache_use(path) == CacheUse(
        str(path), blocks=3000, used_blocks=1830, usage=0.61, sequences=31, waiting=3, preemptions=7, page_tokens=128
    )


def test_metrics_of_mindie_and_sglang(tmp_path: Path) -> None:
    path = tmp_path / "service.prom"
    path.write_text(MINDIE)
    assert cache_use(path) == CacheUse(
        str(path), usage=0.5, sequences=41, waiting=0, preemptions=637, prompt_rate=601.76
    )
    path.write_text(SGLANG_METRICS)
    assert cache_use(path) == CacheUse(
        str(path), tokens=442_354, usage=0.28, sequences=9, waiting=2, used_tokens=123_859
    )
