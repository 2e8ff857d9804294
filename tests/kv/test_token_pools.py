"""Memory dealt out in tokens: every figure as SGLang's own code has it, and the budget around it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.deployment.cases import Case
from memplan.deployment.engine_changes import engine_comparison
from memplan.hardware import chip
from memplan.kv import BudgetPart, CacheOptions, KvBudget, Memory, ServingOptions, StaticMemory, engine, token_pools
from memplan.kv.budget import budget
from memplan.kv.tokens import sees
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import ONE_RANK, Layout

HERE = Path(__file__).parent
ROWS = [json.loads(line) for line in (HERE / "token_rows.jsonl").read_text("utf-8").splitlines()]
FAMILY_ROWS = [json.loads(line) for line in (HERE / "token_family_rows.jsonl").read_text("utf-8").splitlines()]
_USUAL = Memory()
SGLANG = engine("sglang-0.5.23-npu")


@pytest.fixture(scope="module")
def draws() -> ModuleType:
    """The tool that asks the engine itself, which has the same questions."""
    path = HERE.parents[1] / "tools" / "kv_oracle" / "token_draws.py"
    spec = importlib.util.spec_from_file_location("token_draws", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of four layers, of which a token takes 16 KiB."""
    values = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "num_hidden_layers": 4,
        "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 4096, "vocab_size": 32000,
        "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    }  # fmt: skip
    path = tmp_path_factory.mktemp("tiny") / "config.json"
    path.write_text(json.dumps(values), "utf-8")
    return path


@pytest.fixture(scope="module")
def tiny_model(tiny_config: Path) -> ModelConfig:
    return load_config(tiny_config)


def asked(model: ModelConfig, memory: Memory = _USUAL, layout: Layout = ONE_RANK, **options: Any) -> KvBudget:
    return budget(model, chip("910B3"), SGLANG, ServingOptions(8192, **options), layout, memory)


def test_rows_of_the_engine(shared_data: Path, draws: ModuleType) -> None:
    models: dict[str, ModelConfig] = {}
    for row in ROWS:
        name = row["name"]
        model = models.setdefault(name, load_config(shared_data / "configs" / f"{name}.json"))
        assert not draws.unlike(draws.split(model, row), row["answer"]), row
    kinds = {row["name"].split("--")[0] for row in ROWS}
    assert len(ROWS) >= 100
    assert len(kinds) >= 9
    assert sum("refused" in row["answer"] for row in ROWS) >= 3


def test_lines_add_up_and_the_slack_says_what_it_must_hold(tiny_model: ModelConfig) -> None:
    result = asked(tiny_model)
    card, *rest = (item.nbytes or 0 for item in result.items)
    assert card == sum(rest)
    assert result.token_pools is not None
    assert result.token_pools.tokens // 128 == result.pool.num_blocks
    assert result.pool.allocated_bytes <= result.available_bytes
    assert any("slack" in str(note) and "activations" in str(note) for note in result.notes)
    assert {str(choice.setting) for choice in result.choices} >= {"static share", "tokens of one prefill"}


def test_a_slack_that_is_too_small_is_said(tiny_model: ModelConfig) -> None:
    roomy, tight = asked(tiny_model), asked(tiny_model, Memory(utilization=0.999))
    assert tight.available_bytes > roomy.available_bytes
    assert not any("more than the slack" in str(note) for note in roomy.notes)
    assert any("more than the slack" in str(note) for note in tight.notes)


def test_families_are_split_or_refused_as_the_engine_does(draws: ModuleType) -> None:
    models = HERE.parent / "models"
    families = json.loads((models / "described.json").read_text("utf-8"))["families"]
    families |= json.loads((models / "families.json").read_text("utf-8"))
    for row in FAMILY_ROWS:
        model = load_config({**families[row["name"]]["config"], "torch_dtype": "bfloat16"})
        assert not draws.unlike(draws.split(model, row), row["answer"]), row
    assert len(FAMILY_ROWS) >= 60
    assert sum("refused" in row["answer"] for row in FAMILY_ROWS) >= 5


def test_requests_asked_for_are_the_most(tiny_model: ModelConfig) -> None:
    result = asked(tiny_model, requests=3)
    assert result.sequences == 3
    assert result.token_pools is not None
    assert result.token_pools.requests == 3


def test_eight_bits_hold_twice_the_tokens(tiny_model: ModelConfig) -> None:
    wide, narrow = asked(tiny_model), asked(tiny_model, caches=CacheOptions(kv="fp8_e4m3"))
    assert wide.bytes_per_token == 2 * narrow.bytes_per_token


def test_weights_larger_than_the_static_share_are_refused_in_the_engine_s_words(tiny_model: ModelConfig) -> None:
    pools, rooms = token_pools(
        tiny_model, SGLANG, ServingOptions(8192), ONE_RANK, (StaticMemory(61 * GIB, 50 * GIB, 0.8),)
    )
    assert rooms[0] <= 0
    assert "Loaded weights leave no GPU memory for the KV cache" in pools.refusal
    assert "above 0.820" in pools.refusal


def test_stages_agree_on_the_tokens_of_the_tightest(tiny_model: ModelConfig) -> None:
    roomy, tight = StaticMemory(61 * GIB, 10 * GIB, 0.8), StaticMemory(61 * GIB, 30 * GIB, 0.8)
    options, layout = ServingOptions(8192), Layout(pipeline=2)
    both, _ = token_pools(tiny_model, SGLANG, options, layout, (roomy, tight))
    alone, _ = token_pools(tiny_model, SGLANG, options, layout, (tight, tight))
    assert both.tokens == alone.tokens


def test_rules_of_blocks_and_tokens_are_not_exchanged(tiny_model: ModelConfig) -> None:
    case = Case(tiny_model, chip("910B3"), SGLANG, ServingOptions(8192), ONE_RANK, Memory())
    with pytest.raises(InputError, match="not compared rule by rule"):
        engine_comparison(case, engine("vllm-ascend", chip("910B3")))


def test_command(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kv", str(tiny_config), "--engine", "sglang", "--context", "8192"]
    assert main([*words, "--json"]) == 0
    pools = json.loads(capsys.readouterr().out)["token_pools"]
    assert pools["page"] == 128
    assert pools["tokens"] % 128 == 0
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "max_total_num_tokens" in shown
    assert "null block" not in shown


def test_states_are_their_own_line(shared_data: Path) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3.5-35B-A3B.json")
    result = asked(model, Memory(precision="w8a8"), Layout(tensor=4, expert=4))
    pools = result.token_pools
    states = next(item for item in result.items if item.part is BudgetPart.STATES)
    assert pools is not None
    assert pools.states is not None
    assert states.nbytes == (pools.states + 1) * pools.state_bytes


def test_a_model_that_hears_keeps_what_one_that_sees_does() -> None:
    decoder = {
        "model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 156_032, "max_position_embeddings": 8192,
    }  # fmt: skip
    rules = SGLANG.token_pools
    assert rules is not None
    assert sees(load_config({"model_type": "qwen2_audio", "text_config": decoder}), rules)
    assert not sees(load_config(decoder), rules)
