"""Training in float32, and a softmax in float32 that is kept beside its 16-bit copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.gathering import gathered_weights
from memplan.models.training.memory import training_memory
from memplan.models.training.recipe_choices import Loss, Sharding
from memplan.models.training.saved import saved_tensors
from memplan.models.training.states import held_elements, static_parts
from memplan.models.training.step_recipe import Recipe

SMALL = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 704,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 512,
    "rms_norm_eps": 1e-6, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
EAGER = Recipe(
    sequence=128, micro_batch=2, norms_in_steps=True, silu_in_steps=True, attention_in_steps=True, softmax_in_steps=True
)


@pytest.fixture(scope="module")
def small() -> ModelConfig:
    return load_config(SMALL)


def kept(model: ModelConfig, recipe: Recipe) -> float:
    return sum(item.nbytes for item in saved_tensors(model, model.layers[0], Layout(), recipe))


@pytest.mark.parametrize(
    ("float32", "measured"), [(True, {128: 25608.0, 256: 29704.0}), (False, {128: 17928.0, 256: 24072.0})]
)
def test_a_layer_keeps_what_autograd_keeps_of_transformers(
    small: ModelConfig, float32: bool, measured: dict[int, float]
) -> None:
    """
    Bytes a token between two and four layers of LlamaForCausalLM with eager attention (PyTorch 2.13, transformers 5.20)
    on a CPU: a softmax is met to the byte, the whole within 2 %.
    """
    found = {length: kept(small, replace(EAGER, sequence=length, float32=float32)) for length in measured}
    assert found[256] - found[128] == measured[256] - measured[128]
    for length, nbytes in measured.items():
        assert found[length] == pytest.approx(nbytes, rel=0.02)


def test_dropout_keeps_no_copy_of_the_softmax(small: ModelConfig) -> None:
    """Its mask is enough for it: 4 + 1 + 2 B a pair, where the fused kernel keeps 2 + 1 + 2."""
    dropped = replace(EAGER, dropout=True)
    fused = replace(dropped, softmax_in_steps=False)
    assert kept(small, dropped) - kept(small, fused) == 2 * 8 * 128


def test_float32_weights_have_no_copies(small: ModelConfig) -> None:
    """16 B a parameter, of which Adam's 8 are divided by the distributed optimiser."""
    spans = (range(4),)
    dense, _ = held_elements(small, Layout(data=4), spans)
    recipe = Recipe(sequence=128, float32=True)
    for sharding, each in ((Sharding.NONE, 16), (Sharding.DISTRIBUTED, 4 + 4 + 2)):
        _, moments, parts = static_parts(small, Layout(data=4), replace(recipe, sharding=sharding), spans)
        assert sum(part.nbytes for part in parts) == each * dense
        assert moments == (8 if sharding is Sharding.NONE else 2) * dense


def test_float32_logits_are_their_own_copy(small: ModelConfig) -> None:
    logits = 128 * 512
    for loss, each in ((Loss.IN_PLACE, 4), (Loss.COPIED, 8), (Loss.EAGER, 12)):
        recipe = Recipe(sequence=128, float32=True, loss=loss)
        held = dict(training_memory(small, Layout(), recipe).phases)["loss"]
        fused = dict(training_memory(small, Layout(), replace(recipe, loss=Loss.FUSED)).phases)["loss"]
        assert held - fused == each * logits


def test_weights_in_eight_bits_are_gathered_as_they_are(small: ModelConfig) -> None:
    """Megatron-FSDP without --bf16: embedding and head in 4 B, products' weights in one and their gradients in two."""
    spans, layout = (range(4),), Layout(data=4)
    recipe = Recipe(sequence=128, float32=True, sharding=Sharding.FSDP, fp8=True, fp8_weights=True, half_gradients=True)
    dense, _ = held_elements(small, layout, spans)
    products = 4 * (256 * (256 + 2 * 128) + 256 * 256 + 3 * 256 * 704)
    other = dense - products
    _, _, parts = static_parts(small, layout, recipe, spans)
    assert sum(part.nbytes for part in parts) == (20 * other + 15 * products) // 4
    assert gathered_weights(small, layout, recipe, spans, layers=4).nbytes == 4 * other + products


def test_what_float32_does_not_go_with_is_refused(small: ModelConfig) -> None:
    refused: tuple[dict[str, Any], ...] = (
        {"half_gradients": True}, {"reuse_fp32": True}, {"sharding": Sharding.ZERO1}, {"lora_rank": 8},
        {"expert_capacity": 2.0},
    )  # fmt: skip
    for words in refused:
        with pytest.raises(InputError, match="not modelled"):
            replace(Recipe(sequence=128, float32=True), **words)
    with pytest.raises(InputError, match="--attention-in-steps"):
        Recipe(sequence=128, softmax_in_steps=True)
