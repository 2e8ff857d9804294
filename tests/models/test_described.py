"""Families that `decoders.json` describes: totals of their reference implementations, field cases, whole steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, logical_cache, plan_cache
from memplan.models import ModelConfig, load_config, parameter_counts, supported_families
from memplan.models.families import ARCHITECTURES, BUILDERS, WRAPPERS
from memplan.models.families.described import described_families
from memplan.models.parallel import Layout
from memplan.models.steps.options import Phase, ServedStep
from memplan.models.steps.served_step import step_graph

TOTALS: dict[str, Any] = json.loads((Path(__file__).parent / "described.json").read_text(encoding="utf-8"))["families"]


def token_bytes(model: ModelConfig) -> int:
    """Bytes of 16-bit KV that one more token takes."""
    return logical_cache(model, engine("logical"), CacheOptions(), 1).length_bytes


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_those_of_the_reference_implementation(name: str) -> None:
    assert parameter_counts(load_config(TOTALS[name]["config"])).total == TOTALS[name]["total"]


@pytest.mark.parametrize("name", sorted(set(TOTALS) & set(described_families())))
def test_every_weight_has_its_op_in_a_decode_step(name: str) -> None:
    model = load_config(TOTALS[name]["config"])
    assert step_graph(model, Layout(), ServedStep(Phase.DECODE, 2, 256)).ops


def test_described_families_are_supported() -> None:
    assert set(described_families()) <= set(supported_families())


REFUSED = table("memplan.models.families", "refused.json")
CASES = {
    40: (7.6e9, 57_344),
    41: (7.6e9, 57_344),
    42: (None, 98_304),
    44: (32.57e9, 62_464),
    45: (29.9e9, 54_144),
    47: (8.8e9, 49_152),
    49: (14.66e9, 204_800),
    50: (41.87e9, 131_072),
    51: (8.03e9, 139_264),
    53: (80.4e9, 131_072),
    55: (36.15e9, 262_144),
    56: (4.07e9, None),
    59: (560e9, 28 * 2 * 576 * 2),
    61: (119e9, None),
    63: (316e9, 61 * 2 * 256 * 2),
    65: (None, 60 * 2 * 4 * 128 * 2 + 57 * 128 * 2),
}
"""Of field cases: parameters of the decoder as published, rounded, and bytes of KV a token."""


@pytest.mark.parametrize("number", CASES)
def test_field_cases_of_families_that_were_unknown(number: int, shared_data: Path) -> None:
    """Went wrong once: these families were refused."""
    total, kept = CASES[number]
    model = load_config(next((shared_data / "field-cases" / "kv").glob(f"{number}-*")) / "config.json")
    if total is not None:
        assert parameter_counts(model).total == pytest.approx(total, rel=0.008)
    if kept is not None:
        assert token_bytes(model) == kept


@pytest.mark.parametrize(("number", "tower"), [(40, 675_759_104), (41, 676_550_144)])
def test_towers_of_qwen_2_and_2_5(number: int, tower: int, shared_data: Path) -> None:
    model = load_config(next((shared_data / "field-cases" / "kv").glob(f"{number}-*")) / "config.json")
    assert model.vision is not None
    assert model.vision.parameters == tower


def test_index_keys_of_minimax_m3_have_pages_of_their_own(shared_data: Path) -> None:
    """The keys by which blocks are picked stay in 16 bits whatever the cache's type (vllm 0.33.0, minimax_m3)."""
    model = load_config(next((shared_data / "field-cases" / "kv").glob("65-*")) / "config.json")
    plan = plan_cache(model, engine("vllm-0.33.0"), ServingOptions(4096, CacheOptions(kv="fp8")), 40 * GIB)
    specs = [spec for group in plan.groups for spec in group.specs]
    assert {spec.payload_bytes // spec.block_size for spec in specs if spec.part == "indexer"} == {256}
    assert len(specs) == 60 + 57
    assert {spec.block_size for spec in specs} == {128}


def test_at_most_sixty_architectures_that_vllm_registers_are_refused(shared_data: Path) -> None:
    listed = json.loads((shared_data / "kv-oracle" / "architectures-vllm-0.33.0.json").read_text(encoding="utf-8"))
    known = set(supported_families())
    refused = [
        row["architecture"]
        for row in listed
        if row["memplan"] == "refuses"
        and not known & set(row["model_types"])
        and row["architecture"] not in ARCHITECTURES
    ]
    assert len(refused) <= 60, refused
    reasons = {name for row in REFUSED["refused"] for name in row["architectures"] if row["reason"] and row["source"]}
    assert set(refused) <= reasons


def test_a_refusal_says_why() -> None:
    with pytest.raises(InputError, match=r"'zamba2' is not supported: blocks of shared attention.*; the nearest"):
        load_config({"model_type": "zamba2"})
    with pytest.raises(InputError, match=r"'minimax_m1' is not supported: its linear attention with decay"):
        load_config({"model_type": "minimax_m1", "architectures": ["MiniMaxM1ForCausalLM"]})
    with pytest.raises(InputError, match="'my_code' is not supported: its config does not hold the decoder's sizes"):
        load_config({"model_type": "my_code", "architectures": ["HfMoondream"]})


def test_what_is_refused_is_not_read_as_well() -> None:
    types = {name for row in REFUSED["refused"] for name in row["model_types"]}
    assert not types & set(supported_families())
    assert not {name for row in REFUSED["refused"] for name in row["architectures"]} & set(ARCHITECTURES)


def test_every_wrapper_and_architecture_leads_to_a_decoder() -> None:
    held = {row.get("decoder") for row in WRAPPERS.values()} | {
        name for row in WRAPPERS.values() for name in row.get("versions", {}).values()
    }
    assert held - {None} <= set(BUILDERS)
    assert set(ARCHITECTURES.values()) <= {*BUILDERS, *WRAPPERS}


@pytest.mark.parametrize(
    ("document", "near"),
    [
        ({"model_type": "qwen9_moe", "num_experts": 8}, "qwen3_moe"),
        ({"model_type": "zephyr", "kv_lora_rank": 512}, "deepseek_v3"),
        ({"model_type": "zephyr", "text_config": {"num_experts": 8}}, "qwen3_moe"),
        ({"model_type": "zephyr", "num_key_value_heads": 8}, "llama"),
    ],
)
def test_hint_names_a_family_of_the_same_name_or_of_the_same_parts(document: dict[str, Any], near: str) -> None:
    """Went wrong once: phi3 was told to be near kimi_k3, seed_oss near gpt_oss."""
    with pytest.raises(InputError, match=f"nearest supported family is '{near}'"):
        load_config(document)


def test_unknown_type_of_a_known_architecture_is_read() -> None:
    config = TOTALS["arcee"]["config"] | {"model_type": "my_code", "architectures": ["LlamaForCausalLM"]}
    assert load_config(config).family == "llama"


def test_index_heads_are_repeated_where_there_are_fewer_than_ranks(shared_data: Path) -> None:
    model = load_config(next((shared_data / "field-cases" / "kv").glob("65-*")) / "config.json")
    assert step_graph(model, Layout(tensor=8), ServedStep(Phase.DECODE, 2, 256)).ops


def test_a_family_that_is_near_can_be_tried() -> None:
    config = TOTALS["seed_oss"]["config"] | {"model_type": "zephyr"}
    assert load_config(config, family="seed_oss").family == "seed_oss"
    with pytest.raises(InputError, match="no family that is known"):
        load_config(config, family="sed_oss")
