"""Feed-forward parts made anew as a whole keep their input: counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import TrainingMemory, training_memory
from memplan.models.training.recipe_choices import Loss
from memplan.models.training.saved import saved_tensors
from memplan.models.training.saved_item import made_anew
from memplan.models.training.step_recipe import Recipe

SEQUENCE, HIDDEN, DENSE, EXPERT, SHARED, EXPERTS, CHOSEN = 256, 128, 448, 96, 160, 16, 4
RECIPE = Recipe(sequence=SEQUENCE)
TOKENS = SEQUENCE
DENSE_ANEW = replace(RECIPE, recompute_dense=True)
EXPERTS_ANEW = replace(RECIPE, recompute_experts=True)
SHARED_ANEW = replace(RECIPE, recompute_shared=True)
_CONFIG = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": HIDDEN, "vocab_size": 1024,
    "intermediate_size": DENSE, "moe_intermediate_size": EXPERT, "num_hidden_layers": 3, "first_k_dense_replace": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 64, "kv_lora_rank": 32, "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": EXPERTS, "num_experts_per_tok": CHOSEN,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "moe_layer_freq": 1, "max_position_embeddings": SEQUENCE,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    """A dense layer and two of experts, with a shared one."""
    return load_config({**_CONFIG, "n_shared_experts": 2, "moe_intermediate_size": SHARED // 2})


def part(memory: TrainingMemory, name: str) -> int:
    return sum(each.nbytes for each in memory.parts if each.name == name)


def kept(model: ModelConfig, recipe: Recipe, layer: int, layout: Layout | None = None) -> float:
    """Bytes a token that a layer keeps until its way back."""
    items = saved_tensors(model, model.layers[layer], layout or Layout(), recipe)
    return sum(item.nbytes for item in items if not made_anew(item, recipe))


def test_a_dense_part_made_anew_keeps_its_input(model: ModelConfig) -> None:
    anew = DENSE_ANEW
    # Gate and up, and what the activation function makes of them, in 16 bits.
    assert kept(model, RECIPE, 0) - kept(model, anew, 0) == 2 * 3 * DENSE
    assert kept(model, RECIPE, 1) == kept(model, anew, 1)
    # TransformerEngine's norm is within: its output and its statistics go as well.
    fused, within = (replace(recipe, transformer_engine=True) for recipe in (RECIPE, anew))
    assert kept(model, fused, 0) - kept(model, within, 0) == 2 * 3 * DENSE + 2 * HIDDEN + 4


def test_experts_made_anew_keep_their_input(model: ModelConfig) -> None:
    width = SHARED // 2
    router = 4 * (EXPERTS + 2 * CHOSEN)
    routed = CHOSEN * 2 * (HIDDEN + 3 * width + HIDDEN)
    shared = 2 * 3 * SHARED
    everything = kept(model, RECIPE, 1) - kept(model, EXPERTS_ANEW, 1)
    assert everything == router + routed + shared
    alone = kept(model, RECIPE, 1) - kept(model, SHARED_ANEW, 1)
    assert alone == shared
    both = replace(RECIPE, recompute_experts=True, recompute_shared=True)
    assert kept(model, both, 1) == kept(model, EXPERTS_ANEW, 1)


def test_tensor_parallel_experts_are_made_anew_of_what_they_were_sent(model: ModelConfig) -> None:
    """Two ranks that split every expert, and bring their tokens along for each other."""
    layout = Layout(tensor=2, data=2, expert=2, expert_tensor=2)
    recipe = replace(RECIPE, sequence_parallel=True)
    width = SHARED // 2
    less = kept(model, recipe, 1, layout) - kept(model, replace(recipe, recompute_experts=True), 1, layout)
    router = 4 * (EXPERTS + 2 * CHOSEN) / 2
    assert less == router + CHOSEN * 2 * (2 * HIDDEN + 3 * width / 2) + 2 * 3 * SHARED / 2


def test_what_is_made_anew_is_there_for_one_layer_at_a_time(model: ModelConfig) -> None:
    plain, anew = (training_memory(model, Layout(), recipe) for recipe in (RECIPE, EXPERTS_ANEW))
    less = kept(model, RECIPE, 1) - kept(model, EXPERTS_ANEW, 1)
    assert part(plain, "activations") - part(anew, "activations") == 2 * TOKENS * less
    backward = dict(plain.phases)["backward of a layer"] - dict(anew.phases)["backward of a layer"]
    assert backward == TOKENS * less  # Of two layers one is there again.


def test_graphs_say_that_they_lack_such_parts(model: ModelConfig) -> None:
    for recipe in (DENSE_ANEW, EXPERTS_ANEW, SHARED_ANEW):
        with pytest.raises(InputError, match="made anew as a whole are in no graph"):
            training_graph(model, Layout(), recipe)


def test_transformer_engines_loss_has_no_copy_of_the_logits(model: ModelConfig) -> None:
    """Gradient in the logits' place: 2 B of each, of a further token's logits as well; they wait in 16 bits."""

    def logits(recipe: Recipe) -> int:
        memory = training_memory(model, Layout(), replace(recipe, sequence=65536))
        return dict(memory.phases)["loss"] - part(memory, "activations")

    entries = 65536 * 1024
    assert logits(RECIPE) - logits(replace(RECIPE, loss=Loss.TE)) == 4 * entries
