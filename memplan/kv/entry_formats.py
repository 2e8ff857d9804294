"""How an engine lays out what caches hold: bytes of an entry by format, and blocks of compressed and latent ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntryFormat:
    """
    Bytes of one cached vector: `entry_bytes` whatever its width, else its elements and `extra_elements` more.

    `alignment` is what a page of them is padded to a multiple of. Windows of the same format keep `window_bytes` a
    token where that differs, and blocks that hold them begin at multiples of `window_stride`. States beside them are
    padded to `state_bytes` for each token of a window's block where that differs.
    """

    element_bytes: int
    extra_elements: int
    entry_bytes: int | None
    alignment: int
    window_bytes: int | None = None
    window_stride: int = 1
    state_bytes: int | None = None

    def size(self, elements: int) -> int:
        """Bytes of a vector of `elements`."""
        return self.entry_bytes or (elements + self.extra_elements) * self.element_bytes


@dataclass(frozen=True, slots=True)
class IndexFormat:
    """Bytes of an indexer's key: its elements and one scale for every `scale_group` of them."""

    element_bytes: float
    scale_bytes: int
    scale_group: int
    alignment: int = 1

    def size(self, elements: int) -> int:
        """Bytes of a key of `elements`."""
        return int(elements * self.element_bytes) + elements // self.scale_group * self.scale_bytes


@dataclass(frozen=True, slots=True)
class CompressedBlocks:
    """
    Blocks of DeepSeek-V4 at one block size: tokens of a window's block, rows of a state's block by ratio, pads.

    A ratio without rows keeps no state.
    """

    window: int
    states: Mapping[int, int]
    index_pad: int | None
    main_pad: int | None
    window_pad: int | None


@dataclass(frozen=True, slots=True)
class CompressedLayout:
    """
    How DeepSeek-V4's caches are kept.

    `counts_entries` says a block holds `block_size` compressed entries, otherwise that it spans as many tokens.
    `by_ratio` gives each ratio its own group; `whole_tuples` allocates every page size for every tuple of layers.
    `ratios` are those it knows. `ring_rows` are the fewest rows of a compressor's ring where it keeps one instead of a
    window of its states, 0 where it does not. Blocks of more than `native_block` tokens are read as several, at whose
    pages they begin.
    `blocks` is by block size, `None` for any. `slots` deals layers to as many slots as there are that keep entries,
    `page_tokens` is the size of a block whatever the engine calls it, `folded_ratio` the ratio of those entries whose
    index keys are kept once more, folded. `runner` is the model runner that must be asked for, `tensor` the only sizes
    of tensor parallelism, then without any other.
    """

    counts_entries: bool
    by_ratio: bool
    whole_tuples: bool
    ratios: tuple[int, ...]
    ring_rows: int
    native_block: int | None
    slots: bool
    page_tokens: int | None
    folded_ratio: int | None
    runner: str | None
    tensor: tuple[int, ...]
    formats: Mapping[str, EntryFormat]
    indexes: Mapping[str, IndexFormat]
    blocks: Mapping[int | None, CompressedBlocks]


@dataclass(frozen=True, slots=True)
class LatentLayout:
    """
    How latent caches are kept, and with them the indexer's keys: in the latent's page or in pages of their own.

    `packed_tile` is how many elements share a scale where latent, positions and scales are packed into one entry.
    `index_repeated` says that ranks of context parallelism each keep the keys of all.
    """

    formats: Mapping[str, EntryFormat]
    indexes: Mapping[str, IndexFormat]
    index_in_page: bool
    index_kept_by_shared: bool
    index_repeated: bool
    packed_tile: int | None
