"""`model_graph`: a published model as the graph of one rank, whatever kind of step it is planned for."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.graph import Graph
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout
from memplan.models.steps.options import ServedStep
from memplan.models.steps.served_step import step_graph
from memplan.models.steps.training_step import training_graph
from memplan.models.steps.unplanned import refuse_unplanned
from memplan.models.training.step_recipe import Recipe, told_words
from memplan.schema import Certainty, PlanSetting

TRAIN = "train"
STEP_PHASES = (TRAIN, "prefill", "decode")
"""Kinds of steps a model can be planned for."""


def phase_of(recipe: Recipe | ServedStep) -> str:
    """The kind of step that `recipe` describes."""
    return TRAIN if isinstance(recipe, Recipe) else recipe.phase.value


def model_graph(
    model: ModelConfig,
    phase: str | None,
    layout: Layout | None,
    recipe: Recipe | ServedStep | None,
    *,
    stage: int = 0,
    data_rank: int = 0,
) -> Graph:
    """
    The graph of one rank of pipeline stage `stage` for one step as `recipe` says: a `Recipe` trains, a `ServedStep`
    serves. `phase` (`train`, `prefill` or `decode`) may be left out, as the recipe tells it. Of a served mixture it is
    a rank with as many rows as the mean, whatever the routing: a plan holds for every rank, memory and the shapes of
    grouped products among it, and the busiest one is waited for rather than planned.

    Raises `InputError` where there is no recipe, it is of another phase or says what changes times alone
    (`training_time` counts that), or the layout doesn't divide the model.
    """
    if phase is not None and phase not in STEP_PHASES:
        raise InputError("no phase is called {!r:.20}", phase, remedy=Sentence("known: {}", (", ".join(STEP_PHASES),)))
    if recipe is None:
        raise InputError(
            "a model is planned for a step, and none is given",
            remedy="give recipe=Recipe(sequence=...) to train, recipe=ServedStep(...) to serve",
        )
    if phase is not None and phase != phase_of(recipe):
        raise InputError(
            "phase is {!r}, but the recipe is one to {}", phase, phase_of(recipe), remedy="give one of them"
        )
    ranks = layout or ONE_RANK
    if isinstance(recipe, Recipe):
        refuse_unplanned(recipe)
        return training_graph(model, ranks, recipe, stage=stage, data_rank=data_rank)
    if not 0 <= stage < ranks.pipeline:
        raise InputError("there is no stage {} among {}", stage, ranks.pipeline)
    return step_graph(model, ranks, replace(recipe, even_routing=True), stage=stage)


def model_settings(
    model: ModelConfig, layout: Layout | None, recipe: Recipe | ServedStep | None, stage: int, data_rank: int
) -> tuple[PlanSetting, ...]:
    """What a plan of a model's step was made for, all of it given."""
    if recipe is None:
        return ()
    ranks = layout or ONE_RANK
    rows: list[tuple[str, object]] = [
        ("layers", len(model.layers)),
        ("phase", phase_of(recipe)), ("tp", ranks.tensor), ("pp", ranks.pipeline), ("dp", ranks.data),
        ("cp", ranks.context), ("ep", ranks.expert), ("stage", stage), ("data-rank", data_rank),
    ]  # fmt: skip
    if ranks.expert_tensor is not None:
        rows.append(("etp", ranks.expert_tensor))
    if ranks.stage_layers:
        rows.append(("stage-layers", ",".join("" if count is None else str(count) for count in ranks.stage_layers)))
    if isinstance(recipe, Recipe):
        rows += [
            ("sequence", recipe.sequence), ("micro-batch", recipe.micro_batch),
            ("micro-batches", recipe.micro_batches), ("sharding", recipe.sharding.value),
            ("schedule", recipe.schedule.value), ("recompute-layers", recipe.recompute_layers),
            ("recompute-cheap", recipe.recompute_cheap), ("recompute-attention", recipe.recompute_attention),
            ("chunks", recipe.chunks),
        ]  # fmt: skip
        told = {name for name, _ in rows} | {"sequence-parallel"}
        rows += [
            (name, value.value if isinstance(value := getattr(recipe, word), Enum) else value)
            for word in told_words(recipe)
            if (name := word.replace("_", "-")) not in told
        ]
    else:
        rows += [("batch", recipe.batch), ("context", recipe.context), ("weights", recipe.precision)]
    rows.append(("sequence-parallel", recipe.sequence_parallel))
    shown = {True: "yes", False: "no"}
    return tuple(
        PlanSetting(name, shown[value] if isinstance(value, bool) else str(value), "", Certainty.GIVEN)
        for name, value in rows
    )
