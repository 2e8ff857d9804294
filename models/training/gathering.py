"""
What is gathered of weights that ranks divide, and what becomes of gradients on their way to the ranks' shares.

Weights in 8 bits are gathered as they are, others in the format that activations have.
"""

from __future__ import annotations

from memplan.models.architecture import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.training.adapters import four_bit_bytes, in_four_bits
from memplan.models.training.phases import MemoryPart, trained_weights
from memplan.models.training.step_recipe import Recipe
from memplan.models.weight_shapes import Weight, WeightGroup

_BYTE, _HALF, _SINGLE = 1, 2, 4
_AHEAD = 500_000_000
"""Elements that Megatron-FSDP gathers ahead at least: half of its `suggested_communication_unit_size`, 10^9."""


def in_eight_bits(item: Weight, recipe: Recipe) -> bool:
    """Whether a weight itself is in 8 bits: those of TransformerEngine's products, which head and routers are not."""
    return recipe.fp8_weights and item.linear and item.layer is not None and item.group is not WeightGroup.ROUTER


def gathered_ahead(model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]) -> MemoryPart:
    """
    Weights gathered for the next step when one ends (Megatron-FSDP).

    `start_param_sync` asks for the first ones and as many more as make up half a suggested exchange, or for a layer's
    where that is more.
    """
    counts = _layer_sizes(model, layout, None, spans)
    sizes = _layer_sizes(model, layout, recipe, spans)
    parameters, layers = sum(counts.values()), len(counts) - (None in counts)
    count = min(parameters, max(_AHEAD, parameters // max(1, layers)))
    nbytes = sum(sizes.values()) * count // max(1, parameters)
    return MemoryPart("weights gathered ahead", nbytes, f"of {count:,} elements for the next step")


def gathered_weights(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...], *, layers: int
) -> MemoryPart:
    """
    Weights that shared ranks have gathered at once: those outside the layers, which stay, and of the largest `layers`.

    Embedding, norm and head are the root's, which is not split again behind its way forward (PyTorch's `fully_shard`);
    beside a layer there is the one whose turn is next.
    """
    sizes = _layer_sizes(model, layout, recipe, spans)
    outer = sizes.pop(None, 0)
    nbytes = outer + sum(sorted(sizes.values(), reverse=True)[:layers])
    return MemoryPart("gathered weights", nbytes, f"{outer:,} B outside the layers, and of {layers} layers")


def reduced_gradients(
    model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]
) -> tuple[MemoryPart, MemoryPart]:
    """
    A layer's gradients as its way back makes them, and the copy that is spread over the ranks (`fully_shard`).

    That copy has the format that gradients are added up in.
    """
    counts = _layer_sizes(model, layout, None, spans)
    most = max((count for layer, count in counts.items() if layer is not None), default=0)
    copied = _spread_bytes(recipe)
    return (
        MemoryPart("gradients of a layer", recipe.each * most, f"{recipe.each} B x {most:,}"),
        MemoryPart("gradients being spread", copied * most, f"{copied} B x {most:,} of the layer behind it"),
    )


def root_gradients(model: ModelConfig, layout: Layout, recipe: Recipe, spans: tuple[range, ...]) -> MemoryPart:
    """
    Gradients outside the layers and the copy that is spread, beside what the embedding's own phase counts.

    The root's are spread last, when the way back has come to its end (`fully_shard`).
    """
    outer = _layer_sizes(model, layout, None, spans).get(None, 0)
    each = recipe.each + _spread_bytes(recipe)
    its_own = recipe.each + (0 if recipe.float32 else _SINGLE)
    counted = its_own * (model.vocab_size * model.hidden_size // layout.tensor)
    formula = f"{each} B x {outer:,} outside the layers and their copy, of which {counted:,} B are counted"
    return MemoryPart("gradients of the root", max(0, each * outer - counted), formula)


def head_gradient(model: ModelConfig, layout: Layout, recipe: Recipe) -> MemoryPart:
    """The head's gradient, which the root keeps until the way back has come to its end (`fully_shard`)."""
    table = model.vocab_size * model.hidden_size // layout.tensor
    each = recipe.each
    return MemoryPart("gradient of the head", each * table, f"{each} B x {table:,}, until the root's are spread")


def _spread_bytes(recipe: Recipe) -> int:
    """Bytes of a gradient on its way to the ranks: float32 unless it is added up in 16 bits (`reduce_dtype`)."""
    return _HALF if recipe.half_gradients or recipe.half_weights else _SINGLE


def _layer_sizes(
    model: ModelConfig, layout: Layout, recipe: Recipe | None, spans: tuple[range, ...]
) -> dict[int | None, int]:
    """
    Bytes of the weights of each layer of `spans` on one rank as `recipe` gathers them, and of those outside the layers;
    elements where there is no recipe.
    """
    sizes: dict[int | None, float] = {}
    for item, count in trained_weights(model, layout, spans):
        each = 1.0 if recipe is None else _gathered_bytes(item, recipe)
        sizes[item.layer] = sizes.get(item.layer, 0.0) + each * count
    return {layer: round(size) for layer, size in sizes.items()}


def _gathered_bytes(item: Weight, recipe: Recipe) -> float:
    if in_four_bits(item, recipe):
        return four_bit_bytes()[0]
    return float(_BYTE if in_eight_bits(item, recipe) else recipe.each)
