"""Weights that ranks divide in a training step's graph: gathered twice, spread once, in as much memory as told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from memplan.graph import Graph, Op, TensorKind, live_curve
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import training_memory, training_spans
from memplan.models.training.phases import trained_weights
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe

from .test_step_graph import PRODUCTS, flops

RECIPE = Recipe(sequence=256, sharding=Sharding.FSDP2)
GATHERING = (Sharding.ZERO3, Sharding.FSDP, Sharding.FSDP2)


@pytest.fixture(scope="module")
def small(family_models: Mapping[str, ModelConfig]) -> ModelConfig:
    model = family_models["qwen2"]
    return replace(model, layers=model.layers[:4])


@pytest.fixture(scope="module")
def mixture(family_models: Mapping[str, ModelConfig]) -> ModelConfig:
    model = family_models["glm4_moe"]
    return replace(model, layers=model.layers[:3])


def exchanges(graph: Graph, kind: str, group: str = "dp") -> list[Op]:
    return [op for op in graph.ops if op.type == kind and op.attrs.get("group") == group]


def received(graph: Graph, ops: list[Op]) -> int:
    return sum(graph.tensors[index].nbytes for op in ops for index in op.outputs)


def elements(model: ModelConfig, layout: Layout) -> int:
    return training_memory(model, layout, RECIPE).parameters


@pytest.mark.parametrize("sharding", GATHERING)
def test_layers_are_gathered_both_ways_and_what_is_outside_once(small: ModelConfig, sharding: Sharding) -> None:
    """In 16 bits, whatever the shards are."""
    graph = training_graph(small, Layout(data=4), replace(RECIPE, sharding=sharding))
    gathers = exchanges(graph, "AllGather")
    inner = [op for op in gathers if op.scope is not None and op.scope.layer is not None]
    assert len(gathers) == 2 * len(small.layers) + 1
    assert received(graph, gathers) + received(graph, [op for op in gathers if op not in inner]) == pytest.approx(
        2 * 2 * elements(small, Layout(data=4)), rel=0.01
    )
    assert {op.attrs["rank_size"] for op in gathers} == {4}


def test_gradients_are_spread_once_in_float32_or_in_16_bits(small: ModelConfig) -> None:
    layout = Layout(data=4)
    for half in (False, True):
        graph = training_graph(small, layout, replace(RECIPE, half_gradients=half))
        spread = exchanges(graph, "ReduceScatter")
        assert len(spread) == len(small.layers) + 1
        sent = sum(graph.tensors[index].nbytes for op in spread for index in op.inputs)
        assert sent == pytest.approx((2 if half else 4) * elements(small, layout), rel=0.01)


def test_a_layer_is_gathered_while_the_one_before_it_runs(small: ModelConfig) -> None:
    graph = training_graph(small, Layout(data=4), RECIPE)
    for number in range(1, len(small.layers)):
        gather = next(op for op in graph.ops if op.name.endswith(f"layers.{number}.weights.all_gather"))
        before = [op.index for op in graph.ops if op.name.startswith(f"micro_batch.0.layers.{number - 1}.norm.")]
        assert gather.index < min(before)
        reads = [op.index for op in graph.ops if op.name.startswith(f"micro_batch.0.layers.{number}.norm.")]
        assert gather.index < min(reads)


def test_shards_and_states_are_divided_and_every_weight_is_updated(small: ModelConfig) -> None:
    layout = Layout(data=4)
    graph = training_graph(small, layout, RECIPE)
    count = elements(small, layout)
    weights = [t for t in graph.tensors if t.kind is TensorKind.WEIGHT and t.storage == t.index]
    states = [t for t in graph.tensors if t.kind is TensorKind.OPTIMIZER_STATE]
    assert {t.dtype for t in weights} == {"float32"}
    assert sum(t.nbytes for t in weights) == pytest.approx(4 * count / 4, rel=0.01)
    assert sum(t.nbytes for t in states) == pytest.approx(8 * count / 4, rel=0.01)
    updated = sum(prod(graph.tensors[op.outputs[0]].shape) for op in graph.ops if op.type == "ApplyAdamW")
    assert updated == pytest.approx(count / 4, rel=0.01)


def test_experts_that_ranks_share_are_gathered_among_those_that_repeat_them(mixture: ModelConfig) -> None:
    for expert, repeated in ((4, 1), (2, 2)):
        graph = training_graph(mixture, Layout(data=4, expert=expert, expert_tensor=1), RECIPE)
        ranks = {op.attrs["rank_size"] for op in exchanges(graph, "AllGather", "edp")}
        assert ranks == ({repeated} if repeated > 1 else set())
        assert exchanges(graph, "AllGather")


def test_every_micro_batch_gathers_and_spreads_again(small: ModelConfig) -> None:
    one, three = (training_graph(small, Layout(data=4), replace(RECIPE, micro_batches=count)) for count in (1, 3))
    for kind in ("AllGather", "ReduceScatter"):
        assert len(exchanges(three, kind)) == 3 * len(exchanges(one, kind))
    updates = [sum(op.type == "ApplyAdamW" for op in graph.ops) for graph in (one, three)]
    assert updates[0] == updates[1] > 0


def test_copies_of_shards_add_up_their_gradients(small: ModelConfig) -> None:
    """Hybrid sharding: two groups of four ranks, each of which divides everything among its own."""
    graph = training_graph(small, Layout(data=8), replace(RECIPE, optimizer_instances=2))
    assert {op.attrs["rank_size"] for op in exchanges(graph, "AllGather")} == {4}
    added = exchanges(graph, "AllReduce", "dp_copies")
    assert len(added) == len(small.layers) + 1
    assert {op.attrs["rank_size"] for op in added} == {2}


def test_dividing_weights_changes_no_product(small: ModelConfig) -> None:
    plain = training_graph(small, Layout(data=4), replace(RECIPE, sharding=Sharding.NONE))
    divided = training_graph(small, Layout(data=4), RECIPE)

    def work(graph: Graph) -> int:
        return sum(flops(graph, op) for op in graph.ops if op.type in PRODUCTS)

    assert work(plain) == work(divided)


@pytest.mark.parametrize(
    ("name", "layers", "layout"),
    [
        ("Qwen--Qwen3-0.6B", 28, Layout(data=8)),
        ("Qwen--Qwen3-8B", 8, Layout(data=8)),
        ("meta-llama--Meta-Llama-3.1-8B", 8, Layout(tensor=2, data=4)),
        ("Qwen--Qwen3-30B-A3B", 4, Layout(data=8, expert=8, expert_tensor=1)),
        ("Qwen--Qwen3-30B-A3B", 4, Layout(data=8)),
        ("deepseek-ai--DeepSeek-V3", 5, Layout(data=8, expert=8, expert_tensor=1)),
    ],
)
def test_divided_weights_take_the_same_memory_by_graph_and_by_formula(
    shared_data: Path, name: str, layers: int, layout: Layout
) -> None:
    """
    Within 12 %.

    What the formula counts as there at once and the graph sees one after the other is most of it: two gathered layers
    beside the gradients of the larger, or what is outside the layers beside the last one.
    """
    whole = load_config(shared_data / "configs" / f"{name}.json")
    model = replace(whole, layers=whole.layers[:layers])
    for sharding in GATHERING:
        for again in (0, layers):
            recipe = Recipe(sequence=4096, micro_batches=2, sharding=sharding, recompute_layers=again)
            predicted = training_memory(model, layout, recipe).peak_bytes
            graph = training_graph(model, layout, recipe)
            assert int(live_curve(graph, alignment=512).max()) == pytest.approx(predicted, rel=0.12)


@pytest.mark.parametrize("name", ["Qwen--Qwen3-8B", "Qwen--Qwen3-30B-A3B"])
@pytest.mark.parametrize("micro_batches", [1, 2, 6])
def test_stages_of_a_pipeline_hold_the_same_by_graph_and_by_formula(
    shared_data: Path, name: str, micro_batches: int
) -> None:
    """The first one too, which has the embedding and no head. What Megatron-FSDP spreads is in the graph alone."""
    whole = load_config(shared_data / "configs" / f"{name}.json")
    model, layout = replace(whole, layers=whole.layers[:8]), Layout(data=8, pipeline=2)
    for sharding in GATHERING:
        recipe = Recipe(sequence=4096, micro_batches=micro_batches, sharding=sharding)
        for stage in range(layout.pipeline):
            predicted = training_memory(model, layout, recipe, stage).peak_bytes
            graph = training_graph(model, layout, recipe, stage=stage)
            assert int(live_curve(graph, alignment=512).max()) == pytest.approx(predicted, rel=0.06)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_gathers_what_it_holds(stage: int) -> None:
    """The norm of the embedding's rows runs before the first layer, so that the first stage has it."""
    bloom = load_config({"model_type": "bloom", "hidden_size": 64, "n_layer": 4, "n_head": 4, "vocab_size": 512})
    layout = Layout(data=2, pipeline=2)
    recipe = Recipe(sequence=64, sharding=Sharding.FSDP, micro_batches=2)
    spans = training_spans(bloom, layout, recipe, stage)
    held = {item.name: count for item, count in trained_weights(bloom, layout, spans) if item.layer is None}
    assert (
        list(held) == (["embed_tokens", "embed_norm", "embed_norm.bias"], ["embed_tokens", "norm", "norm.bias"])[stage]
    )
    graph = training_graph(bloom, layout, recipe, stage=stage)
    gathered = next(op for op in graph.ops if op.name == "micro_batch.0.weights.all_gather")
    assert graph.tensors[gathered.outputs[0]].shape == (sum(held.values()),)
    assert {"embed_norm", "norm"} & {tensor.name for tensor in graph.tensors} == {("embed_norm", "norm")[stage]}
