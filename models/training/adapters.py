"""Low-rank adapters: how many elements a rank trains where the model's own weights stand still, and what those take."""

from __future__ import annotations

from memplan.core.resources import table
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, sharing_ranks
from memplan.models.training.phases import ROWS_SPLIT, MemoryPart, parameter_of, trained_weights
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import Weight, WeightGroup

STANDING = "weights that stand still"
_QUANTISED = (WeightGroup.ATTENTION, WeightGroup.DENSE_FFN, WeightGroup.EXPERTS, WeightGroup.SHARED_EXPERTS)


def adapter_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...], recipe: Recipe) -> tuple[int, int]:
    """
    Elements of adapters beside the linear layers of attention and dense feed-forward parts on one rank, and of experts.

    Each is a matrix from its layer's input to `lora_rank` values and one from those to its output; the side that tensor
    parallelism splits is split in the adapter too (MindSpeed-LLM, `--lora-target-modules`). Experts have theirs one by
    one (`lora_experts`).
    """
    groups = [WeightGroup.ATTENTION, WeightGroup.DENSE_FFN]
    inputs: dict[tuple[int | None, str], tuple[int, bool]] = {}
    dense = experts = 0
    if recipe.lora_experts:
        groups += [WeightGroup.EXPERTS, WeightGroup.SHARED_EXPERTS]
    for item, own in trained_weights(model, layout, spans):
        if not item.linear or item.group not in groups or item.layer is None:
            continue
        out, into = item.shape
        routed = item.group is WeightGroup.EXPERTS
        copies = -(-item.copies // layout.expert) if routed else 1
        if item.name.rpartition(".")[2] in ROWS_SPLIT:
            count = own // out + copies * out
        else:
            inputs[item.layer, parameter_of(item)] = copies * into, routed
            count = own // into
        dense, experts = (dense, experts + count) if routed else (dense + count, experts)
    dense += sum(count for count, routed in inputs.values() if not routed)
    experts += sum(count for count, routed in inputs.values() if routed)
    return recipe.lora_rank * dense, recipe.lora_rank * experts


def in_four_bits(item: Weight, recipe: Recipe) -> bool:
    """Whether a weight stands in 4 bits: those of linear layers, which head and routers are not (QLoRA)."""
    return recipe.four_bit_base and item.linear and item.layer is not None and item.group in _QUANTISED


def four_bit_weights(
    model: ModelConfig, layout: Layout, spans: tuple[range, ...], recipe: Recipe, each: float
) -> MemoryPart:
    """
    The weights beside adapters on one rank where those of linear layers have 4 bits, all else `each` bytes (QLoRA).

    `fully_shard` divides weights, not the scales of those in 4 bits, which are no parameters (bitsandbytes); all are
    divided by the replicas of what isn't experts.
    """
    whole = linear = 0
    for item, count in trained_weights(model, layout, spans):
        if in_four_bits(item, recipe):
            linear += count
        else:
            whole += count
    ranks = sharing_ranks(layout, recipe.optimizer_instances)[0] if recipe.sharding.gathers else 1
    weight, scales = four_bit_bytes()
    four_bits = weight / ranks + scales
    formula = f"{each:g} B x {whole:,}, and {four_bits:.3f} B x {linear:,} in 4 bits with their scales"
    return MemoryPart(STANDING, round(each * whole + four_bits * linear), formula)


def four_bit_bytes() -> tuple[float, float]:
    """Bytes of a weight in 4 bits, and of its part of the scales and of those that scale them."""
    row = table("memplan.models.training", "four_bits.json")
    scale, block = float(row["scale_bytes"]), int(row["block"])
    second = float(row["second_scale_bytes"]) / (block * int(row["second_block"]))
    return float(row["bits"]) / 8, scale / block + second
