"""Colours of the KV budget's pictures, out of the theme's palette."""

from __future__ import annotations

import colorsys

from memplan.gui.model.palette import Palette

_GREY = 0.2
"""Colours less saturated than this look grey."""


def _saturation(colour: int) -> float:
    red, green, blue = (colour >> shift & 255 for shift in (16, 8, 0))
    return colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[1]


def mixed(colour: int, other: int, share: float) -> int:
    """`colour` with `share` of `other` mixed in."""
    channels = ((colour >> shift & 255, other >> shift & 255) for shift in (16, 8, 0))
    red, green, blue = (round(one + (two - one) * share) for one, two in channels)
    return 0xFF000000 | red << 16 | green << 8 | blue


def cache_colour(palette: Palette) -> int:
    """The KV cache's own colour: never grey, never that of weights or activations."""
    own = palette.kind("kv_cache")
    taken = {palette.kind("weight"), palette.kind("activation"), palette.kind("workspace")}
    if _saturation(own) >= _GREY and own not in taken:
        return own
    return next((item for item in palette.colours if _saturation(item) >= _GREY and item not in taken), own)


def stack_colours(palette: Palette) -> dict[str, int]:
    """Colours by the role of a segment of the HBM stack."""
    cache = cache_colour(palette)
    return {
        "reserved": palette.role("line"),
        "weight": palette.kind("weight"),
        "activation": palette.kind("activation"),
        "communication": palette.category("Communication"),
        "workspace": palette.kind("workspace"),
        "kv": cache,
        "free": mixed(cache, palette.role("ground"), 0.6),
        "other": palette.role("faint"),
    }


def group_colours(palette: Palette, count: int) -> list[int]:
    """Colours of `count` groups of caches, the first that of the KV cache, none of them grey."""
    cache = cache_colour(palette)
    colours = [cache, *(item for item in palette.colours if item != cache and _saturation(item) >= _GREY)]
    return [colours[place % len(colours)] for place in range(count)]
