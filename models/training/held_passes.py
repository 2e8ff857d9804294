"""How many passes through each of a stage's runs of layers wait for their way back when most bytes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.models.parallel import Layout
from memplan.models.training.pipeline_order import pipeline_order
from memplan.models.training.recipe_choices import Schedule
from memplan.models.training.step_recipe import Recipe


def held_passes(
    layout: Layout, recipe: Recipe, stage: int, run_bytes: Sequence[float], total: int, behind: int | None = None
) -> tuple[float, ...]:
    """
    Passes through each run of layers of pipeline stage `stage`, which keeps `run_bytes` of each, `total` at most.

    With `behind` it is the most when a pass through that run has just gone forward. Interleaved stages are followed
    through the order of their passes, for their runs differ where layers do: by then those near the embedding have more
    passes on their way than those near the loss. Elsewhere runs have as many each.
    """
    runs = len(run_bytes)
    if recipe.schedule is not Schedule.INTERLEAVED or recipe.forward_passes_first(layout.pipeline):
        return (total / runs,) * runs
    # Behind the first micro-batches that run ahead the order repeats itself, group by group.
    enough = 2 * layout.pipeline + 3 * recipe.group_of(layout.pipeline)
    short = replace(recipe, micro_batches=min(recipe.micro_batches, enough))
    held, most, found = [0] * runs, -1.0, [0] * runs
    for item in pipeline_order(layout, short, stage):
        held[item.chunk] += 1 if item.forward else -1
        nbytes = sum(count * size for count, size in zip(held, run_bytes, strict=True))
        if nbytes > most and (behind is None or (item.forward and item.chunk == behind)):
            most, found = nbytes, [*held]
    return tuple(found)
