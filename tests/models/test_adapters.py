"""What adapters beside some projections train and keep, as PEFT has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.training.adapters import adapter_elements
from memplan.models.training.memory import training_memory
from memplan.models.training.phases import weights_of
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.saved import saved_tensors
from memplan.models.training.states import state_bytes
from memplan.models.training.step_recipe import Recipe
from memplan.requests.recipe_request import RecipeRequest

RECIPE = Recipe(sequence=2048, sharding=Sharding.NONE, lora_rank=8, half_weights=True)
TARGETS = ("q_proj", "v_proj")


@pytest.fixture(scope="module")
def llama() -> ModelConfig:
    sizes = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096}
    return load_config({"model_type": "llama", **sizes, **heads})


def kept(model: ModelConfig, recipe: Recipe) -> dict[tuple[str, str], float]:
    return {(item.part, item.name): item.nbytes for item in saved_tensors(model, model.layers[-1], Layout(), recipe)}


def test_adapters_have_as_many_parameters_as_peft_says(llama: ModelConfig) -> None:
    """Of Llama 7B with rank 8: beside all projections, and beside queries and values alone."""
    spans = (range(len(llama.layers)),)
    assert adapter_elements(llama, Layout(), spans, RECIPE) == (19_988_480, 0)
    assert adapter_elements(llama, Layout(), spans, replace(RECIPE, lora_targets=TARGETS)) == (4_194_304, 0)


def test_projections_that_are_one_in_megatron_share_one_input_matrix(llama: ModelConfig) -> None:
    spans = (range(len(llama.layers)),)
    joined = adapter_elements(llama, Layout(), spans, replace(RECIPE, half_weights=False))[0]
    assert 19_988_480 - joined == 8 * 32 * 3 * 4096


def test_fused_layers_have_one_adapter_as_peft_says() -> None:
    """
    Of Phi-3-mini with rank 16 beside all four layers, whose count PEFT prints as 25,165,824 trainable parameters.

    Went wrong once: queries, keys and values had a matrix from their input each.
    """
    sizes = {"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096}
    phi = load_config({"model_type": "phi3", **sizes, **heads})
    asked = RecipeRequest(
        lora_rank=16, lora_targets="qkv_proj,o_proj,gate_up_proj,down_proj", sharding="none", half_weights=True
    )
    recipe = asked.recipe(2048)
    assert adapter_elements(phi, Layout(), (range(32),), recipe) == (25_165_824, 0)


def test_targets_have_the_names_of_checkpoints() -> None:
    """Went wrong once: those that descriptions of checkpoints were read by were refused here (Mixtral's experts)."""
    asked = RecipeRequest(lora_rank=16, lora_targets="w1,w2,w3,linear_proj", lora_experts=True)
    assert asked.recipe(2048).lora_targets == ("gate_proj", "down_proj", "up_proj", "o_proj")


def test_outputs_of_recurrences_are_split_by_their_inputs(family_models: Mapping[str, ModelConfig]) -> None:
    """Went wrong once: on two ranks the adapter beside `out_proj` split its outputs, as if it were a way in."""
    model = family_models["qwen3_5_text"]
    recipe = replace(RECIPE, lora_targets=("out_proj",))
    one, two = (adapter_elements(model, Layout(tensor=ranks), (range(1),), recipe)[0] for ranks in (1, 2))
    (out, into), rank = layer_shape(model, "out_proj"), RECIPE.lora_rank
    assert (one, two) == (rank * (into + out), rank * (into // 2 + out))


def layer_shape(model: ModelConfig, name: str) -> tuple[int, int]:
    item = next(item for item in weights_of(model, model.layers[0]) if item.own_name == name)
    return item.shape[0], item.shape[1]


def test_nobody_keeps_what_only_products_that_stand_still_read(llama: ModelConfig) -> None:
    """With adapters beside queries and values the feed-forward part keeps what its activation function reads alone."""
    every, few = kept(llama, RECIPE), kept(llama, replace(RECIPE, lora_targets=TARGETS))
    assert set(every) - set(few) == {("norm", "feed-forward norm output"), ("ffn", "activation function")}
    assert sum(every.values()) - sum(few.values()) == 2 * (4096 + 11008)


def test_projections_of_latents_and_heads_read_no_norm(shared_data: Path) -> None:
    """What goes into the products behind the first ones isn't what the norm before attention gives."""
    for name, within, before in (
        ("deepseek-ai--DeepSeek-V3", ("q_b_proj", "kv_b_proj", "o_proj"), "q_a_proj"),
        ("Qwen--Qwen3-Next-80B-A3B-Instruct", ("o_proj",), "q_proj"),
    ):
        model = load_config(shared_data / "configs" / f"{name}.json")
        read = ("norm", "attention norm output")
        assert read not in kept(model, replace(RECIPE, lora_targets=within))
        assert read in kept(model, replace(RECIPE, lora_targets=(*within, before)))


def test_experts_without_adapters_keep_no_tokens(family_models: Mapping[str, ModelConfig]) -> None:
    model = family_models["glm4_moe"]
    beside, without = (kept(model, replace(RECIPE, lora_experts=told)) for told in (True, False))
    gone = {name for part, name in set(beside) - set(without)}
    assert gone == {"dispatched tokens", "activation function", "feed-forward norm output"}


def test_dropout_before_adapters_keeps_a_copy_and_a_mask_of_each(llama: ModelConfig) -> None:
    """
    Queries, keys, values, gate and up read the hidden size, each with a copy of its own.

    Went wrong once: what is copied was taken to be kept as well, but for attention's output nothing has need of it.
    """
    dropped = replace(RECIPE, lora_dropout=True)
    more = sum(kept(llama, dropped).values()) - sum(kept(llama, RECIPE).values())
    assert more == 3 * (6 * 4096 + 11008) - 2 * (2 * 4096 + 11008)
    with pytest.raises(InputError, match="with --lora-rank"):
        replace(RECIPE, lora_rank=0, lora_dropout=True)


def test_published_mixture(shared_data: Path) -> None:
    """Each pair of token and expert has a copy where experts have adapters, one of gate and up together."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-30B-A3B.json")
    recipe = replace(RECIPE, lora_experts=True)
    dropped, plain = kept(model, replace(recipe, lora_dropout=True)), kept(model, recipe)
    of_experts = sum(nbytes for (part, _), nbytes in dropped.items() if part == "experts")
    before = sum(nbytes for (part, _), nbytes in plain.items() if part == "experts")
    assert of_experts - before == (3 - 2) * 8 * (2048 + 768)


@pytest.mark.parametrize(
    ("targets", "single", "measured"),
    [
        ("q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", False, (21_032, 15_136, 11_288)),
        ("q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", True, (34_344, 24_864, 17_688)),
        ("q_proj,v_proj", False, (16_936, 12_320, 8_984)),
        ("q_proj,v_proj", True, (20_008, 14_624, 10_520)),
        ("gate_proj,up_proj,down_proj", False, (20_008, 14_368, 10_776)),
        ("gate_proj,up_proj,down_proj", True, (26_152, 18_720, 14_104)),
    ],
)
def test_a_layer_with_adapters_keeps_what_autograd_keeps(targets: str, single: bool, measured: tuple[int, ...]) -> None:
    """
    Bytes a token of a layer of PyTorch with PEFT's adapters, counted on a CPU (PyTorch 2.13), but for cosines and
    sines, which layers share, and what adapters have between their two products; each row of attention has one
    statistic.
    """
    names = tuple(targets.split(","))
    recipe = replace(RECIPE, lora_targets=names, lora_float32=single, norms_in_steps=True, silu_in_steps=True)
    for (hidden, heads, kv_heads, head, inner), nbytes in zip(
        ((512, 8, 2, 64, 1536), (384, 6, 3, 64, 1024), (256, 4, 4, 32, 896)), measured, strict=True
    ):
        model = load_config({
            "model_type": "llama", "num_hidden_layers": 1, "vocab_size": 1024, "hidden_size": hidden,
            "intermediate_size": inner, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "head_dim": head, "max_position_embeddings": 256,
        })  # fmt: skip
        apart = {"cosines and sines of queries and keys", "softmax statistics"}
        found = sum(nbytes for (_, name), nbytes in kept(model, recipe).items() if name not in apart)
        assert found + 4 * heads == nbytes


def test_adapters_in_float32_have_states_of_their_own(llama: ModelConfig) -> None:
    """16 B each beside weights of two."""
    half, single = (
        training_memory(llama, Layout(), replace(RECIPE, lora_float32=told)).parts for told in (False, True)
    )
    for name in ("weights", "gradients", "optimizer"):
        sizes = [next(part.nbytes for part in parts if part.name == name) for parts in (half, single)]
        assert sizes[1] == 2 * sizes[0]
    with pytest.raises(InputError, match="--half-weights"):
        replace(RECIPE, half_weights=False, lora_float32=True)


def test_moments_in_eight_bits_have_a_scale_for_every_block() -> None:
    plain, small = replace(RECIPE, lora_rank=0), replace(RECIPE, lora_rank=0, byte_moments=True)
    assert state_bytes(plain, 1) == (2, 2, 4)
    assert state_bytes(small, 1) == (2, 2, 2 * (1 + 4 / 256))
    with pytest.raises(InputError, match="stays on the device"):
        replace(small, swap_optimizer=True, half_weights=False)
