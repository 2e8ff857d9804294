"""The cache of one layer as an engine keeps it: pages, what is in them, and how many one request can come to hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CacheKind(str, Enum):
    """What bounds the pages of a request: its length, a window, a chunk, or nothing but a fixed state."""

    FULL = "full"
    LATENT = "latent"
    SLIDING = "sliding"
    SLIDING_LATENT = "sliding_latent"
    CHUNKED = "chunked"
    STATE = "state"
    RING = "ring"

    @property
    def grows(self) -> bool:
        """Whether a request holds more pages the longer it gets, without bound."""
        return self in (CacheKind.FULL, CacheKind.LATENT)


@dataclass(frozen=True, slots=True)
class Load:
    """
    What an engine must be ready to hold for one request.

    `length` is the longest sequence, `in_flight_tokens` the most tokens scheduled and not yet finished,
    `context_parallel` over how many ranks the tokens of full-attention layers are spread. `state_blocks` is how many
    copies of a recurrent state a request holds; `None` says one per block of tokens, and one for each of `drafts`.
    """

    length: int
    in_flight_tokens: int
    context_parallel: int = 1
    state_blocks: int | None = 1
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """
    The cache of one part of one layer.

    `block_size` is what a page holds as the engine counts it, in entries of `entry_tokens` tokens each.
    `payload_bytes` of the `page_bytes` are content, the rest is padding. `layout` is what two specs must have alike
    to be one: heads, widths, types. Pages are padded to multiples of `alignment`, and blocks of several layers begin at
    multiples of `stride` bytes.
    `speculative` marks the layers of multi-token prediction.
    """

    layer: int
    part: str
    kind: CacheKind
    block_size: int
    payload_bytes: int
    page_bytes: int
    layout: tuple[object, ...]
    entry_tokens: int = 1
    window: int | None = None
    chunk: int | None = None
    alignment: int = 1
    stride: int = 1
    speculative: bool = False

    @property
    def name(self) -> str:
        """The layer and the part of it, such as `layers.3.attn`."""
        return f"layers.{self.layer}.{self.part}"

    @property
    def identity(self) -> tuple[object, ...]:
        """What two specs share when an engine regards them as the same: everything but the layer."""
        return (self.kind, self.block_size, self.page_bytes, self.layout, self.entry_tokens, self.window, self.chunk)

    def blocks(self, load: Load) -> int:
        """Pages one request can come to hold under `load`."""
        if self.kind.grows:
            tokens = -(-load.length // load.context_parallel)
            return -(-tokens // (self.block_size * self.entry_tokens))
        if self.kind is CacheKind.RING:
            return 1
        if self.window is not None:
            # One more than the tokens fill: the window need not begin where a page does.
            tokens = min(self.window - 1 + load.in_flight_tokens, load.length)
            return -(-tokens // self.block_size) + 1
        if self.chunk is not None:
            return -(-min(self.chunk + load.in_flight_tokens, load.length) // self.block_size)
        if load.state_blocks is None:
            return -(-load.length // self.block_size) + load.drafts
        return load.state_blocks
