"""Reading `config.json`: every published file, exact parameter counts, and errors that name the field."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config, parameter_counts, supported_families
from memplan.models.mixers.compressed_attention import CompressedAttention
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.mixers.recurrent_mixers import GatedDeltaNet

# Totals of the reference implementations (transformers 5.23.0 on the meta device), for models whose counts the shared
# data does not hold. The decoder first, then the vision tower where the model has one.
DECODERS = {
    "Qwen--Qwen3-0.6B": 596_049_920,
    "Qwen--Qwen3-1.7B": 1_720_574_976,
    "Qwen--Qwen3-8B": 8_190_735_360,
    "Qwen--Qwen3.5-35B-A3B": 34_660_610_688,
    "deepseek-ai--DeepSeek-R1": 671_026_404_352,
    "meta-llama--Meta-Llama-3.1-70B": 70_553_706_496,
    "meta-llama--Meta-Llama-3.1-405B": 405_853_388_800,
    "meta-llama--Llama-4-Maverick-17B-128E-Instruct": 400_711_848_960,
    "mistralai--Mixtral-8x7B-v0.1": 46_702_792_704,
    "moonshotai--Kimi-K2.5": 1_026_408_209_408,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31_577_937_344,
    "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": 549_308_968_960,
    "nvidia--Nemotron-H-56B-Base-8K": 56_324_350_464,
    "zai-org--GLM-5.2": 743_377_000_704,
}
TOWERS = {
    "Qwen--Qwen3-VL-2B-Instruct": 406_957_056,
    "Qwen--Qwen3-VL-30B-A3B-Instruct": 538_631_408,
    "Qwen--Qwen3-VL-235B-A22B-Instruct": 576_388_336,
    "Qwen--Qwen3.5-397B-A17B": 456_010_480,
    "moonshotai--Kimi-K2.5": 471_143_920,
}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}


def test_every_published_config_loads(published_configs: list[Path]) -> None:
    assert published_configs
    for path in published_configs:
        model = load_config(path)
        assert model.name == path.stem
        assert model.layers
        assert parameter_counts(model).total > 0


@pytest.mark.parametrize(
    ("scheme", "bits", "kv"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4, None),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, None),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8, None),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, 4, "fp8_e4m3"),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            4,
            "fp8_e4m3",
        ),
        (
            {"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}},
            8,
            "nvfp4",
        ),
    ],
)
def test_quantisation_methods_are_read(scheme: dict[str, Any], bits: int, kv: str | None) -> None:
    found = load_config(LLAMA | {"quantization_config": scheme}).quantization
    assert found is not None
    assert (found.linear_bits, found.kv) == (bits, kv)


def test_parameters_are_counted_exactly(shared_data: Path) -> None:
    rows = json.loads((shared_data / "kv-oracle" / "parameter-counts.json").read_text(encoding="utf-8"))
    compared = 0
    for row in rows:
        path = shared_data / "configs" / f"{row['model']}.json"
        if path.is_file():
            counts = parameter_counts(load_config(path))
            found = (counts.total, counts.experts, counts.embedding_and_head, counts.active)
            assert found == (row["params"], row["experts"], row["emb_head"], row["active"]), row["model"]
            compared += 1
    assert compared >= 14


@pytest.mark.parametrize(("model", "total"), DECODERS.items())
def test_parameters_equal_the_reference_implementation(shared_data: Path, model: str, total: int) -> None:
    assert parameter_counts(load_config(shared_data / "configs" / f"{model}.json")).total == total


@pytest.mark.parametrize(("model", "total"), TOWERS.items())
def test_parameters_of_vision_towers(shared_data: Path, model: str, total: int) -> None:
    config = load_config(shared_data / "configs" / f"{model}.json")
    counts = parameter_counts(config, vision=True)
    assert counts.total - parameter_counts(config).total == total == dict(counts.by_group)["vision"]


def test_glm_5_without_shared_indexers_and_a_smaller_gpt_oss(shared_data: Path) -> None:
    glm = json.loads((shared_data / "configs" / "zai-org--GLM-5.2.json").read_text(encoding="utf-8"))
    del glm["indexer_types"]
    assert parameter_counts(load_config(glm)).total == 743_911_199_232
    oss = json.loads((shared_data / "configs" / "openai--gpt-oss-120b.json").read_text(encoding="utf-8"))
    oss |= {"num_hidden_layers": 24, "num_local_experts": 32}
    assert parameter_counts(load_config(oss)).total == 20_914_757_184


def test_layers_of_v4_follow_its_ratios_cut_to_the_decoder(shared_data: Path) -> None:
    def kinds(name: str) -> list[int]:
        model = load_config(shared_data / "configs" / f"deepseek-ai--DeepSeek-V4-{name}.json")
        ratios = [layer.mixer.ratio for layer in model.layers if isinstance(layer.mixer, CompressedAttention)]
        return [ratios.count(0), ratios.count(4), ratios.count(128)]

    assert kinds("Pro") == [0, 30, 31]
    assert kinds("Flash") == [2, 21, 20]
    longer = json.loads((shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Flash.json").read_text(encoding="utf-8"))
    plain = load_config(longer)
    longer["compress_ratios"] += [0, 0]
    assert load_config(longer).layers == plain.layers


def test_attention_of_hybrids(shared_data: Path) -> None:
    def mixers(name: str, kind: type) -> list[Any]:
        model = load_config(shared_data / "configs" / f"{name}.json")
        return [layer.mixer for layer in model.layers if isinstance(layer.mixer, kind)]

    gemma = mixers("google--gemma-3-27b-it", GroupedAttention)
    assert [mixer.window for mixer in gemma[:6]] == [1024] * 5 + [None]
    scout = mixers("meta-llama--Llama-4-Scout-17B-16E-Instruct", GroupedAttention)
    assert [mixer.chunk for mixer in scout[:4]] == [8192] * 3 + [None]
    assert len(mixers("Qwen--Qwen3-Next-80B-A3B-Instruct", GatedDeltaNet)) == 36
    shared = [mixer.shared_indexer is not None for mixer in mixers("zai-org--GLM-5.2", LatentAttention)]
    assert (shared.count(False), shared.count(True)) == (21, 57)


def test_a_default_that_fills_a_gap_is_named_with_its_source(shared_data: Path) -> None:
    notes = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json").notes
    assert any("vocab_size = 151936" in note and "Qwen3NextConfig" in note for note in notes)


@pytest.mark.parametrize("field", [name for name in LLAMA if name not in ("model_type", "tie_word_embeddings")])
def test_a_missing_field_is_named_with_its_family(field: str) -> None:
    document = {name: value for name, value in LLAMA.items() if name != field}
    with pytest.raises(InputError, match=rf"field {field}: is missing; the llama family needs it"):
        load_config(document)


def _refusal(document: dict[str, Any]) -> str | None:
    try:
        load_config(document)
    except InputError as error:
        return str(error)
    return None


def test_every_field_a_published_config_needs_is_named_when_it_is_gone(published_configs: list[Path]) -> None:
    """Leave out one field after the other of every file: it loads just as well, or the error names that field."""
    for path in published_configs:
        document = json.loads(path.read_text(encoding="utf-8"))
        holder = document.get("text_config", document)
        for field in list(holder):
            value = holder.pop(field)
            refusal = _refusal(document)
            # Gemma-4's kinds of layers follow from the list or from the pattern; the latter is asked for.
            assert refusal is None or field in refusal or field == "layer_types", (path.name, field, refusal)
            holder[field] = value


def test_an_unknown_model_type_names_the_nearest_family() -> None:
    with pytest.raises(InputError, match=r"field model_type: 'qwen3_mo' .* nearest supported family is 'qwen3_moe'"):
        load_config(LLAMA | {"model_type": "qwen3_mo"})
    with pytest.raises(InputError, match="field model_type: is missing"):
        load_config({"hidden_size": 1})


def test_a_misspelt_field_is_pointed_at() -> None:
    document = {**LLAMA, "num_hidden_layer": 32}
    del document["num_hidden_layers"]
    with pytest.raises(InputError, match="the file has 'num_hidden_layer'"):
        load_config(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "4096"}, "field hidden_size: must be a whole number"),
        ({"hidden_size": True}, "field hidden_size: must be a whole number"),
        ({"hidden_size": -1}, "field hidden_size: must be a whole number from 1"),
        ({"num_hidden_layers": 10**9}, "field num_hidden_layers: must be at most"),
        ({"num_key_value_heads": 5}, "field num_key_value_heads: 5 does not divide num_attention_heads = 32"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3}, "3 does not divide hidden_size"),
        ({"intermediate_size": 10**12}, "field intermediate_size: must be at most"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config.quant_method: 'bits"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(LLAMA | change)


_NUMBERS = (0, -1, 3, 10**6, 10**12, 2**70, 3.5, float("inf"))
ODD_VALUES: tuple[Any, ...] = (None, True, *_NUMBERS, "x", [], {}, [None], {"a": 1}, [[1]])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_stands_in_a_field_the_answer_is_a_model_or_one_clear_error(
    published_configs: list[Path], seed: int
) -> None:
    draw = random.Random(seed)
    for _ in range(120):
        document = json.loads(draw.choice(published_configs).read_text(encoding="utf-8"))
        holder = document.get("text_config", document) if draw.random() < 0.8 else document
        while True:
            field = draw.choice(list(holder))
            if not isinstance(holder[field], dict) or draw.random() < 0.5:
                break
            holder = holder[field]
        holder[field] = draw.choice(ODD_VALUES)
        refusal = _refusal(document)
        assert refusal is None or "\n" not in refusal
        if refusal is None:
            assert parameter_counts(load_config(document), mtp=True, vision=True).total > 0


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder / "absent.json",
        lambda folder: _write(folder / "config.json", b""),
        lambda folder: _write(folder / "config.json", b"\x00\xff" * 100),
        lambda folder: _write(folder / "config.json", b"[1, 2]"),
        lambda folder: _write(folder / "config.json", b"[" * 100_000),
        lambda folder: folder,
    ],
    ids=["absent", "empty", "random", "list", "nested", "folder"],
)
def test_a_file_that_is_no_config_gives_one_line_naming_it(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(make(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_read_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert load_config(tmp_path).name == tmp_path.name
    assert load_config(tmp_path) == load_config(tmp_path / "config.json")


def test_a_folder_without_a_config_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no config\.json in this folder; name a model's config\.json"):
        load_config(tmp_path)


def test_families_are_listed() -> None:
    assert {"llama", "deepseek_v4", "qwen3_5_moe", "nemotron_h"} <= set(supported_families())
