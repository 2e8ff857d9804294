"""One tensor that the backward pass needs of the forward pass, and whether it waits on the device until then."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.models.training.step_recipe import Recipe

FED_FORWARD = ("ffn", "shared", "experts")
"""Parts of a layer's feed-forward half: a dense one, shared experts, and those that tokens are sent to."""


@dataclass(frozen=True, slots=True)
class Saved:
    """
    One tensor kept from forward to backward: `nbytes` per token on one rank.

    `part` is `residual`, `norm`, `attention`, `ffn`, `shared` or `experts`; `cheap` says that it is recomputed from
    another kept tensor without a matrix product (norm outputs, activation functions). `attended` is what attention
    makes and `softmax` what it needs again for its way back alone; `heads` are queries, keys and values made of
    latents, `rotary` what turns queries and keys by their positions.
    """

    name: str
    part: str
    nbytes: float
    cheap: bool = False
    attended: bool = False
    softmax: bool = False
    heads: bool = False
    rotary: bool = False


def made_anew(item: Saved, recipe: Recipe) -> bool:
    """Whether an item is made again on the way back, its layer not being so as a whole."""
    cheap = item.cheap and recipe.makes_anew(norm=item.part == "norm")
    return cheap or (item.heads and recipe.recompute_heads) or _of_parts_made_anew(item, recipe)


def _of_parts_made_anew(item: Saved, recipe: Recipe) -> bool:
    if item.part == "ffn":
        return recipe.recompute_dense
    return (item.part in ("shared", "experts") and recipe.recompute_experts) or (
        item.part == "shared" and recipe.recompute_shared
    )


def swapped(item: Saved, recipe: Recipe) -> bool:
    """Whether what attention needs for its way back waits on the host."""
    return (recipe.swap_attention and item.part == "attention") or (recipe.swap_attended and item.attended)


def of_experts(item: Saved) -> bool:
    """Whether experts keep an item that their router and the tokens before it make again."""
    return item.part == "experts" and item.name != "router"
