"""A run that is not the planned step is said to be one: another batch, another stage, another recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

import memplan
from memplan.align import align
from memplan.compare.unlike_plan import unlike_plan
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import training_graph
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Plan
from tests.align.trainer_runs import trainer_run

MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816,
    "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 16000,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
RECIPE, LAYOUT = Recipe(512, 1, 2), Layout(pipeline=3, data=2)


def plan_of(recipe: Recipe = RECIPE, stage: int = 1) -> Plan:
    return memplan.plan(training_graph(load_config(MODEL), LAYOUT, recipe, stage=stage), chip="910B2", quick=True)


def said_of(plan: Plan, ran: Plan) -> list[str]:
    return [str(sentence) for sentence in unlike_plan(plan, align(plan, trainer_run(ran, 71).kernels))]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_nothing_is_said_of_a_run_of_the_plan(stage: int) -> None:
    assert not said_of(plan_of(stage=stage), plan_of(stage=stage))


def test_another_sequence_is_told_with_both_numbers() -> None:
    assert said_of(plan_of(), plan_of(replace(RECIPE, sequence=384))) == [
        "its products have 384 rows where the plan has 512: another batch or sequence ran"
    ]


def test_layers_that_were_not_run_again_are_named() -> None:
    (said,) = said_of(plan_of(replace(RECIPE, recompute_layers=2)), plan_of())
    assert said.startswith("hardly anything ran of recompute (")


@pytest.mark.parametrize(("stage", "missing"), [(0, "embedding"), (2, "lm_head")])
def test_what_only_another_stage_has_is_named(stage: int, missing: str) -> None:
    (said,) = said_of(plan_of(stage=stage), plan_of())
    assert said.startswith("hardly anything ran of ")
    assert missing in said.partition(" (")[0]
