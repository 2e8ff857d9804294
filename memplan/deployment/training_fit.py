"""Which layouts of a number of dies train a model, which is best, and why the others are not."""

from __future__ import annotations

from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.units import format_bytes
from memplan.deployment.layout_search import Candidate, LayoutSearch, check_experts, layouts, sorted_fit
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.recipes import largest_micro_batch, tightest_stage
from memplan.models.training.step_recipe import Recipe


def fit_training(
    model: ModelConfig,
    capacity: int,
    recipe: Recipe,
    dies: int,
    global_batch: int,
    progress: Progress = silent,
) -> LayoutSearch:
    """
    Training layouts of `dies` dies of `capacity` bytes each for `global_batch` samples a step.

    Fewest tensor-parallel ranks go first, then fewest stages, then the larger micro-batch that fits.
    """
    if dies < 1:
        raise InputError("{} dies can't hold a model", dies)
    candidates = []
    tried = list(layouts(model, dies, training=True))
    for number, layout in enumerate(tried):
        progress(number, len(tried), "layouts")
        candidates.append(_train(model, capacity, recipe, layout, global_batch))
    return sorted_fit(candidates, "fewest TP ranks, then fewest stages, then largest micro-batch", training=True)


def _train(model: ModelConfig, capacity: int, recipe: Recipe, layout: Layout, global_batch: int) -> Candidate:
    try:
        check_experts(model, layout)
        share, rest = divmod(global_batch, layout.data * recipe.micro_batch)
        if rest or not share:
            raise InputError(
                f"{global_batch} samples a step can't be divided among {layout.data} data-parallel ranks in "
                f"micro-batches of {recipe.micro_batch}"
            )
        asked = replace(recipe, micro_batches=share)
        memory = tightest_stage(model, layout, asked)
    except InputError as error:
        return Candidate(layout, None, None, 0, str(error))
    if memory.peak_bytes <= capacity:
        return Candidate(layout, None, memory, largest_micro_batch(model, layout, asked, capacity), "")
    over = format_bytes(memory.peak_bytes - capacity)
    largest = max(memory.parts, key=lambda part: part.nbytes)
    reason = f"{over} over on stage {memory.stage} ({largest.name} {format_bytes(largest.nbytes)})"
    return Candidate(layout, None, memory, 0, reason)
