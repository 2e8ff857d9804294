"""The block size of an engine: the one asked for, forced or read by its kernel, and that beside states."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.kv.engine import AttentionBackend, Engine
from memplan.kv.kept_entries import block_sizes, cache_parts, engine_of
from memplan.kv.settings.attention_choice import attention_kind
from memplan.kv.settings.serving_options import GIVEN, ServingOptions
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent


def _default_block(engine: Engine, backend: AttentionBackend | None) -> tuple[int, Text]:
    """The block size that the engine takes when none is asked for."""
    size = engine.default_block_size
    if backend is None or (backend.reads_block(size) and all(size % block == 0 for block in backend.beside)):
        return size, Sentence("the engine's default")
    least = min(math.lcm(block, *backend.beside) for block in backend.kernel_blocks)
    return least, Sentence("the smallest that {} reads", (backend.name,))


def kernel_block(model: ModelConfig, backend: AttentionBackend | None) -> int:
    """
    The tokens of which blocks beside states are multiples: those the kernel reads, and whole pages of pooled keys
    (vllm 0.33.0 v1/attention/backends/mla/indexer.py Glm5NextIndexerBackend).
    """
    if backend is None:
        return 1
    keys = (CacheContent.INDEX_KEYS, CacheContent.BLOCK_KEYS)
    pools = {part.ratio for part in cache_parts(model) if part.content in keys and part.ratio > 1}
    return math.lcm(min(backend.kernel_blocks), *(pool * min(backend.beside, default=1) for pool in pools))


def chosen_block(
    model: ModelConfig, engine: Engine, options: ServingOptions, backend: AttentionBackend | None
) -> tuple[int, Text]:
    """
    The tokens of a block and why it has so many.

    Raises `InputError` for a size that the engine does not take.
    """
    asked = options.caches.block_size
    kind = attention_kind(model, engine_of(model, engine))
    hybrid = engine.states.hybrid(model)
    forced = kind in (None, "heads", "latent", "sparse_latent") or (kind == "shared_compressed" and asked is not None)
    # Tokens in flight given as such are what a planner was told: so is the block size then.
    if engine.forced_block is not None and forced and not hybrid and options.in_flight_tokens is None:
        return engine.forced_block, Sentence("forced with prefix caching and chunked prefill")
    size, reason = (asked, GIVEN) if asked is not None else _default_block(engine, backend)
    allowed = block_sizes(model, engine) if kind == "compressed" or engine.forced_block is None else None
    if asked is not None and allowed is not None and size not in allowed and engine.compressed_block is not None:
        return engine.compressed_block, Sentence("in place of {}, which compressed caches can't have", (str(size),))
    if size < 1 or (allowed is not None and size not in allowed):
        names = ", ".join(map(str, allowed)) if allowed else "1 and more"
        raise InputError(
            "{} does not take a block size of {}", engine.name, size, remedy=Sentence("it takes {}", (names,))
        )
    return size, reason


def state_tokens(model: ModelConfig, checkpoints: Sequence[int | None], *, whole: bool) -> int:
    """
    The tokens of which blocks beside states are multiples: those of checkpoints where every state has some, or where a
    state is kept for every block those that a recurrence computes at once.
    """
    if whole:
        return math.lcm(*(part.state.chunk for part in cache_parts(model) if part.state is not None))
    known = [tokens for tokens in checkpoints if tokens is not None]
    return math.lcm(*known) if known and len(known) == len(checkpoints) else 1
