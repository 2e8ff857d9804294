"""Attention and a state-space mixer side by side in one layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.models.cache_parts import CachePart
from memplan.models.mixers.base import TokenMixer
from memplan.models.mixers.grouped_attention import GroupedAttention
from memplan.models.mixers.recurrent_mixers import Mamba2
from memplan.models.weight_shapes import Weight


@dataclass(frozen=True, slots=True)
class ParallelMixer(TokenMixer):
    """Attention and Mamba-2 that read the same input, their outputs summed (Falcon-H1)."""

    attention: GroupedAttention
    state_space: Mamba2

    @property
    def query_heads(self) -> int:
        """Heads of queries that attend to tokens."""
        return self.attention.heads

    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names, which both parts share none of."""
        yield from self.attention.weights(hidden)
        yield from self.state_space.weights(hidden)

    def caches(self) -> tuple[CachePart, ...]:
        """What attention keeps, and the state."""
        return (*self.attention.caches(), *self.state_space.caches())
