"""Pipelines: the order of passes as Megatron-LM has it, their memory, and what interleaving leaves of the bubble."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.memory import training_memory
from memplan.models.training.pipeline_order import PipelinePass, pipeline_order
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe
from memplan.serving.step_parts import pipeline_span_ns

from .test_training_graph import peak

INTERLEAVED = Recipe(2048, 1, 4, schedule=Schedule.INTERLEAVED, chunks=2)


def passes(text: str) -> list[PipelinePass]:
    """`F0a B1b`: forward of micro-batch 0 through chunk a, back of micro-batch 1 through chunk b."""
    return [PipelinePass(item[0] == "F", int(item[1]), "ab".index(item[2])) for item in text.split()]


@pytest.mark.parametrize(
    ("recipe", "stage", "order"),
    [
        (Recipe(128, 1, 3), 0, "F0a F1a B0a F2a B1a B2a"),
        (Recipe(128, 1, 3), 1, "F0a B0a F1a B1a F2a B2a"),
        (Recipe(128, 1, 2, schedule=Schedule.GPIPE), 1, "F0a F1a B0a B1a"),
        (INTERLEAVED, 0, "F0a F1a F0b F1b F2a B0b F3a B1b F2b B0a F3b B1a B2b B3b B2a B3a"),
        (INTERLEAVED, 1, "F0a F1a F0b B0b F1b B1b F2a B0a F3a B1a F2b B2b F3b B3b B2a B3a"),
        (replace(INTERLEAVED, chunk_group=3), 1, "F0a F1a F2a F0b B0b F1b B1b F2b B2b F3a B0a F3b B1a B2a B3b B3a"),
        # Three micro-batches are a group of two and one of one.
        (replace(INTERLEAVED, micro_batches=3), 1, "F0a F1a F0b B0b F1b B1b F2a B0a F2b B1a B2b B2a"),
    ],
)
def test_stages_run_their_passes_in_the_order_of_the_schedule(recipe: Recipe, stage: int, order: str) -> None:
    assert list(pipeline_order(Layout(pipeline=2), recipe, stage)) == passes(order)


def test_interleaving_on_one_stage_and_unknown_orders_are_refused() -> None:
    with pytest.raises(InputError, match="there is one"):
        list(pipeline_order(Layout(), INTERLEAVED, 0))
    with pytest.raises(InputError, match="dualpipe-v"):
        list(pipeline_order(Layout(pipeline=2), replace(INTERLEAVED, schedule=Schedule.DUALPIPE_V), 0))


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_the_bubble_shrinks_by_the_number_of_chunks(chunks: int) -> None:
    """Stages of equal speed wait for `(p - 1) / v` of a micro-batch (Narayanan et al., arXiv 2104.04473)."""
    recipe = replace(INTERLEAVED, chunks=chunks, micro_batches=8)
    times = [(100_000, 200_000)] * 4
    assert pipeline_span_ns(times, Layout(pipeline=4), recipe) == 8 * 300_000 + 3 * 300_000 // chunks


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize(
    "recipe",
    [INTERLEAVED, replace(INTERLEAVED, recompute_attention=True), Recipe(2048, 1, 4, recompute_attention=True)],
)
def test_graph_and_formula_take_the_same_memory(shared_data: Path, recipe: Recipe, stage: int) -> None:
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    layout = Layout(pipeline=2, data=2)
    predicted = training_memory(model, layout, recipe, stage).peak_bytes
    assert peak(training_graph(model, layout, recipe, stage=stage)) == pytest.approx(predicted, rel=0.04)


def test_a_stage_of_chunks_has_their_layers_and_talks_to_its_neighbours_on_the_ring(shared_data: Path) -> None:
    whole = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    model = replace(whole, layers=whole.layers[:8])
    first, last = (training_graph(model, Layout(pipeline=2), INTERLEAVED, stage=stage) for stage in (0, 1))
    assert {op.scope.layer for op in first.ops if op.scope is not None} - {None} == {0, 1, 4, 5}
    kinds = [Counter(op.type for op in graph.ops) for graph in (first, last)]
    # Only the first chunk of the first stage looks tokens up, only the last one of the last makes logits.
    assert [kind["Embedding"] for kind in kinds] == [4, 0]
    assert [kind["CrossEntropyLoss"] for kind in kinds] == [0, 4]
    assert [kind["Receive"] for kind in kinds] == [kind["Send"] for kind in kinds] == [12, 12]
    sent = [op for op in first.ops if op.type == "Send"]
    assert {op.attrs["peer"] for op in sent} == {1}


def test_attention_is_run_again_before_its_gradient(shared_data: Path) -> None:
    whole = load_config(shared_data / "configs" / "Qwen--Qwen3-0.6B.json")
    model = replace(whole, layers=whole.layers[:2])
    plain, again = (
        training_graph(model, Layout(), Recipe(4096, 1, 1, recompute_attention=chosen)) for chosen in (False, True)
    )
    types = [op.type for op in again.ops]
    assert types.count("FlashAttentionScore") == 4
    assert all(
        types[place - 1] == "FlashAttentionScore"
        for place, kind in enumerate(types)
        if kind == "FlashAttentionScoreGrad"
    )
    repeated = [op for op in again.ops if op.scope is not None and op.scope.phase == "recompute"]
    assert [(op.scope.part, op.scope.layer) for op in repeated if op.scope is not None] == [
        ("attention", 1),
        ("attention", 0),
    ]
    assert len(again.ops) == len(plain.ops) + 2
