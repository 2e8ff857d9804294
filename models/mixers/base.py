"""What every token mixer says of itself: its weights, what it keeps of a sequence, whose cache it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from memplan.models.cache_parts import CachePart
from memplan.models.weight_shapes import Weight


class TokenMixer:
    """
    What mixes the tokens of a sequence in a layer.

    A new kind says here what it holds and keeps; the ops it runs stand in the tables of `models.steps.mixer_kernels`.
    """

    __slots__ = ()

    @abstractmethod
    def weights(self, hidden: int) -> Iterator[Weight]:
        """Yield the weights by their local names; `hidden` is the model's width."""

    def caches(self) -> tuple[CachePart, ...]:
        """What one layer keeps of a sequence, in the order engines list it; nothing by default."""
        return ()

    @property
    def query_heads(self) -> int | None:
        """Heads of queries that attend to tokens, `None` without any."""
        return None

    @property
    def picks(self) -> int:
        """Tokens that an indexer picks for each to attend to, 0 without one."""
        return 0

    @property
    def reads(self) -> int | None:
        """The earlier layer whose cache is read, `None` for a layer that reads its own or none."""
        return None

    @property
    def alike(self) -> TokenMixer:
        """What layers that run the same ops have in common: all but whose cache they read."""
        return self
