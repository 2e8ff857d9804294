"""Weights, gradients and optimiser states of a rank, and what a step leaves beside them."""

from __future__ import annotations

from dataclasses import replace

from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, sharing_ranks, training_layout
from memplan.models.training.adapters import STANDING, adapter_elements, four_bit_weights
from memplan.models.training.gathering import in_eight_bits
from memplan.models.training.phases import MemoryPart, trained_weights
from memplan.models.training.recipe_choices import Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup

_HALF, _SINGLE = 2, 4
_MATRIX = 2
_BLOCK = 256
"""Moments in 8 bits that share a float32 scale: bitsandbytes' `BLOCK_SIZE` of its block-wise optimisers."""


def moment_bytes(recipe: Recipe) -> float:
    """Bytes of one of Adam's moments."""
    if recipe.byte_moments:
        return 1 + _SINGLE / _BLOCK
    return float(_HALF if recipe.half_moments or recipe.half_weights else _SINGLE)


def state_bytes(recipe: Recipe, ranks: int) -> tuple[float, float, float]:
    """
    Bytes a parameter of weights, gradients and optimiser states, with `ranks` that share them.

    A float32 original that is kept beside no 16-bit copy saves the copy of what the rank has of the originals; where
    the weights are float32 themselves the states are the moments, but for Megatron-FSDP, which has originals apart.
    """
    sharding = recipe.sharding
    if recipe.half_weights:
        shared = ranks if sharding is Sharding.FSDP2 else 1
        return _HALF / shared, _HALF / shared, 2 * moment_bytes(recipe) / shared
    if recipe.float32 and sharding in (Sharding.NONE, Sharding.DISTRIBUTED):
        shared = ranks if sharding is Sharding.DISTRIBUTED else 1
        return float(_SINGLE), float(_SINGLE), 2 * moment_bytes(recipe) / shared
    states = _SINGLE + 2 * moment_bytes(recipe)
    gradients = _HALF if recipe.half_gradients and not recipe.float32 else _SINGLE
    if sharding in (Sharding.NONE, Sharding.DISTRIBUTED):
        shared = ranks if sharding is Sharding.DISTRIBUTED else 1
        return _HALF - (_HALF / shared if recipe.reuse_fp32 else 0.0), gradients, states / shared
    if sharding is Sharding.FSDP2:
        return _SINGLE / ranks, _SINGLE / ranks, (states - _SINGLE) / ranks
    gradients = gradients if sharding is Sharding.FSDP else _HALF
    gradient_share = 1 if sharding is Sharding.ZERO1 else ranks
    return recipe.each / (ranks if sharding.gathers else 1), gradients / gradient_share, states / ranks


def held_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> tuple[int, int]:
    """Elements of the weights of the layers of `spans` on one rank, and those of experts apart from the rest."""
    groups = _group_elements(model, layout, spans)
    experts = groups.get(WeightGroup.EXPERTS, 0)
    return sum(groups.values()) - experts, experts


def _group_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> dict[WeightGroup, int]:
    layout = training_layout(layout)
    groups: dict[WeightGroup, int] = {}
    for item, count in trained_weights(model, layout, spans):
        groups[item.group] = groups.get(item.group, 0) + count
    return groups


def _matrices(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> tuple[int, int]:
    """Of `held_elements` those of matrices within layers, which Muon makes orthogonal."""
    found = [0, 0]
    for item, count in trained_weights(model, layout, spans):
        if len(item.shape) == _MATRIX and item.layer is not None:
            found[item.group is WeightGroup.EXPERTS] += count
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
    alone = recipe.sharding is Sharding.FSDP2 or (recipe.float32 and recipe.sharding is not Sharding.FSDP)
    single = alone or recipe.half_weights
    format_of = "float32 weights" if (alone or recipe.float32) and not recipe.half_weights else "16-bit weights"
    named = (format_of, "moments" if single else "float32 master weights and moments")
    parts = []
    if recipe.reference_model:
        each, each_expert = (
            recipe.each / (ranks if recipe.sharding.gathers else 1) for ranks in (data_ranks, expert_ranks)
        )
        parts.append(_part("reference model", f"its {format_of}", (each, dense), (each_expert, experts)))
    if recipe.four_bit_base:
        each = state_bytes(recipe, data_ranks)[0] if recipe.sharding.gathers else float(recipe.each)
        parts.append(four_bit_weights(model, layout, spans, recipe, each))
    elif recipe.lora_rank or recipe.frozen_vision:
        # Weights that are gathered are divided whether they are trained or not.
        gathers = recipe.sharding.gathers
        each, each_expert = (
            state_bytes(recipe, ranks)[0] if gathers else float(recipe.each) for ranks in (data_ranks, expert_ranks)
        )
        still = dense if recipe.lora_rank else _group_elements(model, layout, spans).get(WeightGroup.VISION, 0)
        still_experts = experts if recipe.lora_rank else 0
        dense -= still
        if still or still_experts:
            parts.append(_part(STANDING, named[0], (each, still), (each_expert, still_experts)))
    if recipe.lora_rank:
        dense, experts = adapter_elements(model, layout, spans, recipe)
    second, moments = moment_bytes(recipe), 0.0
    for number, (name, what) in enumerate((("weights", named[0]), ("gradients", "gradients"), ("optimizer", named[1]))):
        wider = 2 if recipe.lora_float32 and not (name == "optimizer" and recipe.byte_moments) else 1
        each = wider * state_bytes(recipe, data_ranks)[number]
        each_expert = wider * state_bytes(recipe, expert_ranks)[number]
        if name == "optimizer" and recipe.swap_optimizer:
            continue
        if recipe.lora_float32 and name == "weights":
            what = "adapters in float32"
        part = _part(name, what, (each, dense), (each_expert, experts))
        less = _less_in_eight_bits(model, layout, recipe, spans, name)
        if less:
            part = MemoryPart(name, part.nbytes - less, f"{part.formula}, less {less:,} B of weights in 8 bits")
        if name == "optimizer":
            size = each * dense + each_expert * experts
            of_one = (0 if single else _SINGLE) + 2 * second
            moments = 2 * second * size / of_one
            if recipe.muon:
                counts = _matrices(model, layout, spans)
                saved = second * (each * counts[0] + each_expert * counts[1]) / of_one
                size, moments = size - saved, moments - saved
                formula = f"{part.formula}, less the second moments of {sum(counts):,} in matrices"
                part = MemoryPart(name, round(size), formula)
        parts.append(part)
    return dense + experts, round(moments), parts


def _less_in_eight_bits(model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], name: str) -> int:
    """
    Bytes that Megatron-FSDP saves of `weights` in 8 bits, which have no turned copies, and of their `gradients` where
    those are in 16 bits beside others in float32.
    """
    saved = {"weights": recipe.each - 1, "gradients": _HALF if recipe.float32 and recipe.half_gradients else 0}
    if recipe.sharding is not Sharding.FSDP or not saved.get(name):
        return 0
    data_ranks, expert_ranks = sharing_ranks(layout, recipe.optimizer_instances)
    found = 0.0
    for item, count in trained_weights(model, layout, spans):
        if in_eight_bits(item, recipe):
            found += count / (expert_ranks if item.group is WeightGroup.EXPERTS else data_ranks)
    return round(saved[name] * found)


def _part(name: str, what: str, dense: tuple[float, int], experts: tuple[float, int]) -> MemoryPart:
    """So many bytes of each of so many weights, of experts apart from the rest."""
    (each, count), (each_expert, expert_count) = dense, experts
    formula = f"{what}: {each:g} B x {count:,}"
    if expert_count:
        formula += f" + {each_expert:g} B x {expert_count:,} of experts"
    return MemoryPart(name, round(each * count + each_expert * expert_count), formula)


def hosted_bytes(model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]) -> int:
    """Bytes of optimiser states of a rank that the host keeps; 0 unless the recipe swaps them."""
    if not recipe.swap_optimizer:
        return 0
    _, _, parts = static_parts(model, training_layout(layout), replace(recipe, swap_optimizer=False), spans)
    return sum(part.nbytes for part in parts if part.name == "optimizer")


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
    parts.append(widened_gradients(model, layout, recipe, spans))
    return parts


def widened_gradients(model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]) -> MemoryPart:
    """
    Float32 copies of a rank's share of gradients in 16 bits, which its optimiser reads.

    DeepSpeed makes them of a whole share before it steps, too (`stage_1_and_2.py`), and lets them go.
    """
    dense, experts = (
        adapter_elements(model, layout, spans, recipe) if recipe.lora_rank else held_elements(model, layout, spans)
    )
    if recipe.sharding is Sharding.NONE:
        copies = _SINGLE * (dense + experts)
    else:
        data_ranks, expert_ranks = sharing_ranks(layout, recipe.optimizer_instances)
        copies = _SINGLE * dense // data_ranks + _SINGLE * experts // expert_ranks
    return MemoryPart("float32 gradients", copies, "4 B of each gradient whose state the rank has")
