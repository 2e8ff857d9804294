"""Families beyond the shared files: totals of their reference implementations, weights as checkpoints hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, logical_cache, plan_cache
from memplan.models import load_config, parameter_counts
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.mixers.recurrent_mixers import KimiDelta
from memplan.models.parallel import Layout, rank_weight_bytes
from memplan.models.precision import precision

FAMILIES: dict[str, Any] = json.loads((Path(__file__).parent / "families.json").read_text(encoding="utf-8"))
NAMES = [name for name in FAMILIES if name != "source"]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_equal_the_reference_implementation(name: str) -> None:
    assert parameter_counts(load_config(FAMILIES[name]["config"])).total == FAMILIES[name]["total"]


@pytest.mark.parametrize("name", NAMES)
def test_every_family_has_a_cache(name: str) -> None:
    model = load_config(FAMILIES[name]["config"])
    assert logical_cache(model, engine("logical"), CacheOptions(), 1000).total_bytes > 0
    assert plan_cache(model, engine("vllm-0.33.0-h100"), ServingOptions(4096), 80 * GIB).num_blocks > 0


def test_kimi_k3_on_disk_and_in_the_cache() -> None:
    model = load_config(FAMILIES["kimi_k3"]["config"])
    held = rank_weight_bytes(model, Layout(), precision("published", model), range(93), vision=False)
    # 1,560,860,324,864 B are what the index of the checkpoint adds up to, tower and projector included.
    assert sum(held.values()) == pytest.approx(1_560_860_324_864 - 2 * 447_358_976, rel=1e-3)
    assert model.vision is not None
    assert model.vision.parameters == 447_358_976
    mixers = [layer.mixer for layer in model.layers]
    assert sum(isinstance(mixer, LatentAttention) for mixer in mixers) == 24
    assert sum(isinstance(mixer, KimiDelta) for mixer in mixers) == 69
    # Only the 24 layers of latent attention grow: 1,152 B a token each.
    grown = logical_cache(model, engine("logical"), CacheOptions(), 1000)
    assert grown.length_bytes == 1000 * 24 * 1152


def test_layers_of_gemma_4_that_share_a_cache_keep_none() -> None:
    model = load_config(FAMILIES["gemma4_text-kv"]["config"])
    sharing = [layer.mixer.shares_kv_of for layer in model.layers if isinstance(layer.mixer, GroupedAttention)]
    assert sharing[:24] == [None] * 24
    assert sharing[24:] == [22, 22, 22, 22, 22, 23]
    specs = plan_cache(model, engine("vllm-0.23.0"), ServingOptions(4096), 20 * GIB).groups
    assert max(spec.layer for group in specs for spec in group.specs) == 23


def test_values_narrower_than_keys_are_stored_as_narrow() -> None:
    model = load_config(FAMILIES["mimo_v2_flash"]["config"])
    full = [
        layer.mixer for layer in model.layers if isinstance(layer.mixer, GroupedAttention) and not layer.mixer.window
    ]
    found = logical_cache(model, engine("logical"), CacheOptions(), 100_000)
    assert found.length_bytes == 100_000 * len(full) * 4 * (192 + 128) * 2


def test_baichuan_tells_its_length_in_words_of_its_own() -> None:
    """Baichuan2-13B of 13,896,668,160 published parameters, and the older 7B with the usual field."""
    config = {
        "model_type": "baichuan", "architectures": ["BaichuanForCausalLM"], "hidden_size": 5120,
        "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 40, "vocab_size": 125_696,
        "model_max_length": 4096, "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    model = load_config(config)
    assert (parameter_counts(model).total, model.max_positions) == (13_896_668_160, 4096)
    older = {name: value for name, value in config.items() if name != "model_max_length"}
    assert load_config(older | {"max_position_embeddings": 2048}).max_positions == 2048


@pytest.mark.parametrize(
    ("wrapper", "inner", "family"),
    [("qwen3_5", "qwen3_5_text_model", "qwen3_5_text"), ("gemma4_unified", "gemma4_unified_text", "gemma4_text")],
)
def test_a_decoder_may_have_the_type_of_its_wrappers_part(wrapper: str, inner: str, family: str) -> None:
    decoder = FAMILIES[family]["config"]
    counts = [
        parameter_counts(load_config({"model_type": wrapper, "text_config": decoder | {"model_type": name}}))
        for name in (inner, family)
    ]
    assert counts[0] == counts[1]


def test_heads_may_be_listed_by_layer() -> None:
    config = FAMILIES["gemma4_text-kv"]["config"]
    full = [index for index, kind in enumerate(config["layer_types"]) if kind == "full_attention"]
    own = ("global_head_dim", "num_global_key_value_heads")
    listed = {name: value for name, value in config.items() if name not in own}
    listed["per_layer_config"] = {f"{index:02}": {"head_dim": 512, "num_key_value_heads": 2} for index in full}
    assert load_config(listed).layers == load_config(config).layers


def test_kinds_of_layers_have_two_names() -> None:
    config = {
        "model_type": "nemotron_h", "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 1000, "head_dim": 64,
        "num_attention_heads": 8, "num_key_value_heads": 2, "mamba_num_heads": 8, "mamba_head_dim": 64, "n_groups": 2,
        "ssm_state_size": 16, "conv_kernel": 4, "max_position_embeddings": 4096, "chunk_size": 128,
    }  # fmt: skip
    older, later = ["mamba", "attention", "mlp"], ["linear_attention", "full_attention", "mlp"]
    stacks = [load_config(config | {"layers_block_type": kinds}).layers for kinds in (older, later)]
    assert stacks[0] == stacks[1]
