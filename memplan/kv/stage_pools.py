"""From a model, an engine and its options to the pool of blocks, on every stage of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memplan.core.errors import InputError
from memplan.kv.engine import Engine
from memplan.kv.groups import CacheGroup, form_groups
from memplan.kv.layers import CacheOptions, cache_specs
from memplan.kv.logical import logical_cache
from memplan.kv.pool import BlockPool, Refusal, plan_pool
from memplan.kv.specs import Load
from memplan.models import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout, stage_spans


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """
    How the engine is started: its caches, and how much it schedules at once.

    `length` is the longest sequence, `batched_tokens` the most tokens of one step (`None`: the engine's default),
    `asynchronous` whether steps are scheduled ahead. `in_flight_tokens` sets directly what windows must hold beside
    their own tokens. `hybrid` off keeps windows as if they were full attention. `blocks` overrides the number of
    blocks.
    """

    length: int
    caches: CacheOptions = field(default_factory=CacheOptions)
    batched_tokens: int | None = None
    asynchronous: bool = False
    in_flight_tokens: int | None = None
    hybrid: bool = True
    blocks: int | None = None


def load_of(engine: Engine, options: ServingOptions, layout: Layout = ONE_RANK) -> Load:
    """What the engine must be ready to hold for one request."""
    tokens = options.in_flight_tokens
    if tokens is None:
        tokens = engine.in_flight_tokens(
            options.batched_tokens or engine.batched_tokens,
            asynchronous=options.asynchronous,
            pipeline=layout.pipeline,
        )
    states = (2 if options.caches.state_aligned else 1) + options.caches.speculative_tokens
    return Load(options.length, tokens, layout.context, states)


def cache_groups(
    model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout = ONE_RANK
) -> tuple[CacheGroup, ...]:
    """The groups of block tables of the whole model."""
    if options.length < 1:
        raise InputError(f"a sequence of {options.length} tokens can't be served")
    specs = cache_specs(model, engine, options.caches, options.length, layout)
    if (
        layout.context > 1
        and any(spec.window is not None for spec in specs)
        and not (engine.compressed is not None and engine.compressed.by_ratio)
    ):
        raise InputError(f"{engine.name} does not spread sliding windows over context-parallel ranks")
    return form_groups(
        specs, hybrid=options.hybrid, by_ratio=engine.compressed is not None and engine.compressed.by_ratio
    )


def plan_stages(
    model: ModelConfig,
    engine: Engine,
    options: ServingOptions,
    available: tuple[int, ...],
    layout: Layout = ONE_RANK,
) -> tuple[BlockPool, ...]:
    """
    The pool of every pipeline stage for the `available` bytes of each, all cut to the number of blocks of the
    smallest.
    """
    if not engine.paged:
        return _unpaged(model, engine, options, available, layout)
    groups = cache_groups(model, engine, options, layout)
    load = load_of(engine, options, layout)
    whole_tuples = engine.compressed is not None and engine.compressed.whole_tuples
    stages = stage_spans(len(model.layers), layout)
    last = stages[-1]
    # The layers of multi-token prediction stand behind the last layer, on the last stage.
    spans = (*stages[:-1], range(last.start, last.stop + len(model.mtp_layers)))
    if len(available) != len(spans):
        raise InputError(f"{len(spans)} pipeline stages need as many figures of available memory, not {len(available)}")
    pools = [
        plan_pool(
            [group.on_stage(span) for group in groups], load, memory, whole_tuples=whole_tuples, blocks=options.blocks
        )
        for span, memory in zip(spans, available, strict=True)
    ]
    least = min(pool.num_blocks for pool in pools)
    return tuple(
        replace(
            pool,
            num_blocks=least,
            max_concurrency=pool.max_concurrency * least / pool.num_blocks if pool.num_blocks else 0.0,
            sequences=max(0, least - 1) // pool.blocks_per_request,
        )
        for pool in pools
    )


def _unpaged(
    model: ModelConfig, engine: Engine, options: ServingOptions, available: tuple[int, ...], layout: Layout
) -> tuple[BlockPool, ...]:
    """Without pages a block is a byte: as many sequences fit as the bytes of each allow."""
    pools = []
    for span, memory in zip(stage_spans(len(model.layers), layout), available, strict=True):
        needed = logical_cache(model, engine, options.caches, options.length, span, layout).total_bytes
        if not needed:
            raise InputError("this model keeps no KV cache")
        message = f"One sequence of {options.length} tokens needs {needed} B, {memory} B are left."
        pools.append(
            BlockPool(
                groups=(),
                available_bytes=memory,
                num_blocks=memory,
                bytes_per_block=1,
                planned_per_block=1,
                allocated_per_block=1,
                blocks_per_request=needed,
                max_concurrency=memory / needed,
                sequences=memory // needed,
                refusal=None if needed <= memory else Refusal(needed, memory, 0, message),
            )
        )
    return tuple(pools)


def plan_cache(
    model: ModelConfig, engine: Engine, options: ServingOptions, available: int, layout: Layout = ONE_RANK
) -> BlockPool:
    """The pool of one rank of a model without pipeline parallelism, for `available` bytes."""
    return plan_stages(model, engine, options, (available,), replace(layout, pipeline=1))[0]
