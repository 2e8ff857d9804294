"""Gated delta nets as they are trained: what is kept, what is multiplied, and whose weights get gradients."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import memplan
from memplan.core.errors import InputError
from memplan.cost import machine
from memplan.cost.kernel_problem import problem_of
from memplan.cost.kernels.op_kernels import kernel_of_op
from memplan.graph import Graph, Op
from memplan.hardware import chip
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.saved import saved_tensors
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Tier
from memplan.schema.contents import content_violations

RECIPE = Recipe(sequence=2048)
LAYOUTS = (Layout(), Layout(tensor=4, expert=4), Layout(tensor=16, expert=16))


@pytest.fixture(scope="module")
def hybrid(shared_data: Path) -> ModelConfig:
    """Three layers of gated delta net and one of attention."""
    model = load_config(shared_data / "configs" / "Qwen--Qwen3-Next-80B-A3B-Instruct.json")
    return replace(model, layers=model.layers[:4])


def phase_of(op: Op) -> str:
    return "" if op.scope is None else op.scope.phase


def kept_bytes(graph: Graph) -> int:
    """Bytes that the first layer's mixer makes on the way there and that are read on the way back."""
    roots = [tensor.storage for tensor in graph.tensors]
    layer = [op for op in graph.ops if phase_of(op) == "forward" and op.scope is not None and op.scope.layer == 0]
    mixer = layer[1 : next(i for i, op in enumerate(layer) if op.scope is not None and op.scope.part == "out_proj")]
    made = {roots[index] for op in mixer for index in op.outputs}
    read = {roots[index] for op in graph.ops if phase_of(op) == "backward" for index in op.inputs}
    return sum(graph.tensors[index].nbytes for index in made & read)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"tensor {layout.tensor}")
def test_what_is_kept_is_what_the_formula_says(hybrid: ModelConfig, layout: Layout) -> None:
    items = saved_tensors(hybrid, hybrid.layers[0], layout, RECIPE)
    outer = ("attention norm", "feed-forward norm")
    formula = sum(
        item.nbytes for item in items if item.part in ("attention", "norm") and not item.name.startswith(outer)
    )
    assert kept_bytes(training_graph(hybrid, layout, RECIPE)) == formula * RECIPE.sequence


def test_every_weight_gets_a_gradient_and_names_are_unique(hybrid: ModelConfig) -> None:
    graph = training_graph(hybrid, LAYOUTS[1], RECIPE)
    names = Counter(op.name for op in graph.ops if op.type != "AllReduce")
    assert max(names.values()) == 1
    updated = {op.name for op in graph.ops if op.type == "ApplyAdamW"}
    for weight in ("conv1d", "dt_bias", "A_log", "norm", "out_proj", "in_proj_qkv+in_proj_z+in_proj_ba"):
        assert f"layers.0.{weight}.adam" in updated


def test_products_are_those_of_the_rule(hybrid: ModelConfig) -> None:
    """
    Multiply-adds of a chunk of C tokens of one head with a K x V state, counted by hand.

    Forward: scores of keys C x C x K, narrowed keys and values C x C x (K + V), two products with the state, and
    queries with the state, scores C x C x K, scores with values C x C x V.
    """
    target = machine(chip("910B3"))
    graph = training_graph(hybrid, Layout(), RECIPE)
    heads, key, value, size = 32, 128, 128, 64
    chunks = RECIPE.sequence // size * heads
    state, keys, values = size * key * value, size * size * key, size * size * value
    there, back = 0.0, 0.0
    for op in graph.ops:
        problem = problem_of(kernel_of_op(op, graph), target)
        if problem.rule.kind == "chunk_products" and op.scope is not None and op.scope.layer == 0:
            assert problem.matmul is not None
            there += problem.matmul.flops / 2 * (phase_of(op) == "forward")
            back += problem.matmul.flops / 2 * (phase_of(op) == "backward")
    assert there == chunks * (keys + (keys + values) + 2 * state + (state + keys + values))
    again = (keys + values) + 2 * state
    rest = (keys + values) + 3 * state + (3 * state + 3 * keys + values) + (5 * keys + 2 * values + 2 * size**3)
    assert back == chunks * (again + rest)


def test_layers_that_run_again_go_back_as_well(hybrid: ModelConfig) -> None:
    graph = training_graph(hybrid, LAYOUTS[1], replace(RECIPE, recompute_layers=4))
    last = Counter(phase_of(op) for op in graph.ops if op.type in ("ChunkFwdO", "PrepareWyReprBwd"))
    assert last == {"forward": 3, "recompute": 3, "backward": 3}


def test_a_plan_with_moves_loses_nothing(hybrid: ModelConfig) -> None:
    graph = training_graph(replace(hybrid, layers=hybrid.layers[2:]), LAYOUTS[1], RECIPE)
    use = memplan.plan(graph, chip="910B3").tier(Tier.HBM)
    assert use is not None
    plan = memplan.plan(graph, chip="910B3", hbm=int(use.peak * 0.75), quick=True)
    assert plan.fits
    assert plan.transfers
    assert not content_violations(plan)


def test_sequences_over_ranks_are_refused(hybrid: ModelConfig) -> None:
    with pytest.raises(InputError, match="linear attention over ranks of context parallelism"):
        training_graph(hybrid, Layout(context=2), RECIPE)
