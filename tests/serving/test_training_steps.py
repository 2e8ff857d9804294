"""Steps whose experts, attention, norms and updates have no fused kernels: what is launched in their place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.cost import machine
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.serving import StageParts, training_time
from memplan.serving.training_steps import OneByOne

_CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16",
    "tie_word_embeddings": False, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 768,
    "decoder_sparse_step": 1, "norm_topk_prob": True,
}  # fmt: skip
_RECIPE = Recipe(sequence=2048, sharding=Sharding.FSDP2)


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    return load_config(_CONFIG)


def stage(model: ModelConfig, recipe: Recipe, engine: str | None = None) -> StageParts:
    return training_time(model, Layout(data=4), recipe, chip("910B3"), engine=engine).stages[0]


def test_fully_shard_is_pytorchs_and_all_else_megatrons(model: ModelConfig) -> None:
    for sharding in Sharding:
        found = training_time(model, Layout(data=4), replace(_RECIPE, sharding=sharding), chip("910B3"))
        assert found.engine == ("pytorch" if sharding is Sharding.FSDP2 else "megatron")


def test_experts_one_by_one_leave_the_device_idle(model: ModelConfig) -> None:
    """Each is looked for, taken out, multiplied and added back, both ways, and has three parameters of its own."""
    grouped, alone = (stage(model, replace(_RECIPE, grouped_experts=grouped)) for grouped in (True, False))
    layers, experts = 2, _CONFIG["num_experts"]
    assert isinstance(experts, int)
    assert alone.launches - grouped.launches > layers * experts * (8 + 12 + 3 * 10)
    assert alone.host_ns > 3 * grouped.host_ns
    assert alone.communication_ns == pytest.approx(grouped.communication_ns, rel=0.3)


def test_a_run_of_experts_one_by_one_multiplies_as_much(model: ModelConfig) -> None:
    """Megatron has a product an expert and everything else as with grouped ones."""
    recipe = replace(_RECIPE, sharding=Sharding.DISTRIBUTED)
    grouped, alone = (stage(model, replace(recipe, grouped_experts=grouped)) for grouped in (True, False))
    assert alone.launches > grouped.launches
    assert 1 <= alone.compute_ns / grouped.compute_ns < 1.5


@pytest.mark.parametrize(
    "recipe", [replace(_RECIPE, attention_in_steps=True), replace(_RECIPE, norms_in_steps=True)], ids=["pairs", "norms"]
)
def test_what_has_no_fused_kernel_takes_longer(model: ModelConfig, recipe: Recipe) -> None:
    fused, steps = stage(model, _RECIPE), stage(model, recipe)
    assert steps.launches > fused.launches
    assert steps.compute_ns > fused.compute_ns


def test_an_optimiser_that_is_not_fused_reads_states_again_and_again(model: ModelConfig) -> None:
    fused, steps = stage(model, _RECIPE, "megatron"), stage(model, _RECIPE)
    assert steps.launches > fused.launches
    assert steps.compute_ns > fused.compute_ns


@pytest.mark.parametrize(("gated", "matrices"), [(True, 3), (False, 2)])
@pytest.mark.parametrize("engine", ["megatron", "pytorch"])
def test_an_expert_has_as_many_matrices_as_its_model_says(
    model: ModelConfig, engine: str, gated: bool, matrices: int
) -> None:
    """One product of each forward, two backward; an optimiser in steps works on each alone."""
    layers = []
    for layer in model.layers:
        assert isinstance(layer.ffn, MoeFfn)
        layers.append(replace(layer, ffn=replace(layer.ffn, gated=gated)))
    described = replace(model, layers=tuple(layers))
    recipe, die = replace(_RECIPE, grouped_experts=False), machine(chip("910B3"))
    graph = training_graph(described, Layout(data=4), replace(recipe, micro_batches=1))
    steps = OneByOne(engine, described, graph, recipe, die)
    experts, found = 16, {"GroupedMatmul": 0, "ApplyAdamW": 0, "activation": 0}
    for op in graph.ops:
        if op.scope is None or op.scope.layer != 0 or not op.scope.part.startswith("experts."):
            continue
        kind = op.type if op.type in found else "activation" if "activation" in op.scope.part else ""
        if kind:
            launched = steps.kernels(op)
            found[kind] += 1 if launched is None else len(launched)
    assert found["GroupedMatmul"] == 3 * matrices * experts
    assert found["activation"] >= 2 * experts
    if engine == "pytorch":
        assert found["ApplyAdamW"] == matrices * experts * 10
