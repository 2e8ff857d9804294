"""
What experts hold whose tokens are sent by products with a mask of every token, expert and place.

It is GShard's way, as DeepSpeed's and MindSpeed's `MOELayer` have it: each expert has as many places as its even share
of a rank's tokens times a capacity, empty ones included.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from memplan.models.architecture import Layer
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout
from memplan.models.training.phases import MemoryPart, recomputed_layer
from memplan.models.training.saved_item import Saved
from memplan.models.training.step_recipe import Recipe

_HALF, _SINGLE = 2, 4


def _places(ffn: MoeFfn, layout: Layout, recipe: Recipe, tokens: float) -> tuple[float, int]:
    """The tokens that a router sees, of `tokens` of a rank's layout, and the places of each expert for them."""
    seen = tokens / (layout.tensor if recipe.sequence_parallel else 1)
    return seen, ceil(seen / ffn.experts * recipe.expert_capacity * ffn.per_token)


def _experts(layers: Sequence[Layer], recipe: Recipe) -> list[MoeFfn]:
    return [layer.ffn for layer in layers if recipe.expert_capacity and isinstance(layer.ffn, MoeFfn)]


def tokens_of_an_expert(layers: Sequence[Layer], layout: Layout, recipe: Recipe, tokens: float) -> int:
    """Most tokens that one expert is given at once, gathered from the ranks that split it; 0 where it has no places."""
    ranks = layout.expert * layout.tensor
    return max((ranks * _places(ffn, layout, recipe, tokens)[1] for ffn in _experts(layers, recipe)), default=0)


def held_inputs(layers: Sequence[Layer], recipe: Recipe, boundary: int, anew: int) -> int:
    """
    Bytes of inputs of `boundary` bytes, and their gradients, that layers made anew leave behind.

    The layer of experts keeps the loss that balances them, whose graph holds what it began with and its gradient.
    """
    return 2 * boundary * len(_experts(layers[:anew], recipe))


def dispatch_parts(
    layers: Sequence[Layer],
    kept: Sequence[tuple[Saved, ...]],
    layout: Layout,
    recipe: Recipe,
    tokens: float,
    boundary: int,
) -> list[MemoryPart]:
    """
    What is alive when the way forward of a layer of such experts ends; empty without any.

    The weights of every place in float32 and 16 bits, where they are not zero in bytes and 16 bits, and each of a
    token's experts' places in float32; of a layer made anew what it keeps as well, and the gradients of the inputs of
    those behind it.
    """
    found = _experts(layers, recipe)
    if not found:
        return []

    def masks(ffn: MoeFfn) -> int:
        seen, places = _places(ffn, layout, recipe, tokens)
        each = (_SINGLE + _HALF + 1 + _HALF) * ffn.experts + _SINGLE * ffn.per_token
        return round(each * seen * places)

    parts = [MemoryPart("masks of places", max(map(masks, found)), "9 B a token and place of every expert")]
    if recipe.recompute_layers >= len(layers):
        parts.append(recomputed_layer(kept, tokens))
        parts.append(MemoryPart("gradients of inputs", boundary * (len(layers) - 1), "of the layers behind the first"))
    return parts
