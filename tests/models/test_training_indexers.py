"""Memory of training indexers of sparse attention, and layers that predict further tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import ModelConfig, load_config
from memplan.models.architecture import Layer
from memplan.models.mixers.compressed_attention import CompressedAttention
from memplan.models.mixers.latent_attention import LatentAttention
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import training_memory
from memplan.models.training.phases import trained_weights
from memplan.models.training.recipe_choices import Loss, Schedule
from memplan.models.training.saved import saved_tensors
from memplan.models.training.step_recipe import Recipe
from tests.models.memory_parts import part

RECIPE = Recipe(sequence=1024, micro_batches=4, sequence_parallel=True)


@pytest.fixture(scope="module")
def sparse(shared_data: Path) -> ModelConfig:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.2.json")
    return replace(model, layers=model.layers[:2])


@pytest.fixture(scope="module")
def dense(shared_data: Path) -> ModelConfig:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    return replace(model, layers=model.layers[:4])


def mixer(layer: Layer) -> LatentAttention:
    assert isinstance(layer.mixer, LatentAttention)
    return layer.mixer


@pytest.mark.parametrize(("tensor", "samples", "sequence"), [(1, 1, 1024), (2, 1, 2048), (4, 3, 512)])
def test_a_score_of_every_head_and_pair_stays(sparse: ModelConfig, tensor: int, samples: int, sequence: int) -> None:
    recipe = replace(RECIPE, micro_batch=samples, sequence=sequence)
    layout = Layout(tensor=tensor, expert_tensor=1, expert=tensor)
    apart = training_memory(sparse, layout, recipe)
    fused = training_memory(sparse, layout, replace(recipe, fused_indexer_loss=True))
    scores = samples * mixer(sparse.layers[0]).heads // tensor * sequence**2
    assert apart.between_steps - fused.between_steps == 2 * scores
    loss = "scores for an indexer's loss"
    assert dict(apart.phases)[loss] - dict(apart.phases)["backward of a layer"] < 10 * scores
    assert loss not in dict(fused.phases)


def test_each_layer_keeps_scores_of_the_indexers_heads(sparse: ModelConfig) -> None:
    """A fused indexer keeps none; one that recomputes its layers keeps them of one layer at a time."""
    index = mixer(sparse.layers[0]).indexer
    assert index is not None
    apart, fused = (
        part(training_memory(sparse, Layout(), replace(RECIPE, fused_indexer=kind)), "activations")
        for kind in (False, True)
    )
    pairs = RECIPE.sequence**2
    more = apart - fused - 2 * pairs * (4 * index.heads + 1)
    assert 0 < more < 2 * RECIPE.sequence * (16 * index.topk + 4 * (index.heads + 1) * index.head_dim)
    long = replace(RECIPE, sequence=4096, recompute_layers=2)
    anew = training_memory(sparse, Layout(), long)
    assert anew.phase == "scores for an indexer's loss"
    assert part(anew, "recomputed attention") > 4 * index.heads * long.sequence**2
    assert part(anew, "activations") == 2 * long.sequence * 2 * sparse.hidden_size


def test_layers_that_predict_further_tokens_are_on_the_last_stage(dense: ModelConfig) -> None:
    """One more layer, a projection of two hidden states, three norms and, apart from the first stage, a table."""
    untied = replace(dense, tied_embeddings=False)
    layout, recipe = Layout(pipeline=2), replace(RECIPE, mtp_layers=1)
    first, last = (
        training_memory(untied, layout, recipe, stage).parameters
        - training_memory(untied, layout, RECIPE, stage).parameters
        for stage in (0, 1)
    )
    one_more = replace(untied, layers=(*untied.layers, replace(untied.layers[-1], index=len(untied.layers))))
    layer = (
        training_memory(one_more, Layout(), RECIPE).parameters - training_memory(untied, Layout(), RECIPE).parameters
    )
    hidden = dense.hidden_size
    assert first == 0
    assert last == layer + 2 * hidden**2 + 3 * hidden + dense.vocab_size * hidden
    tied = training_memory(dense, layout, recipe, 1).parameters - training_memory(dense, layout, RECIPE, 1).parameters
    assert tied == layer + 2 * hidden**2 + 3 * hidden


def test_tensor_parallel_ranks_divide_what_joins_further_tokens(dense: ModelConfig) -> None:
    """Went wrong once: every rank had the whole projection, 1.4 % of a stage of DeepSeek-V3's layers."""
    hidden, recipe = dense.hidden_size, replace(RECIPE, sequence_parallel=True)
    for ranks in (1, 2):
        layout = Layout(tensor=ranks)
        with_one, without = (
            training_memory(dense, layout, replace(recipe, mtp_layers=count)).parameters for count in (1, 0)
        )
        layer = sum(count for item, count in trained_weights(dense, layout, (range(3, 4),)) if item.layer == 3)
        assert with_one - without == layer + 2 * hidden**2 // ranks + 3 * hidden
    joined = training_memory(dense, Layout(tensor=2), replace(recipe, mtp_layers=1))
    assert part(joined, "gathered input") == 2 * RECIPE.sequence * 2 * hidden


def test_losses_of_further_tokens_wait_for_their_way_back(dense: ModelConfig) -> None:
    logits = RECIPE.sequence * dense.vocab_size
    for count in (1, 2):
        told = replace(RECIPE, mtp_layers=count)
        assert part(training_memory(dense, Layout(), told), "losses of further tokens") == 4 * count * logits
        fused = training_memory(dense, Layout(), replace(told, loss=Loss.FUSED))
        assert part(fused, "losses of further tokens") == 0


def test_a_step_with_them_says_that_no_graph_has_them(dense: ModelConfig) -> None:
    with pytest.raises(InputError, match="further tokens"):
        training_graph(dense, Layout(), replace(RECIPE, mtp_layers=1))
    with pytest.raises(InputError, match="mtp_layers"):
        replace(RECIPE, mtp_layers=-1)


def test_layers_that_do_nothing_take_a_place_and_no_memory(dense: ModelConfig) -> None:
    """Three layers and one that does nothing behind them, in two runs of each of two stages."""
    three = replace(dense, layers=dense.layers[:3], tied_embeddings=False)
    layout = Layout(pipeline=2)
    recipe = replace(RECIPE, schedule=Schedule.INTERLEAVED, chunks=2, noop_layers=(3,))
    first, last = (training_memory(three, layout, recipe, stage).parameters for stage in (0, 1))
    full = replace(dense, tied_embeddings=False)
    one = training_memory(full, layout, replace(recipe, noop_layers=()), 0).parameters - first
    assert one == 0
    assert (
        training_memory(full, layout, replace(recipe, noop_layers=()), 1).parameters - last
        == (first - dense.vocab_size * dense.hidden_size) // 2
    )
    assert training_memory(three, layout, replace(recipe, noop_layers=(0,)), 0).parameters < first


@pytest.mark.parametrize("numbers", [(4,), (-1,), (1, 1)])
def test_layers_that_do_nothing_have_numbers_that_there_are(dense: ModelConfig, numbers: tuple[int, ...]) -> None:
    three = replace(dense, layers=dense.layers[:3])
    with pytest.raises(InputError, match="do nothing"):
        training_memory(three, Layout(), replace(RECIPE, noop_layers=numbers))


@pytest.fixture(scope="module")
def windowed(shared_data: Path) -> ModelConfig:
    """DeepSeek-V4-Flash's first layers: two with a window alone, one with an indexer, one with long entries."""
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V4-Flash.json")
    return replace(model, layers=model.layers[:4], mtp_layers=())


def test_attention_to_entries_op_by_op_keeps_a_softmax_of_tokens_and_entries(windowed: ModelConfig) -> None:
    steps, kernel = (replace(RECIPE, sequence_parallel=False, attention_in_steps=told) for told in (True, False))
    for layer in windowed.layers:
        mixer = layer.mixer
        assert isinstance(mixer, CompressedAttention)
        entries = 1024 // mixer.ratio if mixer.ratio else 0
        kept = {item.name: item.nbytes for item in saved_tensors(windowed, layer, Layout(), steps)}
        assert kept["softmax"] == 2 * mixer.heads * (1024 + entries)
        assert kept["keys and values, repeated for each head"] == 4 * mixer.heads * mixer.head_dim * (
            1 + entries / 1024
        )
        fused = {item.name for item in saved_tensors(windowed, layer, Layout(), kernel)}
        assert set(kept) - fused == {"softmax", "keys and values, repeated for each head"}


def test_scores_of_entries_stay_and_those_of_pairs_are_there_three_more_times(windowed: ModelConfig) -> None:
    steps, kernel = (replace(RECIPE, sequence_parallel=False, attention_in_steps=told) for told in (True, False))
    memory = training_memory(windowed, Layout(), steps)
    heads = 64
    assert part(memory, "buffer of attention's scores") == 2 * heads * 1024 * 1024 // 4
    own = dict(memory.phases)
    assert "scores of every pair" not in dict(training_memory(windowed, Layout(), kernel).phases)
    standing = sum(item.nbytes for item in memory.parts if item.name in ("activations", "embedded tokens"))
    states = sum(part(memory, name) for name in ("weights", "gradients", "optimizer", "buffer of attention's scores"))
    assert own["scores of every pair"] - standing - states == 3 * 2 * heads * 1024 * 1280
