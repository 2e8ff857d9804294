"""Exchanges of ranks beside and within what they belong to, and attention of context-parallel ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.serving import TrainingTime, training_time

_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32000,
    "max_position_embeddings": 65536, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip
_SPLIT = Recipe(sequence=8192, sequence_parallel=True)


@pytest.fixture(scope="module")
def model() -> ModelConfig:
    return load_config(_CONFIG)


def timed(model: ModelConfig, layout: Layout, recipe: Recipe, engine: str = "megatron") -> TrainingTime:
    return training_time(model, layout, recipe, chip("910B3"), engine=engine)


def exposed(found: TrainingTime) -> int:
    return found.stages[0].communication_ns


def test_exchanges_on_the_way_back_run_beside_products(model: ModelConfig) -> None:
    """An engine that runs nothing beside products waits for more, though it gathers no input twice."""
    split = Layout(tensor=4)
    assert exposed(timed(model, split, _SPLIT)) < exposed(timed(model, split, _SPLIT, "captured"))
    alone = replace(_SPLIT, sequence_parallel=False)
    assert exposed(timed(model, split, alone)) < exposed(timed(model, split, alone, "captured"))


def test_fused_exchanges_hide_most_and_products_take_as_long(model: ModelConfig) -> None:
    plain = timed(model, Layout(tensor=4), _SPLIT)
    fused = timed(model, Layout(tensor=4), replace(_SPLIT, fused_exchanges=True))
    assert exposed(fused) < 0.85 * exposed(plain)
    assert fused.duration_ns < plain.duration_ns
    assert fused.stages[0].compute_ns == plain.stages[0].compute_ns


def test_more_pieces_hide_more_until_they_are_too_small(model: ModelConfig) -> None:
    """One piece is none; a fused kernel is cut as takes least."""
    times = {
        count: exposed(timed(model, Layout(tensor=4), replace(_SPLIT, exchange_pieces=count))) for count in (0, 1, 2, 4)
    }
    assert times[1] == pytest.approx(times[0], rel=1e-6)
    assert times[4] < times[2] < times[1]
    assert exposed(timed(model, Layout(tensor=4), replace(_SPLIT, fused_exchanges=True))) <= times[4]


def test_what_products_and_exchanges_cannot_be(model: ModelConfig) -> None:
    with pytest.raises(InputError, match="sequence-parallel"):
        Recipe(sequence=8192, fused_exchanges=True)
    with pytest.raises(InputError, match="either fused"):
        replace(_SPLIT, fused_exchanges=True, exchange_pieces=2)
    with pytest.raises(InputError, match="exchange_pieces"):
        replace(_SPLIT, exchange_pieces=-1)


def test_whole_attention_computes_what_is_masked(model: ModelConfig) -> None:
    """Twice the pairs, alone and in a ring."""
    recipe = Recipe(sequence=32768)
    for layout in (Layout(), Layout(context=4)):
        causal = timed(model, layout, recipe).stages[0].compute_ns
        whole = timed(model, layout, replace(recipe, whole_attention=True)).stages[0].compute_ns
        assert 1.15 < whole / causal < 2


def test_rings_and_exchanged_heads_attend_to_as_many_pairs(model: ModelConfig) -> None:
    """A ring launches more kernels and adds up what they give, so that it takes longer than heads for tokens."""
    recipe, split = Recipe(sequence=32768), Layout(context=4)
    ring, heads = timed(model, split, recipe), timed(model, split, replace(recipe, ulysses=True))
    assert ring.stages[0].launches > heads.stages[0].launches
    assert 1 < ring.stages[0].compute_ns / heads.stages[0].compute_ns < 1.3
    assert exposed(ring) < exposed(heads)


def test_padded_heads_cost_their_width(model: ModelConfig) -> None:
    recipe = Recipe(sequence=16384)
    wide = timed(model, Layout(), replace(recipe, padded_heads=256))
    assert wide.stages[0].compute_ns > timed(model, Layout(), recipe).stages[0].compute_ns
