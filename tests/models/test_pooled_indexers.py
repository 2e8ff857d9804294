"""Indexers that keep one key for a pool of tokens (GLM-5.3-Flash, Qwen3.8-Flash-Next), and what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.core.units import GIB
from memplan.kv import CacheOptions, ServingOptions, engine, logical_cache, plan_cache
from memplan.models import load_config
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.parallel import Layout

FAMILIES: dict[str, Any] = json.loads((Path(__file__).parent / "families.json").read_text("utf-8"))
VLLM = engine("vllm-0.33.0-h100")


def config(name: str, **changed: object) -> dict[str, Any]:
    return {**FAMILIES[name]["config"], **changed}


def test_glm_keeps_a_key_for_sixteen_tokens_and_a_tail() -> None:
    model = load_config(config("glm5_next"))
    kept = logical_cache(model, engine("logical"), CacheOptions(), 1600)
    # 11 layers: a latent of 512 in 16 bits for each token, an index key of 128 for each pool of 16.
    assert kept.length_bytes == 11 * (1600 * 512 * 2 + 100 * 128 * 2)
    plan = plan_cache(model, VLLM, ServingOptions(65536), 80 * GIB, Layout(tensor=8))
    kinds = {spec.part: spec for group in plan.groups for spec in group.specs}
    # Pages of 64 pooled keys (132 B in 8 bits with a scale) are whole: blocks are multiples of 16 x 64 tokens.
    assert kinds["attn"].block_size % 1024 == 0
    assert kinds["indexer"].page_bytes == kinds["indexer"].block_size // 16 * 132
    # Key and score of 16 tokens in 16 bits, one block a request whatever its length.
    assert kinds["tail"].page_bytes == 16 * 2 * 128 * 2
    assert sum(spec.part == "tail" for group in plan.groups for spec in group.specs) == 11


def test_layers_that_share_an_index_keep_no_tail() -> None:
    model = load_config(config("glm5_next-shared"))
    plan = plan_cache(model, VLLM, ServingOptions(4096), 80 * GIB, Layout(tensor=8))
    parts = [spec.part for group in plan.groups for spec in group.specs]
    assert parts.count("attn") == 6
    assert parts.count("tail") == 3


def test_qwen_keeps_the_inputs_of_the_convolution_behind_its_tables() -> None:
    model = load_config(config("qwen4_exp-tables"))
    plan = plan_cache(model, VLLM, ServingOptions(65536), 80 * GIB, Layout(tensor=4))
    kinds = {spec.part: spec for group in plan.groups for spec in group.specs}
    # (4 - 1) x 3 tokens of 4 streams of 2048 elements in 16 bits, whole on every rank.
    assert kinds["lookup_state"].payload_bytes == 9 * 4 * 2048 * 2
    assert kinds["tail"].page_bytes == 16 * 128 * 2
    assert kinds["indexer"].page_bytes == kinds["indexer"].block_size // 16 * 128 * 2
    drafting = CacheOptions(speculative_tokens=3)
    drafts = load_config(config("qwen4_exp-tables", mtp_num_hidden_layers=1))
    longer = plan_cache(drafts, VLLM, ServingOptions(65536, caches=drafting), 80 * GIB, Layout(tensor=4))
    # A ring holds the open pool and every draft, in whole pools.
    assert next(s for g in longer.groups for s in g.specs if s.part == "tail").page_bytes == 32 * 128 * 2


def test_hashes_have_prime_rows_of_their_own() -> None:
    model = load_config(config("qwen4_exp-others", ngram_vocab_size_base=10, make_ngram_vocab_size_divisible_by=1))
    table = next(layer.lookup for layer in model.layers if layer.lookup is not None)
    assert table.rows == sum((11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53))
    assert (table.heads, table.width) == (12, 128)


def test_windows_have_heads_of_their_own() -> None:
    model = load_config(config("step3p5-windows"))
    mixers = [layer.mixer for layer in (*model.layers, *model.mtp_layers)]
    heads = [(m.heads, m.window) for m in mixers if isinstance(m, GroupedAttention)]
    assert heads[:4] == [(64, None), (96, 512), (96, 512), (96, 512)]
    assert [window for _, window in heads[45:]] == [512, 512, 512]


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("glm5_next", {"qk_rope_head_dim": 64}, "qk_rope_head_dim"),
        ("glm5_next", {"indexer_types": ["shared"] * 45}, "no earlier layer has an indexer"),
        ("qwen4_exp-tables", {"ple_layer_ids": [99]}, "there is no layer 99"),
        ("qwen4_exp-tables", {"ple_embed_dim": 1000}, "does not divide among 16 hashes"),
        ("laguna", {"gating": "by-moon"}, "gating"),
        ("step3p5", {"mlp_layer_types": None, "moe_layers_enum": "3,x"}, "moe_layers_enum"),
    ],
)
def test_files_that_make_no_sense_are_refused(name: str, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_config(config(name, **changed))
