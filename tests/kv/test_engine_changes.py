"""From one engine's budget to another's: every changed byte has its rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli.app import main
from memplan.deployment.cases import Case
from memplan.deployment.engine_changes import EngineComparison, engine_comparison
from memplan.hardware import chip
from memplan.kv import CacheOptions, KvBudget, Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout


def compared(folder: Path, model: str, here: str, there: str, kv: str | None = None) -> EngineComparison:
    die = chip("910C")
    asked = ServingOptions(32_768, CacheOptions(kv=kv))
    layout = Layout(tensor=8, expert=8)
    config = load_config(folder / "configs" / f"{model}.json")
    case = Case(config, die, engine(here, die), asked, layout, Memory(precision="w4a8"))
    return engine_comparison(case, engine(there, die))


def request_bytes(result: KvBudget) -> int:
    return result.pool.blocks_per_request * result.pool.planned_per_block


@pytest.mark.parametrize(
    ("model", "here", "there", "kv"),
    [
        ("openai--gpt-oss-120b", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2", None),
        ("Qwen--Qwen3.5-397B-A17B", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2", None),
        ("deepseek-ai--DeepSeek-V3.2", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2", None),
        ("deepseek-ai--DeepSeek-V4-Flash", "vllm-0.23.0", "vllm-0.33.0", "fp8"),
        ("Qwen--Qwen3.5-397B-A17B", "vllm-0.33.0", "vllm-0.23.0", None),
        ("google--gemma-3-27b-it", "vllm-0.33.0", "vllm-ascend-0.30.0rc2", None),
        ("Qwen--Qwen3-32B", "vllm-0.33.0", "vllm-0.23.0", None),
    ],
)
def test_changes_add_up_to_the_other_budget(
    shared_data: Path, model: str, here: str, there: str, kv: str | None
) -> None:
    found = compared(shared_data, model, here, there, kv)
    chain = [found.here, *(item.result for item in found.changes)]
    assert [item.before for item in found.changes] == chain[:-1]
    assert chain[-1].pool == found.there.pool or found.here.pool == found.there.pool
    changed = sum(request_bytes(item.result) - request_bytes(item.before) for item in found.changes)
    assert changed == request_bytes(found.there) - request_bytes(found.here)
    memory = sum(item.result.pool.available_bytes - item.before.pool.available_bytes for item in found.changes)
    assert memory == found.there.pool.available_bytes - found.here.pool.available_bytes
    assert all(item.result != item.before for item in found.changes)


def test_the_largest_changes_are_named(shared_data: Path) -> None:
    found = compared(shared_data, "openai--gpt-oss-120b", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2")
    halved = next(item for item in found.changes if str(item.rule) == "buffers for each layer")
    assert halved.result.pool.available_bytes * 2 == halved.before.pool.available_bytes
    found = compared(shared_data, "Qwen--Qwen3.5-397B-A17B", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2")
    states = next(item for item in found.changes if str(item.rule) == "recurrent states")
    assert {str(name): (was, now) for name, was, now, _ in states.settings}["block size"] == ("1024", "640")


def test_an_engine_against_itself_changes_nothing(shared_data: Path) -> None:
    assert not compared(shared_data, "Qwen--Qwen3-32B", "vllm-0.33.0", "vllm-0.33.0").changes


def test_the_command_prints_them(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(shared_data / "configs" / "openai--gpt-oss-120b.json")
    words = ["kv", config, "--chip", "910C", "--tp", "8", "--weights", "bf16", "--against", "vllm-ascend-0.30.0rc2"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert found["there"]["memory_bytes"] == found["changes"][-1]["memory_bytes"]
    assert main(words) == 0
    assert "From vllm-ascend-0.23.0.post1-a3 to vllm-ascend-0.30.0rc2-a3" in capsys.readouterr().out
    assert main([*words[:-1], "sglnag"]) == 2
