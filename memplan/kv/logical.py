"""What a sequence's cache holds, without any engine's pages: bytes that grow with its length, windows, states."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.kv.engine import Engine
from memplan.kv.layers import CacheOptions, entry_format, kv_bytes, latent_entry_bytes, share, state_parts
from memplan.kv.layers import State as StateMixer
from memplan.models import ModelConfig
from memplan.models.architecture import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    Layer,
    SharedCompressedAttention,
)

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LogicalCache:
    """
    Bytes one sequence needs.

    `length_bytes` grow with the sequence, `window_bytes` stop at a window or a chunk, `state_bytes` never change.
    """

    length_bytes: int
    window_bytes: int
    state_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.length_bytes + self.window_bytes + self.state_bytes

    def __add__(self, other: LogicalCache) -> LogicalCache:
        """The sum of two layers' caches."""
        return LogicalCache(
            self.length_bytes + other.length_bytes,
            self.window_bytes + other.window_bytes,
            self.state_bytes + other.state_bytes,
        )


_NOTHING = LogicalCache(0, 0, 0)


def logical_cache(
    model: ModelConfig, engine: Engine, options: CacheOptions, length: int, span: range | None = None
) -> LogicalCache:
    """
    The cache of one sequence of `length` tokens on one rank, in the formats of `engine`; `span` keeps those layers.

    A window counts the tokens it looks at; a compressor's state is the float32 keys and scores of its window.
    """
    total = _NOTHING
    layers = [*model.layers, *(model.mtp_layers if options.mtp else ())]
    for layer in layers:
        if span is None or layer.index in span or (layer.index >= len(model.layers) and span.stop == len(model.layers)):
            total = total + _layer(layer, engine, options, length)
    return total


def _layer(layer: Layer, engine: Engine, options: CacheOptions, length: int) -> LogicalCache:
    mixer = layer.mixer
    if isinstance(mixer, GroupedAttention):
        if mixer.shares_kv_of is not None:
            return _NOTHING
        element = kv_bytes(engine, options)
        heads = share(mixer.kv_heads, options.tensor_parallel, "key/value heads")
        token = heads * (mixer.head_dim + mixer.head_dim_v) * element
        bound = mixer.window or mixer.chunk
        if bound is not None:
            return LogicalCache(0, min(length, bound) * token, 0)
        return LogicalCache(-(-length // options.context_parallel) * token, 0, 0)
    if isinstance(mixer, LatentAttention):
        return LogicalCache(-(-length // options.context_parallel) * _latent(mixer, engine, options), 0, 0)
    if isinstance(mixer, CompressedAttention):
        return _compressed(mixer, engine, options, length)
    if isinstance(mixer, SharedCompressedAttention):
        return _shared_compressed(mixer, engine, options, length)
    if isinstance(mixer, StateMixer):
        return LogicalCache(0, 0, sum(state_parts(mixer, options)))
    return _NOTHING


def _latent(mixer: LatentAttention, engine: Engine, options: CacheOptions) -> int:
    layout = engine.latent
    entry = latent_entry_bytes(mixer, engine, options)
    if mixer.indexer is not None:
        index = layout.index_c8 if options.index_c8 and layout.index_c8 is not None else layout.index
        entry += index.size(mixer.indexer.head_dim)
    return entry


def _shared_compressed(
    mixer: SharedCompressedAttention, engine: Engine, options: CacheOptions, length: int
) -> LogicalCache:
    layout = engine.compressed
    if layout is None:
        return _NOTHING
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    window = min(length, mixer.window) * kept.size(mixer.head_dim)
    if not mixer.owns_entries:
        return LogicalCache(0, window, 0)
    index = layout.index_c8 if options.index_c8 and layout.index_c8 is not None else layout.index
    entry = kept.size(mixer.head_dim) + index.size(mixer.index_dim)
    state = mixer.ratio * 2 * mixer.head_dim * _FLOAT32_BYTES if mixer.ratio > 1 else 0
    return LogicalCache(-(-length // options.context_parallel) // mixer.ratio * entry, window, state)


def _compressed(mixer: CompressedAttention, engine: Engine, options: CacheOptions, length: int) -> LogicalCache:
    layout = engine.compressed
    if layout is None:
        return _NOTHING
    kept = entry_format(layout.formats, engine, options, "compressed cache")
    window = min(length, mixer.window) * kept.size(mixer.head_dim)
    if not mixer.ratio:
        return LogicalCache(0, window, 0)
    entry = kept.size(mixer.head_dim)
    elements = mixer.head_dim
    if mixer.indexer is not None:
        index = layout.index_c8 if options.index_c8 and layout.index_c8 is not None else layout.index
        entry += index.size(mixer.indexer.head_dim)
        elements += mixer.indexer.head_dim
    rows = mixer.overlap * mixer.ratio
    state = rows * 2 * mixer.overlap * elements * _FLOAT32_BYTES
    return LogicalCache(-(-length // options.context_parallel) // mixer.ratio * entry, window, state)
