"""Questions about a training recipe: how large a micro-batch fits, and what would make twice as much fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.core.bisection import largest_fitting
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.memory import TrainingMemory, training_memory, training_spans
from memplan.models.training.step_recipe import Recipe
from memplan.models.training.trained_model import trained_model

_MOST = (1 << 16) - 1
"""No micro-batch is ever larger; the search ends here."""


@dataclass(frozen=True, slots=True)
class Change:
    """A recipe that fits, what is different about it, and its tightest stage."""

    what: str
    recipe: Recipe
    memory: TrainingMemory


def tightest_stage(model: ModelConfig, layout: Layout, recipe: Recipe) -> TrainingMemory:
    """
    The pipeline stage with the highest peak: the first, a middle or the last one, or the first of those that have
    another number of layers.
    """
    model = trained_model(model, recipe)
    stages = {0, layout.pipeline // 2, layout.pipeline - 1}
    counts = [sum(map(len, training_spans(model, layout, recipe, stage))) for stage in range(layout.pipeline)]
    stages |= {stage for stage in range(1, layout.pipeline) if counts[stage] != counts[stage - 1]}
    return max(
        (training_memory(model, layout, recipe, stage) for stage in sorted(stages)),
        key=lambda memory: memory.peak_bytes,
    )


def largest_micro_batch(model: ModelConfig, layout: Layout, recipe: Recipe, capacity: int) -> int:
    """The largest micro-batch whose peak on every stage is within `capacity` bytes; 0 if not even one sample fits."""

    def fits(size: int) -> bool:
        return tightest_stage(model, layout, replace(recipe, micro_batch=size)).peak_bytes <= capacity

    return largest_fitting(fits, _MOST, doubling=True)


def ways_to_fit(model: ModelConfig, layout: Layout, recipe: Recipe, capacity: int) -> tuple[Change, ...]:
    """
    Recipes that bring the peak within `capacity`, cheapest first; empty if none does.

    Tried are: nothing, recomputing what costs no matrix product, recomputing as few whole layers as suffice, keeping
    the optimiser's states on the host, and the last together with recomputation.
    """
    layers = -(-len(trained_model(model, recipe).layers) // layout.pipeline)
    found: list[Change] = []
    for swap in (False, True):
        base = replace(recipe, swap_optimizer=swap or recipe.swap_optimizer, reuse_fp32=recipe.reuse_fp32 and not swap)
        change = _recomputation(model, layout, base, capacity, layers)
        if change is not None:
            what = f"{'optimiser states on the host, ' if swap else ''}{change.what}"
            found.append(replace(change, what=what))
        if found and not swap and found[0].recipe == recipe:
            break
    return tuple(found)


def _recomputation(model: ModelConfig, layout: Layout, recipe: Recipe, capacity: int, layers: int) -> Change | None:
    """The cheapest recomputation with which `recipe` fits: every further layer takes less, so halving finds it."""

    def tried(what: str, changed: Recipe) -> Change:
        return Change(what, changed, tightest_stage(model, layout, changed))

    def spared(count: int) -> Change:
        again = layers - count
        return tried(f"{again} of {layers} layers a stage recomputed", replace(recipe, recompute_layers=again))

    def fits(change: Change) -> bool:
        return change.memory.peak_bytes <= capacity

    for what, changed in (
        ("no recomputation", recipe),
        ("norms and activation functions recomputed", replace(recipe, recompute_cheap=True)),
    ):
        change = tried(what, changed)
        if fits(change):
            return change
    most = layers - recipe.recompute_layers - 1
    if most < 0 or not fits(spared(0)):
        return None
    return spared(largest_fitting(lambda count: fits(spared(count)), most))


def ways_to_double(model: ModelConfig, layout: Layout, recipe: Recipe, capacity: int) -> tuple[int, tuple[Change, ...]]:
    """The largest micro-batch, and the ways to train with twice that many samples at once."""
    largest = largest_micro_batch(model, layout, recipe, capacity)
    doubled = replace(recipe, micro_batch=max(1, 2 * largest))
    return largest, ways_to_fit(model, layout, doubled, capacity)
