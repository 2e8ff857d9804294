"""What a sequence's cache holds, without any engine's pages: bytes that grow with its length, windows, states."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.kv.engine import Engine
from memplan.kv.kept_entries import CacheOptions, engine_of, entry_bytes
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.parallel import ONE_RANK, Layout


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
    model: ModelConfig,
    engine: Engine,
    options: CacheOptions,
    length: int,
    span: range | None = None,
    ranks: Layout = ONE_RANK,
) -> LogicalCache:
    """
    The cache of one sequence of `length` tokens on one of `ranks`, in the formats of `engine`; `span` keeps those
    layers.

    A window counts the tokens it looks at; a compressor's state is the float32 keys and scores of its window.
    """
    total = _NOTHING
    engine = engine_of(model, engine)
    layers = [*model.layers, *(model.mtp_layers if options.mtp else ())]
    for layer in layers:
        if span is None or layer.index in span or (layer.index >= len(model.layers) and span.stop == len(model.layers)):
            for part in model.layer_caches(layer):
                total = total + _kept(part, engine, options, length, ranks)
    return total


def _kept(part: CachePart, engine: Engine, options: CacheOptions, length: int, ranks: Layout) -> LogicalCache:
    if part.reused:
        return _NOTHING
    entry = entry_bytes(part, engine, options, ranks)
    if part.content is CacheContent.RECURRENT:
        return LogicalCache(0, 0, entry)
    if part.content is CacheContent.COMPRESSOR:
        return LogicalCache(0, 0, (part.window or 0) * entry)
    if part.content is CacheContent.KEY_TAIL:
        return LogicalCache(0, 0, part.ratio * entry)
    bound = part.window or part.chunk
    if bound is not None:
        return LogicalCache(0, min(length, bound) * entry, 0)
    return LogicalCache(-(-length // ranks.context) // part.ratio * entry, 0, 0)
