"""Low-rank adapters: how many elements a rank trains where the model's own weights stand still, and what those take."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.core.resources import table
from memplan.models.architecture import Layer, ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout, sharing_ranks
from memplan.models.training.phases import ROWS_SPLIT, MemoryPart, parameter_of, trained_weights, weights_of
from memplan.models.training.saved_item import FED_FORWARD, Saved
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import Weight, WeightGroup

STANDING = "weights that stand still"
_SINGLE = 4
_PARTS = {
    WeightGroup.ATTENTION: "attention",
    WeightGroup.DENSE_FFN: "ffn",
    WeightGroup.SHARED_EXPERTS: "shared",
    WeightGroup.EXPERTS: "experts",
}
"""Where linear layers are that may have adapters or stand in 4 bits, by the parts of what is kept."""
_READ_WITHIN = ROWS_SPLIT | {"o_a_proj", "q_b_proj", "kv_b_proj", "fc2_latent_proj"}
"""Projections that read what others made in their part of a layer, not what the norm before it gives."""
_OF_EXPERTS = (WeightGroup.EXPERTS, WeightGroup.SHARED_EXPERTS)


def has_adapter(item: Weight, recipe: Recipe) -> bool:
    """Whether adapters are trained beside a weight."""
    if not recipe.lora_rank or not _may_have(item, experts=recipe.lora_experts):
        return False
    return not recipe.lora_targets or item.own_name in recipe.lora_targets


def adapted_projections(model: ModelConfig, *, experts: bool = False) -> tuple[str, ...]:
    """Names of projections that may have adapters (`q_proj`), those of experts only if asked for."""
    items = (item for layer in model.layers for item in weights_of(model, layer))
    return tuple(dict.fromkeys(item.own_name for item in items if _may_have(item, experts=experts)))


def _may_have(item: Weight, *, experts: bool) -> bool:
    return _in_layers(item) and (experts or item.group not in _OF_EXPERTS)


def _in_layers(item: Weight) -> bool:
    return item.linear and item.layer is not None and item.group in _PARTS


def adapter_elements(model: ModelConfig, layout: Layout, spans: tuple[range, ...], recipe: Recipe) -> tuple[int, int]:
    """
    Elements of adapters beside the linear layers of attention and dense feed-forward parts on one rank, and of experts.

    Each is a matrix from its layer's input to `lora_rank` values and one from those to its output; the side that tensor
    parallelism splits is split in the adapter too (MindSpeed-LLM, `--lora-target-modules`). Projections that are one
    parameter in Megatron share the first of theirs there, those of one layer in transformers theirs (`lora_fused`).
    Experts have theirs one by one (`lora_experts`).
    """
    inputs: dict[tuple[int | None, str], tuple[int, bool]] = {}
    dense = experts = 0
    for item, own in trained_weights(model, layout, spans):
        if not has_adapter(item, recipe):
            continue
        out, into = item.shape
        routed = item.group is WeightGroup.EXPERTS
        copies = -(-item.copies // layout.expert) if routed else 1
        if item.own_name in ROWS_SPLIT:
            count = own // out + copies * out
        else:
            inputs[item.layer, _adapter_of(item, recipe)] = copies * into, routed
            count = own // into
        dense, experts = (dense, experts + count) if routed else (dense + count, experts)
    dense += sum(count for count, routed in inputs.values() if not routed)
    experts += sum(count for count, routed in inputs.values() if routed)
    return recipe.lora_rank * dense, recipe.lora_rank * experts


def _adapter_of(item: Weight, recipe: Recipe) -> str:
    if recipe.of_megatron:
        return parameter_of(item)
    layer = next((held for held in recipe.lora_fused if item.own_name in held), (item.own_name,))
    return item.name.removesuffix(item.own_name) + "+".join(layer)


def kept_by_adapters(
    model: ModelConfig, layer: Layer, layout: Layout, recipe: Recipe, kept: list[Saved]
) -> Iterator[Saved]:
    """
    Of what a layer keeps where its own weights are trained what is left with adapters, and what those keep.

    A product whose weight stands still needs its input for an adapter alone: outputs of norms and activation functions
    and tokens on their way to experts are not kept for others.
    """
    beside = [item for item in weights_of(model, layer) if has_adapter(item, recipe)]
    names = {(_PARTS[item.group], item.own_name) for item in beside}
    reading = {part for part, name in names if name not in _READ_WITHIN}
    # Where each adapter reads a copy of its own nothing else has need of what is copied.
    copied = recipe.lora_float32 or recipe.lora_dropout
    unread = {
        ("attention norm output", "norm"): copied or "attention" not in reading,
        ("feed-forward norm output", "norm"): copied or not reading & {*FED_FORWARD},
        **{("activation function", part): copied or (part, "down_proj") not in names for part in FED_FORWARD},
        ("dispatched tokens", "experts"): copied or "experts" not in reading,
    }
    yield from (item for item in kept if not unread.get((item.name, item.part), False))
    if not copied:
        return
    read: dict[str, dict[str, float]] = {}
    for item in beside:
        part, split = _PARTS[item.group], item.own_name in ROWS_SPLIT
        if part == "experts" and isinstance(layer.ffn, MoeFfn):
            pairs = layer.ffn.per_token * layout.expert_shards / layout.tensor
            width = pairs * item.shape[1] / (layout.expert_shards if split else 1)
        else:
            width = item.shape[1] / (layout.tensor if split or recipe.sequence_parallel else 1)
        read.setdefault(part, {})[_adapter_of(item, recipe)] = width
    each = (_SINGLE if recipe.lora_float32 else recipe.each) + (1 if recipe.lora_dropout else 0)
    named = "inputs of adapters, dropped, and masks" if recipe.lora_dropout else "inputs of adapters in float32"
    for part, widths in read.items():
        yield Saved(named, part, each * sum(widths.values()))


def in_four_bits(item: Weight, recipe: Recipe) -> bool:
    """Whether a weight stands in 4 bits: those of linear layers, which head and routers are not (QLoRA)."""
    return recipe.four_bit_base and _in_layers(item)


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
