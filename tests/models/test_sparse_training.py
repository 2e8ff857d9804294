"""Attention to what an indexer picks as it is trained: who learns from what, and what is kept for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.core.errors import InputError
from memplan.graph import Graph, Op, TensorKind
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.steps.sparse_training import INDEXER_LOSS
from memplan.models.training.step_recipe import Recipe
from memplan.schema.contents import content_violations

LAYOUT, RECIPE = Layout(tensor=8, expert=8), Recipe(sequence=4096)


@pytest.fixture(scope="module")
def sparse(shared_data: Path) -> ModelConfig:
    model = load_config(shared_data / "configs" / "deepseek-ai--DeepSeek-V3.2.json")
    return replace(model, layers=model.layers[:2])


def ops_of(graph: Graph, phase: str, text: str = "") -> list[Op]:
    return [op for op in graph.ops if op.scope is not None and op.scope.phase == phase and text in op.name]


def test_every_weight_gets_a_gradient(sparse: ModelConfig) -> None:
    graph = training_graph(sparse, LAYOUT, RECIPE)
    names = {t.name for t in graph.tensors if t.kind is TensorKind.GRADIENT and t.storage == t.index}
    weights = {t.name for t in graph.tensors if t.kind is TensorKind.WEIGHT and t.storage == t.index}
    assert {name.removesuffix(".main_grad") for name in names if name.endswith(".main_grad")} == weights
    assert {"layers.1.indexer.wq_b", "layers.1.indexer.wk", "layers.1.indexer.weights_proj"} <= weights


def test_the_indexer_gives_no_gradient_to_what_it_reads(sparse: ModelConfig) -> None:
    graph = training_graph(sparse, LAYOUT, RECIPE)
    for name in ("wq_b", "wk", "weights_proj"):
        back = ops_of(graph, "backward", f"layers.0.indexer.{name}.")
        assert {op.name.rpartition(".")[2] for op in back} == {"dw", "add"}


def test_halves_of_a_weight_add_to_halves_of_its_gradient(sparse: ModelConfig) -> None:
    graph = training_graph(sparse, LAYOUT, RECIPE)
    whole = next(tensor for tensor in graph.tensors if tensor.name == "layers.0.kv_b_proj.main_grad")
    added = [graph.tensors[op.outputs[0]].nbytes for op in ops_of(graph, "backward", "layers.0.") if op.name.endswith(
        ("q_absorb.add", "v_up.add"))]  # fmt: skip
    assert len(added) == 2
    assert sum(added) == whole.nbytes


def test_gradients_of_the_indexer_are_made_on_the_way_there_and_kept(sparse: ModelConfig) -> None:
    graph = training_graph(sparse, LAYOUT, RECIPE)
    losses = [op for op in graph.ops if op.type == INDEXER_LOSS]
    assert [op.scope.layer for op in losses if op.scope is not None] == [0, 1]
    read = {index for op in ops_of(graph, "backward") for index in op.inputs}
    assert all(index in read for op in losses for index in op.outputs[:3])
    # The divergence is from all heads: queries of other ranks are gathered, and gone before the way back.
    gathered = [
        op for op in ops_of(graph, "forward", "indexer.gather_") if op.scope is not None and op.scope.layer == 0
    ]
    assert next(graph.tensors[op.outputs[0]].shape[0] for op in gathered) == 128
    assert not any(index in read for op in gathered for index in op.outputs)


def test_layers_that_run_again_and_plans_with_moves_lose_nothing(sparse: ModelConfig) -> None:
    again = training_graph(sparse, LAYOUT, replace(RECIPE, recompute_layers=1, recompute_attention=True))
    kept = training_graph(sparse, LAYOUT, RECIPE)
    assert len([op for op in again.ops if op.type == INDEXER_LOSS]) == 3
    for graph in (again, kept):
        whole = memplan.plan(graph, chip="910C", hbm=10**13)
        peak = max(tier.peak for tier in whole.tiers)
        plan = memplan.plan(graph, chip="910C", hbm=peak * 3 // 4, quick=True)
        assert plan.fits
        assert plan.transfers
        assert not content_violations(plan)


@pytest.fixture(scope="module")
def sharing(shared_data: Path) -> ModelConfig:
    """Layers 2 to 6, of which 2 and 6 have an indexer."""
    model = load_config(shared_data / "configs" / "zai-org--GLM-5.2.json")
    return replace(model, layers=model.layers[2:7])


@pytest.mark.parametrize("again", [0, 3])
def test_layers_without_an_indexer_read_what_the_last_one_picked(sharing: ModelConfig, again: int) -> None:
    graph = training_graph(sharing, LAYOUT, replace(RECIPE, micro_batches=2, recompute_layers=again))
    picked = {op.outputs[0]: op for op in graph.ops if op.type == "LightningIndexer"}
    for op in graph.ops:
        if op.type != "SparseFlashAttention" or op.scope is None:
            continue
        source = picked[op.inputs[4]].scope
        assert source is not None
        assert (source.micro_batch, source.layer) == (op.scope.micro_batch, 6 if op.scope.layer == 6 else 2)
    losses = [op.scope.layer for op in graph.ops if op.type == INDEXER_LOSS and op.scope is not None]
    assert sorted(losses) == sorted([2, 6] * 2 + [2] * (2 if again else 0))


def test_what_no_public_code_shows_is_refused(sparse: ModelConfig, sharing: ModelConfig) -> None:
    with pytest.raises(InputError, match="layer 5 attends to what layer 2 of another pipeline stage picks"):
        training_graph(sharing, Layout(tensor=8, expert=8, pipeline=2), RECIPE, stage=1)
    with pytest.raises(InputError, match="ranks of context parallelism"):
        training_graph(sparse, Layout(tensor=8, expert=8, context=2), RECIPE)
