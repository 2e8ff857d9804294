"""Low-rank adapters: how many elements a rank trains where the model's own weights stand still, and what those take."""

from __future__ import annotations

from memplan.core.resources import table
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout, rank_elements
from memplan.models.training.phases import JOINED, ROWS_SPLIT, on_stage
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup
from memplan.models.weights import weights

_HALF = 2
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
    for item in weights(model):
        if not item.linear or item.group not in groups or item.layer is None or not on_stage(model, item, spans):
            continue
        out, into = item.shape
        own, name = rank_elements(item, layout), item.name.rpartition(".")[2]
        routed = item.group is WeightGroup.EXPERTS
        copies = -(-item.copies // layout.expert) if routed else 1
        if name in ROWS_SPLIT:
            count = own // out + copies * out
        else:
            inputs[item.layer, item.name.replace(name, JOINED.get(name, name))] = copies * into, routed
            count = own // into
        dense, experts = (dense, experts + count) if routed else (dense + count, experts)
    dense += sum(count for count, routed in inputs.values() if not routed)
    experts += sum(count for count, routed in inputs.values() if routed)
    return recipe.lora_rank * dense, recipe.lora_rank * experts


def standing_bytes(model: ModelConfig, layout: Layout, spans: tuple[range, ...], recipe: Recipe) -> tuple[int, str]:
    """What the weights beside adapters take on one rank, and how: 16 bits, or 4 of linear layers (QLoRA)."""
    whole = linear = 0
    for item in weights(model, mtp=True):
        if on_stage(model, item, spans):
            count = rank_elements(item, layout)
            if recipe.four_bit_base and item.linear and item.group in _QUANTISED and item.layer is not None:
                linear += count
            else:
                whole += count
    four_bits = _four_bit_bytes()
    formula = f"16-bit weights: {_HALF} B x {whole:,}"
    if linear:
        formula += f", and {four_bits:.3f} B x {linear:,} in 4 bits with their scales"
    return round(_HALF * whole + four_bits * linear), formula


def _four_bit_bytes() -> float:
    """Bytes of a weight in 4 bits: its own, and its part of the scales and of those that scale them."""
    row = table("memplan.models.training", "workspaces.json")["four_bits"]
    scale, block = float(row["scale_bytes"]), int(row["block"])
    second = float(row["second_scale_bytes"]) / (block * int(row["second_block"]))
    return float(row["bits"]) / 8 + scale / block + second
