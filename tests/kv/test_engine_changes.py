"""From one engine's budget to another's: every changed byte has its rule."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.deployment.cases import Case
from memplan.deployment.engine_changes import EngineComparison, engine_comparison
from memplan.hardware import chip
from memplan.kv import CacheOptions, KvBudget, Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout


def compared(folder: Path, model: str, here: str, there: str, kv: str | None = None) -> EngineComparison:
    die = chip("910C")
    asked = ServingOptions(32_768, CacheOptions(kv=kv))
    config = load_config(folder / "configs" / f"{model}.json")
    layout = Layout(tensor=8, expert=1 if config.experts is None else 8)
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


def test_every_changed_byte_of_drawn_cases_has_its_rule() -> None:
    models = Path(__file__).parents[1] / "models"
    families = json.loads((models / "families.json").read_text("utf-8"))
    names = sorted(set(families) - {"source"})
    engines = (
        "vllm-0.23.0",
        "vllm-0.33.0-h100",
        "vllm-0.33.0-b200",
        "vllm-ascend-0.23.0.post1-a3",
        "vllm-ascend-0.30.0rc2-a3",
    )
    chance, compared_pairs = random.Random(11), 0
    for _ in range(80):
        model = load_config({**families[chance.choice(names)]["config"], "torch_dtype": "bfloat16"})
        here, there = (engine(name) for name in chance.sample(engines, 2))
        caches = CacheOptions(kv=chance.choice((None, None, "bfloat16", "fp8")))
        asked = ServingOptions(2048, caches, batched_tokens=chance.choice((None, 4096)))
        layout = Layout(tensor=chance.choice((1, 2, 4)))
        try:
            found = engine_comparison(Case(model, chip("910C"), here, asked, layout, Memory()), there)
        except InputError:
            continue
        compared_pairs += 1
        for figure in (
            request_bytes,
            lambda result: result.available_bytes,
            lambda result: result.pool.num_blocks,
            lambda result: result.waste_bytes,
            lambda result: result.sequences,
        ):
            changed = sum(figure(item.result) - figure(item.before) for item in found.changes)
            assert changed == figure(found.there) - figure(found.here), (model.name, here.name, there.name)
        if compared_pairs == 20:
            break
    assert compared_pairs == 20


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
