"""Which scheme is read of a checkpoint, by what ModelSlim, Model Optimizer and older files say in other places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.hardware import chip
from memplan.kv.served_weights import served_weights
from memplan.models import ModelConfig, load_config
from memplan.models.precision import PUBLISHED, precision
from memplan.models.steps.options import arithmetic
from memplan.models.weight_shapes import WeightGroup
from memplan.requests.plan_request import PlanRequest

DENSE: dict[str, Any] = {
    "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
MINDIE = {"kv_quant_type": None, "fa_quant_type": None, "group_size": 0}
"""What ModelSlim writes as `quantization_config` for MindIE, beside `quantize`."""
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def in_folder(folder: Path, description: object, name: str, **more: object) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps({**DENSE, **more}), "utf-8")
    (folder / name).write_text(json.dumps(description), "utf-8")
    return load_config(folder)


@pytest.mark.parametrize(
    ("word", "like"),
    [
        ("w8a8", "w8a8"), ("w8a8_dynamic", "w8a8"), ("W4A8_DYNAMIC", "w4a8"), ("w8a8_mxfp8", "mxfp8"),
        ("w4a8_mxfp", "mxfp8-mxfp4"),
    ],
)  # fmt: skip
def test_the_word_in_config_json_is_taken(word: str, like: str) -> None:
    """Went wrong once: a config.json as ModelSlim writes it for MindIE was refused, or counted in 16 bits."""
    model = load_config({**DENSE, "quantize": word, "quantization_config": MINDIE})
    published, planned = precision(PUBLISHED, model), precision(like, model)
    assert (published.linear, published.expert, published.wide) == (planned.linear, planned.expert, planned.wide)
    assert str(published.source) == f"quantize of the model's config.json ({word})"


@pytest.mark.parametrize(("kind", "size"), [("W4A4_MXFP4", 4.25), ("W4A4_FLATQUANT_DYNAMIC", 4), ("W8A16", 8)])
def test_kinds_without_a_recipe_have_their_bits(tmp_path: Path, kind: str, size: float) -> None:
    """Went wrong once: such weights were counted in 16 bits, without a word."""
    plain = {f"model.layers.{layer}.self_attn.o_proj.weight": "FLOAT" for layer in range(2)}
    model = in_folder(tmp_path, {"model_quant_type": kind, **plain}, "quant_model_description.json")
    scheme = precision(PUBLISHED, model)
    assert scheme.linear.size(1024, 0) == 1024 * size / 8
    assert scheme.wide == ("o_proj",)


def test_a_description_names_fused_layers_and_those_of_other_frameworks(tmp_path: Path) -> None:
    """Went wrong once: adapters knew these names and descriptions others, each by a table of its own."""
    names = ("self_attn.qkv_proj", "mlp.w2")
    plain = {f"model.layers.{layer}.{name}.weight": "FLOAT" for layer in range(2) for name in names}
    model = in_folder(tmp_path, {"model_quant_type": "W8A16", **plain}, "quant_model_description.json")
    assert {"q_proj", "k_proj", "v_proj", "down_proj"} <= set(precision(PUBLISHED, model).wide)


def test_a_description_counts_before_what_the_source_left_in_config_json(tmp_path: Path) -> None:
    """Went wrong once: the FP8 scheme of the model that was quantised was taken, as engines on NPUs don't."""
    kind = {"model_quant_type": "W8A8_DYNAMIC"}
    model = in_folder(tmp_path, kind, "quant_model_description.json", quantization_config=FP8)
    assert precision(PUBLISHED, model).linear == precision("w8a8", model).linear


def test_the_description_for_mindie_has_the_kind_in_its_name(tmp_path: Path) -> None:
    model = in_folder(tmp_path, {"model_quant_type": "W8A8"}, "quant_model_description_w8a8.json")
    assert model.quantization is not None
    assert model.quantization.recipe == "w8a8"


@pytest.mark.parametrize("scheme", [{}, MINDIE])
def test_a_scheme_that_says_nothing_of_weights_is_none(scheme: dict[str, object]) -> None:
    assert load_config({**DENSE, "quantization_config": scheme}).quantization is None


def test_a_float_description_leaves_what_config_json_says(tmp_path: Path) -> None:
    kind = {"model_quant_type": "FLOAT"}
    model = in_folder(tmp_path, kind, "quant_model_description.json", quantization_config=FP8)
    assert model.quantization is not None
    assert model.quantization.method == "fp8"


GROUPS = {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}


@pytest.mark.parametrize(
    ("scheme", "method"),
    [
        ({"producer": {"name": "modelopt"}, "quant_algo": "FP8"}, "modelopt"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "modelopt"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "modelopt"),
        ({"quant_method": "FP8"}, "fp8"),
        ({"quant_method": "compressed_tensors", "config_groups": GROUPS}, "compressed-tensors"),
    ],
)
def test_other_spellings_of_a_method_are_read_as_engines_do(scheme: dict[str, object], method: str) -> None:
    """Went wrong once: `None is not supported` for a file of Model Optimizer that only says who made it."""
    quantization = load_config({**DENSE, "quantization_config": scheme}).quantization
    assert quantization is not None
    assert quantization.method == method


def test_the_older_place_of_compressed_tensors_is_read() -> None:
    scheme = {"quant_method": "compressed-tensors", "config_groups": GROUPS}
    quantization = load_config({**DENSE, "compression_config": scheme}).quantization
    assert quantization is not None
    assert quantization.linear_bits == 8


def weight_and_activation(scheme: dict[str, object]) -> tuple[str, str]:
    model = load_config({**DENSE, "quantization_config": scheme})
    form = precision(PUBLISHED, model).linear
    types = arithmetic(form, WeightGroup.ATTENTION, model, PUBLISHED)
    return types.weight, types.activation


INT8 = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}}
BOTH = {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}
FLOATS = {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8, "type": "float"}}


@pytest.mark.parametrize(
    ("scheme", "types"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("int4", "bfloat16")),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, ("int8", "bfloat16")),
        (INT8, ("int8", "bfloat16")),
        ({**INT8, "config_groups": {"g": BOTH}}, ("int8", "int8")),
        ({**INT8, "config_groups": {"g": FLOATS}}, ("float8_e4m3", "float8_e4m3")),
        (FP8, ("float8_e4m3", "float8_e4m3")),
    ],
)
def test_products_multiply_what_a_scheme_keeps(scheme: dict[str, object], types: tuple[str, str]) -> None:
    """Went wrong once: GPTQ and AWQ were floats with 8-bit activations, and all compressed tensors weights alone."""
    assert weight_and_activation(scheme) == types


def test_a_planned_step_says_what_the_chip_does_not_take(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**DENSE, "quantization_config": FP8}), "utf-8")
    for chip_name, said in (("910B3", True), ("Ascend950DT_9572", False)):
        made = PlanRequest(path, phase="decode", chip=chip_name, context=256).plan()
        assert any("does not take: serve them as w8a8 or w4a8" in note for note in made.notes) is said


@pytest.mark.parametrize(
    ("said", "weights"),
    [
        ({"quantize": "w8a8_mxfp8"}, "fp8"),
        ({"quantize": "w4a4_mxfp4"}, "fp4"),
        ({"quantization_config": FP8}, "fp8"),
        ({"quantization_config": {**INT8, "config_groups": {"g": FLOATS}}}, "fp8"),
        ({"quantization_config": {**INT8, "config_groups": {"g": BOTH}}}, None),
        ({"quantization_config": INT8}, None),
        ({"quantize": "w8a8"}, None),
    ],
)  # fmt: skip
def test_floats_that_a_cube_does_not_take_are_said_whatever_the_method(
    said: dict[str, Any], weights: str | None
) -> None:
    """Went wrong once: floats of compressed-tensors, and ModelSlim's of 4 bits, were planned without a word."""
    model = load_config({**DENSE, **said})
    note = served_weights(model, chip("910B3"), PUBLISHED).note
    assert (None if note is None else note.values[0]) == weights
    assert served_weights(model, chip("Ascend950DT_9572"), PUBLISHED).note is None


@pytest.mark.parametrize(
    ("form", "weights", "size"),
    [
        ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "group_size": 16}, 4.5),
        ("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "group_size": 32}, 4.25),
        ("pack-quantized", {"num_bits": 4, "type": "int", "group_size": 32}, 4.5),
        ("", {"num_bits": 4, "type": "float", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"}, 4.5),
    ],
)
@pytest.mark.parametrize("within", [True, False])
def test_scales_have_the_bits_of_their_format(form: str, weights: dict[str, object], size: float, within: bool) -> None:
    """Went wrong once: scales of nvfp4 were counted in 16 bits, those of a format that a group names too."""
    group, outside = ({"format": form}, {}) if within else ({}, {"format": form})
    scheme = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": weights, **group}}, **outside}
    model = load_config({**DENSE, "quantization_config": scheme})
    assert precision(PUBLISHED, model).linear.size(1024, 0) == 1024 * size / 8
