"""Weights, gradients and optimiser states of a rank, and what a step leaves beside them."""

from __future__ import annotations

from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, rank_elements, sharing_ranks, training_layout
from memplan.models.training.adapters import adapter_elements, standing_bytes
from memplan.models.training.phases import MemoryPart, on_stage
from memplan.models.training.step_recipe import Recipe, Sharding
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import weights

_HALF, _SINGLE = 2, 4
_MATRIX = 2


def state_bytes(recipe: Recipe, ranks: int) -> tuple[float, float, float]:
    """
    Bytes a parameter of weights, gradients and optimiser states, with `ranks` that share them.

    A float32 original that is kept beside no 16-bit copy saves the copy of what the rank has of the originals; where
    the weights are float32 themselves the states are the moments.
    """
    sharding = recipe.sharding
    states = _SINGLE + 2.0 * (_HALF if recipe.half_moments else _SINGLE)
    gradients = _HALF if recipe.half_gradients else _SINGLE
    if sharding in (Sharding.NONE, Sharding.DISTRIBUTED):
        shared = ranks if sharding is Sharding.DISTRIBUTED else 1
        return _HALF - (_HALF / shared if recipe.reuse_fp32 else 0.0), gradients, states / shared
    if sharding is Sharding.FSDP2:
        return _SINGLE / ranks, _SINGLE / ranks, (states - _SINGLE) / ranks
    gradients = gradients if sharding is Sharding.FSDP else _HALF
    gradient_share = 1 if sharding is Sharding.ZERO1 else ranks
    return _HALF / (ranks if sharding.gathers else 1), gradients / gradient_share, states / ranks


def held_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> tuple[int, int]:
    """Elements of the weights of the layers of `spans` on one rank, and those of experts apart from the rest."""
    groups = _group_elements(model, layout, spans)
    experts = groups.get(WeightGroup.EXPERTS, 0)
    return sum(groups.values()) - experts, experts


def _group_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> dict[WeightGroup, int]:
    layout = training_layout(layout)
    groups: dict[WeightGroup, int] = {}
    for item in weights(model, mtp=True):
        if on_stage(model, item, spans):
            groups[item.group] = groups.get(item.group, 0) + rank_elements(item, layout)
    return groups


def _matrices(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> tuple[int, int]:
    """Of `held_elements` those of matrices within layers, which Muon makes orthogonal."""
    found = [0, 0]
    for item in weights(model, mtp=True):
        if len(item.shape) == _MATRIX and item.layer is not None and on_stage(model, item, spans):
            found[item.group is WeightGroup.EXPERTS] += rank_elements(item, layout)
    return found[0], found[1]


def static_parts(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]
) -> tuple[int, int, list[MemoryPart]]:
    """
    What a rank trains, in elements, the bytes of its optimiser's moments, and all it has for that: weights, gradients
    and states.
    """
    dense, experts = held_elements(model, layout, spans)
    data_ranks, expert_ranks = sharing_ranks(layout, recipe.optimizer_instances)
    parts = []
    if recipe.reference_model:
        each, each_expert = (_HALF / (ranks if recipe.sharding.gathers else 1) for ranks in (data_ranks, expert_ranks))
        formula = f"its 16-bit weights: {each:g} B x {dense:,}" + (
            f" + {each_expert:g} B x {experts:,} of experts" if experts else ""
        )
        parts.append(MemoryPart("reference model", round(each * dense + each_expert * experts), formula))
    if recipe.lora_rank:
        nbytes, formula = standing_bytes(model, layout, spans, recipe)
        parts.append(MemoryPart("weights that stand still", nbytes, formula))
        dense, experts = adapter_elements(model, layout, spans, recipe)
    elif recipe.frozen_vision:
        still = _group_elements(model, layout, spans).get(WeightGroup.VISION, 0)
        dense -= still
        each = state_bytes(recipe, data_ranks)[0] if recipe.sharding.gathers else float(_HALF)
        if still:
            parts.append(MemoryPart("weights that stand still", round(each * still), f"{each:g} B x {still:,}"))
    single = recipe.sharding is Sharding.FSDP2
    second, moments = _HALF if recipe.half_moments else _SINGLE, 0.0
    named = ("float32 weights", "moments") if single else ("16-bit weights", "float32 master weights and moments")
    for number, (name, what) in enumerate((("weights", named[0]), ("gradients", "gradients"), ("optimizer", named[1]))):
        each = state_bytes(recipe, data_ranks)[number]
        each_expert = state_bytes(recipe, expert_ranks)[number]
        if name == "optimizer" and recipe.swap_optimizer:
            continue
        formula = f"{each:g} B x {dense:,}"
        if experts:
            formula += f" + {each_expert:g} B x {experts:,} of experts"
        size = each * dense + each_expert * experts
        if name == "optimizer":
            alone = (0 if single else _SINGLE) + 2 * second
            moments = 2 * second * size / alone
            if recipe.muon:
                counts = _matrices(model, layout, spans)
                saved = second * (each * counts[0] + each_expert * counts[1]) / alone
                size, moments = size - saved, moments - saved
                formula += f", less the second moments of {sum(counts):,} in matrices"
        parts.append(MemoryPart(name, round(size), f"{what}: {formula}"))
    return dense + experts, round(moments), parts


def left_over(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], exchanged: int, output: int
) -> list[MemoryPart]:
    """
    What is still there beside the states when a step is over.

    `exchanged` are the bytes that the last micro-batch left behind of what stages sent each other: for each run of
    layers that has one before it, its input and the gradient sent back; `output` those that
    experts made anew left behind. Adam works on float32 copies of the rank's share of 16-bit gradients; moments in
    16 bits come with an Adam that takes gradients as they are (Megatron-LM's precision-aware optimiser).
    """
    parts: list[MemoryPart] = []
    if recipe.lora_rank or recipe.variable_lengths:
        # Adapters are for fine-tuning, whose last sample has a length of its own.
        return parts
    if exchanged:
        parts.append(MemoryPart("last micro-batch", exchanged, "its inputs and the gradients that were sent back"))
    if output:
        parts.append(MemoryPart("output of experts", output, "of the last layer that went forward"))
    if not recipe.half_gradients or recipe.half_moments:
        return parts
    if recipe.sharding not in (Sharding.NONE, Sharding.DISTRIBUTED):
        return parts
    dense, experts = held_elements(model, layout, spans)
    if recipe.sharding is Sharding.NONE:
        copies = _SINGLE * (dense + experts)
    else:
        data_ranks, expert_ranks = sharing_ranks(layout, recipe.optimizer_instances)
        copies = _SINGLE * dense // data_ranks + _SINGLE * experts // expert_ranks
    parts.append(MemoryPart("float32 gradients", copies, "4 B of each gradient whose state the rank has"))
    return parts
