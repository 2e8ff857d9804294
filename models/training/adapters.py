"""Low-rank adapters: how many elements a rank trains where the model's own weights stand still, and what those take."""

from __future__ import annotations

from memplan.core.resources import table
from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.phases import ROWS_SPLIT, MemoryPart, parameter_of, trained_weights
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import WeightGroup

_HALF = 2
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


def four_bit_weights(model: ModelConfig, layout: Layout, spans: tuple[range, ...]) -> MemoryPart:
    """The weights beside adapters on one rank where those of linear layers have 4 bits, all else 16 (QLoRA)."""
    whole = linear = 0
    for item, count in trained_weights(model, layout, spans):
        if item.linear and item.group in _QUANTISED and item.layer is not None:
            linear += count
        else:
            whole += count
    four_bits = _four_bit_bytes()
    formula = f"16-bit weights: {_HALF} B x {whole:,}, and {four_bits:.3f} B x {linear:,} in 4 bits with their scales"
    return MemoryPart(STANDING, round(_HALF * whole + four_bits * linear), formula)


def _four_bit_bytes() -> float:
    """Bytes of a weight in 4 bits: its own, and its part of the scales and of those that scale them."""
    row = table("memplan.models.training", "four_bits.json")
    scale, block = float(row["scale_bytes"]), int(row["block"])
    second = float(row["second_scale_bytes"]) / (block * int(row["second_block"]))
    return float(row["bits"]) / 8 + scale / block + second
