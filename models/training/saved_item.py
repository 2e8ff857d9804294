"""One tensor that the backward pass needs of the forward pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saved:
    """
    One tensor kept from forward to backward: `nbytes` per token on one rank.

    `part` is `residual`, `norm`, `attention`, `ffn` or `experts`; `cheap` says that it is recomputed from another
    kept tensor without a matrix product (norm outputs, activation functions). `attended` is what attention makes and
    `softmax` what it needs again for its way back alone; `heads` are queries, keys and values made of latents,
    `rotary` what turns queries and keys by their positions.
    """

    name: str
    part: str
    nbytes: float
    cheap: bool = False
    attended: bool = False
    softmax: bool = False
    heads: bool = False
    rotary: bool = False
