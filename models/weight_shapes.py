"""One weight tensor: its shape, what it belongs to and how tensor parallelism divides it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class WeightGroup(str, Enum):
    """What a weight belongs to."""

    EMBEDDING = "embedding"
    LM_HEAD = "lm_head"
    ATTENTION = "attention"
    INDEXER = "indexer"
    DENSE_FFN = "dense_ffn"
    ROUTER = "router"
    EXPERTS = "experts"
    SHARED_EXPERTS = "shared_experts"
    NORM = "norm"
    HYPER_CONNECTIONS = "hyper_connections"
    VISION = "vision"
    LOOKUP = "lookup"


class Split(str, Enum):
    """
    How tensor parallelism divides a weight.

    `KV` is split by key/value heads and repeated where there are fewer heads than ranks; `EXPERT` follows the experts;
    `TOWER` is split where all ranks get as many heads, and repeated on each elsewhere.
    """

    NONE = "none"
    HEADS = "heads"
    KV = "kv"
    WIDTH = "width"
    VOCABULARY = "vocabulary"
    EXPERT = "expert"
    TOWER = "tower"


@dataclass(frozen=True, slots=True)
class Weight:
    """
    One weight tensor of `shape` elements; `copies` of it exist (routed experts).

    `units` is what a rank gets a whole number of along the split side: heads, key/value heads, columns. `linear` is
    true for the matrices of products, which quantisation applies to unless they are `wide`. `layer` is `None` outside
    the layers, and for the layers of multi-token prediction counts on behind the decoder's last one. `looked_up` is
    true outside the layers for what makes the first layer's input: embeddings and what works on their rows.
    """

    name: str
    group: WeightGroup
    shape: tuple[int, ...]
    split: Split = Split.NONE
    units: int = 1
    copies: int = 1
    linear: bool = False
    layer: int | None = None
    wide: bool = False
    looked_up: bool = False

    @property
    def own_name(self) -> str:
        """The last part of the name, as it is called in every layer (`q_proj`)."""
        return self.name.rpartition(".")[2]

    @property
    def elements(self) -> int:
        """Elements of all copies."""
        return self.copies * math.prod(self.shape)


def matrix_weight(
    name: str, group: WeightGroup, rows: int, columns: int, split: Split = Split.NONE, units: int = 1
) -> Weight:
    """Make a matrix of `rows` x `columns` that products take and quantisation applies to."""
    return Weight(name, group, (rows, columns), split, units, linear=True)


def wide_weight(name: str, group: WeightGroup, rows: int, columns: int) -> Weight:
    """A matrix that checkpoints keep in 16 bits beside quantised ones."""
    return Weight(name, group, (rows, columns), linear=True, wide=True)


def vector_weight(name: str, group: WeightGroup, size: int, split: Split = Split.NONE, units: int = 1) -> Weight:
    """Make a vector of `size` elements, or a bias or norm."""
    return Weight(name, group, (size,), split, units)


def table_weight(name: str, group: WeightGroup, rows: int, columns: int) -> Weight:
    """Make a table of `rows` x `columns` that no product takes."""
    return Weight(name, group, (rows, columns))
