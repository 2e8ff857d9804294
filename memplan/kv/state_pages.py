"""Blocks of attention beside recurrent states: both take pages of one size."""

from __future__ import annotations

import math
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import CacheOptions, cache_parts, entry_format, head_bytes, heads_of_rank, recurrent_bytes
from memplan.models import ModelConfig
from memplan.models.cache_parts import CacheContent, CachePart
from memplan.models.parallel import Layout


def _key_bytes(part: CachePart, engine: Engine, options: CacheOptions, ranks: Layout) -> tuple[int, int]:
    """Bytes of one token's keys alone and of all it caches, in one layer of attention."""
    if part.content is CacheContent.LATENT:
        latent = entry_format(engine.latent.formats, engine, options, "latent cache")
        return latent.size(part.widths[0]), latent.size(part.elements)
    heads = heads_of_rank(part.heads, ranks.tensor)
    keys, both = head_bytes(part, engine, options)
    return int(heads * keys), int(heads * both)


def _state_bytes(model: ModelConfig, options: CacheOptions, ranks: Layout) -> list[tuple[int, int]]:
    return [
        recurrent_bytes(part, options, ranks) for part in cache_parts(model) if part.content is CacheContent.RECURRENT
    ]


def _drafted(engine: Engine, options: CacheOptions, state: int) -> CacheOptions:
    """`options`, whose page must hold a `state` with drafts, also where it was sized without."""
    if state > options.state_page:
        raise InputError(
            "{} refuses this model: a recurrent state with drafts takes {} B, its page {} B",
            engine.name,
            state,
            options.state_page,
            remedy="serve without drafts, or with a larger block size",
        )
    return options


def with_states_aligned(
    model: ModelConfig, engine: Engine, options: CacheOptions, ranks: Layout, reason: Text
) -> tuple[CacheOptions, Text]:
    """
    `options` with the block size of attention beside recurrent states and the page both are padded to; `reason` is
    why the block size is what it is so far.

    Raises `InputError` where keys and states can't be made alike.
    """
    kept = cache_parts(model)
    size = options.block_size or engine.default_block_size
    states = _state_bytes(model, options, ranks)
    drafted = 0
    if model.model_type in engine.states.undrafted:
        drafted = max(sum(state) for state in states)
        states = _state_bytes(model, replace(options, speculative_tokens=0), ranks)
    # A model that drafts attends where no layer of its target does, and a platform may not look whether one does (the
    # 310P's): pages then are those the target's file describes.
    if model.draft is not None or engine.states.rule == "cover_aligned":
        kept = [*kept, *model.unused_attention]
    attention = [part for part in kept if part.content in (CacheContent.HEADS, CacheContent.LATENT)]
    window, state = max(states)
    if not attention:
        return replace(options, state_page=window + state), reason
    keys, token = _key_bytes(attention[0], engine, options, ranks)
    rules = engine.states
    grown = Sentence("the smallest whose page covers a recurrent state of {} B", (f"{window + state:,}",))
    if rules.rule in ("cover", "cover_aligned"):
        step = rules.alignment
        if rules.rule == "cover":
            step = max(size, step, options.kernel_block)
        if rules.latent_alignment is not None and attention[0].content is CacheContent.LATENT:
            step = max(step, rules.latent_alignment)
        step = math.lcm(step, options.checkpoint_tokens)
        aligned = step * -(-(window + state) // (step * token))
        aligned = options.kernel_block * -(-aligned // options.kernel_block)
        chosen = max(size, aligned)
        page = max(chosen * token, window + state)
        return _drafted(engine, replace(options, block_size=chosen, state_page=page), drafted), (
            reason if chosen == size else grown
        )
    larger, smaller = max(state, window), min(state, window)
    aligned = rules.alignment * -(-larger // (rules.alignment * keys))
    if keys * aligned != larger:
        raise InputError(
            "{} refuses this model: Cannot align ssm_page_size and attn_page_size. ({} B of state, {} B "
            "of keys per token)",
            engine.name,
            larger,
            keys,
            remedy="another tensor parallelism changes both",
        )
    chosen = max(size, aligned)
    return _drafted(engine, replace(options, block_size=chosen, state_page=chosen * token + smaller), drafted), (
        reason if chosen == size else grown
    )
