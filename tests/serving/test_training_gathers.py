"""Time of steps whose weights are gathered layer by layer: what of their exchanges other layers hide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.serving import TrainingTime, training_time

_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 6, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 65536, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip
_DIVIDED = Recipe(sequence=8192, sharding=Sharding.FSDP2)


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    return load_config(_CONFIG)


def timed(model: ModelConfig, layout: Layout, recipe: Recipe, engine: str = "megatron") -> TrainingTime:
    return training_time(model, layout, recipe, chip("910B3"), engine=engine)


def exposed(found: TrainingTime) -> int:
    return found.stages[0].communication_ns


@pytest.mark.parametrize("sharding", [Sharding.ZERO3, Sharding.FSDP, Sharding.FSDP2])
@pytest.mark.parametrize("layout", [Layout(data=8), Layout(data=4, pipeline=2), Layout(data=4, tensor=2)])
def test_the_parts_add_up(model: ModelConfig, layout: Layout, sharding: Sharding) -> None:
    found = timed(model, layout, replace(_DIVIDED, sharding=sharding, micro_batches=2))
    for stage in found.stages:
        parts = (stage.compute_ns, stage.communication_ns, stage.bubble_ns, stage.host_ns)
        assert sum(parts) == found.duration_ns
        assert min(parts) >= -1


def test_long_layers_hide_what_the_next_one_gathers(model: ModelConfig) -> None:
    """What is left is what nothing runs beside: the first gather, the last of the spread gradients."""
    short, long = (timed(model, Layout(data=8), replace(_DIVIDED, sequence=length)) for length in (512, 16384))
    assert exposed(long) < 0.7 * exposed(short)
    assert exposed(timed(model, Layout(), _DIVIDED)) == 0


def test_nothing_is_hidden_where_nothing_runs_beside(model: ModelConfig) -> None:
    beside, alone = (timed(model, Layout(data=8), _DIVIDED, engine) for engine in ("megatron", "captured"))
    assert exposed(beside) < 0.6 * exposed(alone)


def test_gradients_in_16_bits_take_half_the_exchange(model: ModelConfig) -> None:
    whole, half = (
        timed(model, Layout(data=8), replace(_DIVIDED, sequence=512, half_gradients=half)) for half in (False, True)
    )
    assert exposed(half) < 0.85 * exposed(whole)
