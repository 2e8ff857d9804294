"""What a budget or a plan decides reaches a consumer under its own names, with reasons, or is refused."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.deployment.cases import Case
from memplan.export import EXPORTERS, export, export_budget
from memplan.export.consumer_settings import plan_settings, write_settings
from memplan.export.knob_table import knob_table
from memplan.export.settings import ConsumerSettings
from memplan.export.settings_text import argument_words, environment, nested, settings_text
from memplan.hardware import chip
from memplan.kv import CacheOptions, Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.placement.recompute_policy import RecomputePolicy
from memplan.planner import plan as make_plan
from memplan.schema import Plan, Tier

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

DENSE = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 512, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 1024, "vocab_size": 4096,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
MIXED = {
    **DENSE, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 16,
    "num_experts_per_tok": 2, "moe_intermediate_size": 256, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "norm_topk_prob": True,
}  # fmt: skip


def case(config: dict[str, Any] = DENSE, name: str = "vllm-ascend", layout: Layout | None = None, **given: Any) -> Case:
    die = chip("910B3")
    memory = given.pop("memory", Memory())
    options = ServingOptions(length=8192, **given)
    return Case(load_config(config), die, engine(name, die), options, layout or Layout(), memory)


def told(asked: Case, to: str, **memories: int) -> ConsumerSettings:
    return export_budget(asked, asked.budget(), to, memories)


def flags(settings: ConsumerSettings, file: int = 0) -> dict[str, str | bool]:
    """The words of a command line by flag."""
    found: dict[str, str | bool] = {}
    last = ""
    for word in argument_words(settings.of(settings.files[file])):
        if word.startswith("--"):
            last, found[word] = word, True
        else:
            found[last] = word
    return found


@pytest.mark.parametrize("name", [exporter.name for exporter in EXPORTERS.values() if not exporter.writer])
def test_every_consumer_has_settings_with_sources(name: str) -> None:
    table = knob_table(name)
    assert table["consumer"] == name
    rows = [*table["knobs"].items(), *((str(row["set"]), row) for row in table.get("always", ()))]
    assert rows
    for fact, row in rows:
        assert ("set" in row) != ("values" in row), fact
        assert row.get("source", table["source"])
    for row in (*table.get("conflicts", ()), *table.get("needs", ())):
        assert row["source"]


def test_a_budget_becomes_the_engines_command_line() -> None:
    asked = case(layout=Layout(tensor=2), batched_tokens=4096, requests=32, asynchronous=False)
    settings = told(asked, "vllm-ascend")
    found = flags(settings)
    assert settings.version == "0.23.0.post1"
    assert found["--tensor-parallel-size"] == "2"
    assert found["--max-model-len"] == "8192"
    assert found["--max-num-batched-tokens"] == "4096"
    assert found["--max-num-seqs"] == "32"
    assert found["--no-async-scheduling"] is True
    assert "--data-parallel-size" not in found
    assert environment(settings.settings)["HCCL_BUFFSIZE"] == "200"
    assert settings.figures["blocks"] == asked.budget().pool.num_blocks


def test_memory_is_a_share_while_anything_is_unknown_and_bytes_when_nothing_is() -> None:
    unknown = case()
    assert flags(told(unknown, "vllm-ascend"))["--gpu-memory-utilization"] == "0.92"
    known = case(memory=Memory(graph=GIB, workspace=0))
    found = flags(told(known, "vllm-ascend"))
    assert found["--kv-cache-memory-bytes"] == str(known.budget().available_bytes)
    assert "--gpu-memory-utilization" not in found


def test_the_version_is_the_one_that_was_planned_and_another_engine_is_refused() -> None:
    assert told(case(name="vllm-0.23.0"), "vllm").version == "0.23.0"
    assert told(case(name="vllm-ascend-0.30.0rc2"), "vllm-ascend").version == "0.30.0rc2"
    for name, to in (("vllm-ascend", "vllm"), ("mindie", "sglang"), ("vllm-0.33.0", "vllm-0.23.0")):
        with pytest.raises(InputError, match=f"{to} takes no budget of"):
            told(case(name=name), to)
    with pytest.raises(InputError, match="not of a KV budget"):
        told(case(), "megatron")


def test_experts_are_shared_as_the_engine_shares_them_or_not_at_all() -> None:
    layout = Layout(tensor=2, data=2, expert=4)
    assert flags(told(case(MIXED, layout=layout), "vllm-ascend"))["--enable-expert-parallel"] is True
    with pytest.raises(InputError, match="= 4, the plan has 2"):
        told(case(MIXED, layout=Layout(tensor=2, data=2, expert=2)), "vllm-ascend")


def test_sglang_counts_all_ranks_that_share_experts_and_copies_of_dense_models() -> None:
    shared = flags(told(case(MIXED, "sglang", Layout(tensor=2, data=2, expert=4)), "sglang"))
    assert (shared["--tp-size"], shared["--attn-dp-size"], shared["--ep-size"]) == ("4", "2", "4")
    copied = flags(told(case(DENSE, "sglang", Layout(tensor=2, data=2)), "sglang"))
    assert (copied["--tp-size"], copied["--dp-size"]) == ("2", "2")
    assert "--attn-dp-size" not in copied


def test_host_memory_is_counted_as_each_consumer_counts_it(tmp_path: Path) -> None:
    asked = case(layout=Layout(tensor=2))
    offload = json.loads(str(flags(told(asked, "vllm-ascend", host=8 * GIB))["--kv-transfer-config"]))
    blocks = 8 * GIB // asked.budget().pool.allocated_per_block
    assert offload["kv_connector_extra_config"]["num_cpu_blocks"] == blocks
    both = told(case(name="vllm-0.33.0", layout=Layout(tensor=2)), "vllm", host=8 * GIB)
    assert flags(both)["--kv-offloading-size"] == "16"
    folder = tmp_path / "pool"
    write_settings(told(asked, "mooncake", pool=10 * GIB + 5), folder)
    assert json.loads((folder / "mooncake.json").read_text())["global_segment_size"] == "10GB"
    assert "AscendStoreConnector" in (folder / "serve.sh").read_text()
    assert "global_segment_size = 10GB: what each die gives" in (folder / "why.txt").read_text()


@pytest.mark.parametrize("to", ["mooncake", "memcache"])
def test_a_pool_without_a_size_or_with_less_than_its_least_is_refused(to: str) -> None:
    with pytest.raises(InputError, match="a pool needs a size"):
        told(case(), to)
    with pytest.raises(InputError, match="it begins at 1"):
        told(case(), to, pool=GIB - 1)


def test_a_pool_of_more_than_its_most_is_refused() -> None:
    assert "1024GB" in str(told(case(), "memcache", pool=1024 * GIB).settings)
    with pytest.raises(InputError, match="it ends at 1024"):
        told(case(), "memcache", pool=1025 * GIB)


def test_mindie_is_given_json_and_the_share_in_the_environment(tmp_path: Path) -> None:
    folder = tmp_path / "mindie"
    write_settings(told(case(name="mindie", layout=Layout(tensor=2)), "mindie"), folder)
    backend = json.loads((folder / "config.json").read_text())["BackendConfig"]
    assert backend["ModelDeployConfig"]["ModelConfig"][0]["worldSize"] == 2
    assert backend["ModelDeployConfig"]["ModelConfig"][0]["npuMemSize"] == -1
    assert backend["ScheduleConfig"]["maxPrefillTokens"] >= backend["ModelDeployConfig"]["maxInputTokenLen"]
    assert "export NPU_MEMORY_FRACTION=0.8" in (folder / "mindie_env.sh").read_text()


def test_drafts_need_layers_to_draft_with_and_become_one_object() -> None:
    drafting = {**DENSE, "model_type": "mimo", "architectures": ["MiMoForCausalLM"], "num_nextn_predict_layers": 1}
    caches = CacheOptions(speculative_tokens=1, mtp=True)
    settings = told(case(drafting, name="vllm-0.33.0", caches=caches), "vllm")
    assert json.loads(str(flags(settings)["--speculative-config"])) == {"method": "mtp", "num_speculative_tokens": 1}


def test_a_shell_reads_the_command_line_as_it_was_meant() -> None:
    settings = told(case(), "vllm-ascend", host=8 * GIB)
    text = settings_text(settings, settings.files[0])
    command = text[text.index("vllm serve") :].replace("\\\n", " ")
    assert shlex.split(command)[3:-1] == argument_words(settings.settings)
    for setting in settings.settings:
        assert setting.name in text
    assert "For vllm-ascend 0.23.0.post1" in text


def training(layout: Layout, recipe: Recipe, **more: Any) -> Plan:
    return make_plan(load_config(DENSE), phase="train", layout=layout, recipe=recipe, **more)


@pytest.fixture(scope="module")
def recomputing() -> Plan:
    layout = Layout(tensor=2, pipeline=2, data=2)
    return training(layout, Recipe(sequence=512, micro_batch=2, micro_batches=4, recompute_layers=2))


def test_a_recipe_becomes_megatrons_arguments(recomputing: Plan, tmp_path: Path) -> None:
    words = json.loads(export(recomputing, "megatron", tmp_path / "a.json").read_text())["files"]["arguments.sh"]
    found = dict(zip(words["arguments"][:-1], words["arguments"][1:], strict=True))
    assert found["--tensor-model-parallel-size"] == "2"
    assert found["--pipeline-model-parallel-size"] == "2"
    assert found["--micro-batch-size"] == "2"
    assert found["--global-batch-size"] == "16"
    assert found["--recompute-num-layers"] == "2"
    assert found["--recompute-granularity"] == "full"
    assert "--use-distributed-optimizer" in words["arguments"]


def test_mindformers_is_told_layers_by_stage_in_graph_mode_and_by_number_in_pynative(
    recomputing: Plan, tmp_path: Path
) -> None:
    graph = export(recomputing, "mindformers", tmp_path / "g.yaml").read_text()
    assert "recompute: [2, 2]  # " in graph
    assert 'max_device_memory: "' in graph
    with pytest.raises(InputError, match=r"tensor_parallel only with parallelism\.sequence_parallel"):
        export(recomputing, "mindformers-pynative", tmp_path / "p.yaml")
    whole = training(Layout(pipeline=2, data=2), Recipe(sequence=512, micro_batches=2, recompute_layers=2))
    pynative = export(whole, "mindformers-pynative", tmp_path / "p.yaml").read_text()
    assert 'full_recompute_layer: ["0-1", "4-5"]' in pynative
    assert "data_parallel_shard_strategy: " in pynative


def test_torchtitan_is_told_by_its_file_or_by_arguments(recomputing: Plan, tmp_path: Path) -> None:
    told_ = tomllib.loads(export(recomputing, "torchtitan-0.2.2", tmp_path / "t.toml").read_text())
    assert told_["parallelism"]["data_parallel_shard_degree"] == 2
    assert told_["parallelism"]["pipeline_parallel_schedule"] == "1F1B"
    assert told_["training"] == {"local_batch_size": 8, "global_batch_size": 16, "seq_len": 512}
    words = json.loads(export(recomputing, "torchtitan", tmp_path / "t.json").read_text())["files"]["arguments.sh"]
    assert "--parallelism.tensor-parallel-degree 2" in words["command_line"]


def test_layers_whose_activations_leave_are_swapped() -> None:
    recipe = Recipe(sequence=1024, micro_batch=4)
    never = RecomputePolicy.NEVER
    roomy = training(Layout(), recipe, recompute=never).tiers[0].peak
    tight = training(Layout(), recipe, hbm=int(roomy * 0.6), recompute=never)
    swap = nested(plan_settings(tight, "mindformers").settings)["swap_config"]
    assert swap["swap"] is True
    (told_,) = swap["layer_swap"]
    out = {move.tensor for move in tight.transfers if move.source is Tier.HBM}
    names = [tensor.name for tensor in tight.tensors if tensor.index in out and tensor.kind == "activation"]
    moved = {int(found[1]) for name in names if (found := re.search(r"layers\.(\d+)\.", name))}
    assert told_["layers"]
    assert set(told_["layers"]) <= moved
    assert 1 <= told_["backward_prefetch"] <= len(tight.ops)
    assert "--swap-attention" in argument_words(plan_settings(tight, "mindspeed").settings)
    offload = environment(plan_settings(tight, "hyperoffload").settings)
    assert int(offload["HYPER_OFFLOAD_MAX_DEVICE_MEMORY"]) == tight.tiers[0].capacity
    d2h = next(link for link in tight.links if link.name == "d2h")
    assert float(offload["HYPER_OFFLOAD_D2H_BANDWIDTH_GBPS"]) == d2h.bytes_per_second / 1e9


def test_bytes_in_pooled_memory_are_said_to_be_left_out_and_states_on_the_host_by_their_share() -> None:
    """No framework has a setting for pooled memory; Megatron takes the share of the optimiser's states."""
    recipe, never = Recipe(sequence=1024), RecomputePolicy.NEVER
    roomy = training(Layout(), recipe, recompute=never).tiers[0].peak
    tight = training(Layout(), recipe, hbm=int(roomy * 0.7), recompute=never)
    states = {tensor.index: tensor.nbytes for tensor in tight.tensors if tensor.kind == "optimizer_state"}
    moved = sorted(index for index in {move.tensor for move in tight.transfers} if index in states)
    pooled = set(moved[::2])
    assert 0 < len(pooled) < len(moved)

    def elsewhere(tier: Tier) -> Tier:
        return Tier.REMOTE if tier is Tier.HOST else tier

    transfers = tuple(
        replace(move, source=elsewhere(move.source), target=elsewhere(move.target)) if move.tensor in pooled else move
        for move in tight.transfers
    )
    both = replace(tight, transfers=transfers)
    for consumer in ("megatron", "mindspeed", "torchtitan", "mindformers", "mindformers-pynative", "hyperoffload"):
        assert any("pooled mib" in note for note in plan_settings(both, consumer).notes), consumer
    share = sum(states[index] for index in moved if index not in pooled) / sum(states.values())
    words = argument_words(plan_settings(both, "megatron").settings)
    assert float(words[words.index("--optimizer-offload-fraction") + 1]) == pytest.approx(share, abs=0.001)
    assert "--optimizer-offload-fraction" not in argument_words(plan_settings(both, "mindspeed").settings)


def test_what_a_framework_refuses_is_refused_before(tmp_path: Path) -> None:
    cases = (
        (Recipe(sequence=256, swap_optimizer=True, sharding=Sharding.NONE), "mindspeed", "only with --use-distributed"),
        (Recipe(sequence=256, schedule=Schedule.GPIPE), "megatron", "no schedule 'gpipe'"),
        (Recipe(sequence=256, recompute_layers=1, recompute_attention=True), "megatron", "at once"),
        (Recipe(sequence=256, sharding=Sharding.ZERO2), "mindformers", "no sharding 'zero2'"),
        (Recipe(sequence=256, sharding=Sharding.ZERO2, reuse_fp32=True), "mindspeed", "refuses --reuse-fp32-param"),
    )
    for recipe, to, said in cases:
        plan = training(Layout(data=2), recipe)
        with pytest.raises(InputError, match=said):
            export(plan, to, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_policy_of_hyper_parallel_is_python_that_names_layers(recomputing: Plan, tmp_path: Path) -> None:
    text = export(recomputing, "hyper-parallel", tmp_path / "policy.py").read_text()
    names: dict[str, Any] = {}
    exec(compile(text.partition("from hyper_parallel")[0], "policy.py", "exec"), names)
    assert names["RECOMPUTED"] == [0, 1, 4, 5]
    assert names["SWAPPED"] == {}
    plain = training(Layout(), Recipe(sequence=256))
    with pytest.raises(InputError, match="no policy to write"):
        export(plain, "hyper-parallel", tmp_path / "none.py")


HOSTILE = (
    "g\nNAMES = 'mine'\n- a: 1\r\x0c\x85x: 2\u2028y: 3 $(exit 3) `exit 3` '; exit 3; ' \" \\ \"\"\" \x00\x1b\x7f\u202e"
)


@pytest.mark.parametrize(
    "to", ["hyper-parallel", "tilelang", "svg", "mindformers", "torchtitan-0.2.2", "megatron", "hyperoffload"]
)
def test_names_of_a_plan_stay_within_comments(recomputing: Plan, tmp_path: Path, to: str) -> None:
    hostile = replace(
        recomputing,
        chip=HOSTILE,
        origin=replace(recomputing.origin, graph=HOSTILE),
        tensors=tuple(replace(tensor, name=f"{tensor.name}{HOSTILE}") for tensor in recomputing.tensors),
    )
    paths = [export(plan, to, tmp_path / name) for plan, name in ((recomputing, "plain"), (hostile, "hostile"))]
    plain, told = (path.read_text("utf-8") for path in paths)
    assert re.search("[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u202e]", told) is None
    if to in ("hyper-parallel", "tilelang"):
        assert ast.dump(code(told)) == ast.dump(code(plain))
    elif to == "svg":
        shapes = [[item.tag for item in ET.fromstring(text).iter()] for text in (plain, told)]
        assert shapes[0] == shapes[1]
    else:
        assert [line for line in told.splitlines() if not line.startswith("#")] == [
            line for line in plain.splitlines() if not line.startswith("#")
        ]


def code(text: str) -> ast.Module:
    """What Python runs of `text`, whose docstring is words."""
    module = ast.parse(text)
    module.body = [item for item in module.body if not isinstance(item, ast.Expr)]
    return module


def test_an_unknown_version_is_answered_with_those_there_are(recomputing: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"torchtitan-0\.2\.2, torchtitan-0\.3\.0"):
        export(recomputing, "torchtitan-9.9", tmp_path / "x")
