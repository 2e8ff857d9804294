"""DeepSeek-V4.1-Flash: what its layers hold and keep, against vLLM's own model classes and planner."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.kv import CacheOptions, Memory, ServingOptions, budget, engine, logical_cache, plan_cache
from memplan.models import ModelConfig, load_config, parameter_counts
from memplan.models.mixers.compressed_attention import SharedCompressedAttention
from memplan.models.parallel import Layout, rank_lookup_bytes, rank_weight_bytes
from memplan.models.precision import precision
from memplan.models.steps import Phase, ServedStep, step_graph
from memplan.models.weight_shapes import Weight
from memplan.models.weights import weights

NAME = "deepseek-ai--DeepSeek-V4.1-Flash"
MX_GROUP = 32
"""vLLM spreads the scales of 32 x 32 blocks to one for every 32 elements."""


@pytest.fixture(scope="module")
def flash(shared_data: Path) -> ModelConfig:
    return load_config(shared_data / "configs" / f"{NAME}.json")


def mixers(model: ModelConfig) -> list[SharedCompressedAttention]:
    return [layer.mixer for layer in model.layers if isinstance(layer.mixer, SharedCompressedAttention)]


def bytes_in_vllm(weight: Weight) -> int:
    """Bytes of a weight as vLLM 0.33 declares it: MXFP8, experts MXFP4, the rest in 16 or 32 bits."""
    local = weight.name.split(".", 2)[2] if weight.layer is not None else weight.name
    if local.startswith("experts."):
        return weight.elements // 2 + weight.elements // MX_GROUP
    if local in ("router.bias", "sinks") or "_hc." in local:
        return 4 * weight.elements
    wide = weight.group.value in ("embedding", "lm_head", "router", "vision", "norm")
    if weight.group.value == "lookup" or (weight.linear and not weight.wide and not wide):
        return weight.elements + weight.elements // MX_GROUP
    return 2 * weight.elements


def test_weights_are_those_of_the_engine_to_the_byte(shared_data: Path, flash: ModelConfig) -> None:
    path = shared_data / "kv-oracle" / "vllm-0.33.0-deepseek-v41.jsonl"
    row = next(row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()) if row["tp"] == 1)
    # The three marks of images are kept in float32, two bytes more than the tower's other parameters.
    marks = 3 * flash.hidden_size * 2
    assert sum(map(bytes_in_vllm, weights(flash))) + marks == row["param_bytes_per_stage"][0]


def test_the_published_sizes(flash: ModelConfig) -> None:
    counts = parameter_counts(flash)
    lookup = dict(counts.by_group)["lookup"]
    assert lookup == 768_022_850 * 256
    assert round((counts.total - lookup) / 1e9) == 552
    assert counts.active // 10**9 == 16


def test_lookup_tables_stand_apart_from_the_weights_of_a_rank(flash: ModelConfig) -> None:
    published, layers = precision("published", flash), range(len(flash.layers))
    assert rank_lookup_bytes(flash, Layout(), published, layers) == 202_758_032_400
    assert rank_lookup_bytes(flash, Layout(tensor=4), published, layers) == 202_758_032_400 // 4
    assert "lookup" not in rank_weight_bytes(flash, Layout(), published, layers)
    with pytest.raises(InputError, match="24 heads can't be divided among 16 ranks"):
        rank_lookup_bytes(flash, Layout(tensor=16), published, layers)


def spec_counts(row: dict[str, Any]) -> Counter[tuple[str, int, int]]:
    """How many caches the engine keeps, by kind, by tokens of an entry and by elements of it."""
    found: Counter[tuple[str, int, int]] = Counter()
    for spec in row["specs"]:
        fields = dict(re.findall(r"(\w+)=([^,)]+)", spec["spec"]))
        kind = spec["spec"].split("(")[0]
        found[kind, int(fields["tokens_per_state"]), int(fields["head_size"])] += spec["n"]
    return found


def test_layers_keep_what_the_engine_keeps(shared_data: Path, flash: ModelConfig) -> None:
    path = shared_data / "kv-oracle" / "vllm-0.33.0-deepseek-v41.jsonl"
    first = next(
        row
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        if row.get("specs") and row["soc"] == "H100" and not row["num_speculative_tokens"] and row["pp"] == 1
    )
    kept: Counter[tuple[str, int, int]] = Counter()
    for mixer in mixers(flash):
        kept["SlidingWindowMLASpec", 1, mixer.head_dim] += 1
        if mixer.owns_entries:
            kept["MLAAttentionSpec", mixer.ratio, mixer.head_dim] += 1
            # An index key of 8 bits is told with its scale of 4 bytes.
            kept["MLAAttentionSpec", mixer.ratio, mixer.index_dim + 4] += 1
        if mixer.owns_entries and mixer.ratio > 1:
            kept["CircularBufferSpec", 1, 2 * mixer.head_dim] += 1
    assert kept == spec_counts(first)


def test_two_and_a_half_entries_a_token_are_kept_of_all_layers(flash: ModelConfig) -> None:
    logical = engine("logical")
    long = logical_cache(flash, logical, CacheOptions(), 1 << 20)
    assert long.length_bytes == (1 << 20) * 5 * (512 + 128) * 2 // 2
    assert long.window_bytes == 40 * 128 * 512 * 2
    assert long.state_bytes == 3 * 2 * 2 * 512 * 4


def test_layers_read_the_last_source_before_them(flash: ModelConfig) -> None:
    found = mixers(flash)
    assert [mixer.source for mixer in found[:3]] == [None, None, 2]
    assert [mixer.source for mixer in found[19:22]] == [14, 20, 20]
    assert [index for index, mixer in enumerate(found) if mixer.owns_entries] == [2, 8, 14, 20]
    assert [index for index, mixer in enumerate(found) if mixer.indexer] == [2, 8, 14, 20, 24, 28, 32, 36]
    assert [index for index, layer in enumerate(flash.layers) if layer.lookup] == [1, 14]


def test_a_die_of_eight_is_budgeted_without_the_tables(flash: ModelConfig) -> None:
    die = chip("910C")
    result = budget(flash, die, engine("logical"), ServingOptions(8192), Layout(tensor=8), Memory(precision="w8a8"))
    names = [item.name for item in result.items]
    assert "weights: experts" in names
    assert "weights: lookup" not in names
    assert any("lookup tables of" in str(note) for note in result.notes)


def test_stages_that_would_read_across_are_refused(flash: ModelConfig) -> None:
    step_graph(flash, Layout(pipeline=2), ServedStep(Phase.DECODE, 1, 256), stage=1)
    with pytest.raises(InputError, match="layer 10 reads the cache of layer 8, which another stage keeps"):
        step_graph(flash, Layout(pipeline=4), ServedStep(Phase.DECODE, 1, 256), stage=1)


def test_engines_of_before_refuse_it(flash: ModelConfig) -> None:
    with pytest.raises(InputError, match=r"has no class for deepseek_v41"):
        plan_cache(flash, engine("vllm-0.23.0"), ServingOptions(length=4096, caches=CacheOptions(kv="fp8")), 1 << 34)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kv_source_layer_ids": [8, 14, 20]}, "kv_source_layer_ids"),
        ({"kv_source_layer_ids": [2, 8, 14, 40]}, r"kv_source_layer_ids\[3\]"),
        ({"kv_source_layer_ids": [2, 8, 14]}, "kv_source_layer_ids"),
        ({"index_source_layer_ids": [8, 20]}, "index_source_layer_ids"),
        ({"engram_num_embeddings": [1, 2]}, r"engram_num_embeddings\[0\]"),
        ({"compress_ratios": [-1] * 40}, r"compress_ratios\[0\]"),
    ],
)
def test_layers_without_a_source_are_refused(shared_data: Path, change: dict[str, Any], field: str) -> None:
    document = json.loads((shared_data / "configs" / f"{NAME}.json").read_text(encoding="utf-8"))
    document["text_config"] |= change
    with pytest.raises(InputError, match=f"field text_config.{field}"):
        load_config(document)
