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
    pipeline: int = 1
    batched_tokens: int | None = None
    asynchronous: bool = False
    in_flight_tokens: int | None = None
    hybrid: bool = True
    blocks: int | None = None


def stage_layers(layers: int, stages: int) -> tuple[range, ...]:
    """The layers of every pipeline stage, dealt evenly; what is left over goes to the stages before the last (vLLM)."""
    if not 1 <= stages <= layers:
        raise InputError(f"{layers} layers can't be divided among {stages} pipeline stages")
    counts = [layers // stages] * stages
    for extra in range(layers % stages):
        counts[stages - 2 - extra] += 1
    starts = [sum(counts[:stage]) for stage in range(stages)]
    return tuple(range(start, start + count) for start, count in zip(starts, counts, strict=True))


def load_of(engine: Engine, options: ServingOptions) -> Load:
    """What the engine must be ready to hold for one request."""
    tokens = options.in_flight_tokens
    if tokens is None:
        tokens = engine.in_flight_tokens(
            options.batched_tokens or engine.batched_tokens,
            asynchronous=options.asynchronous,
            pipeline=options.pipeline,
        )
    states = (2 if options.caches.state_aligned else 1) + options.caches.speculative_tokens
    return Load(options.length, tokens, options.caches.context_parallel, states)


def cache_groups(model: ModelConfig, engine: Engine, options: ServingOptions) -> tuple[CacheGroup, ...]:
    """The groups of block tables of the whole model."""
    if options.length < 1:
        raise InputError(f"a sequence of {options.length} tokens can't be served")
    specs = cache_specs(model, engine, options.caches, options.length)
    if (
        options.caches.context_parallel > 1
        and any(spec.window is not None for spec in specs)
        and not (engine.compressed is not None and engine.compressed.by_ratio)
    ):
        raise InputError(f"{engine.name} does not spread sliding windows over context-parallel ranks")
    return form_groups(
        specs, hybrid=options.hybrid, by_ratio=engine.compressed is not None and engine.compressed.by_ratio
    )


def plan_stages(
    model: ModelConfig, engine: Engine, options: ServingOptions, available: tuple[int, ...]
) -> tuple[BlockPool, ...]:
    """
    The pool of every pipeline stage for the `available` bytes of each, all cut to the number of blocks of the
    smallest.
    """
    if not engine.paged:
        return _unpaged(model, engine, options, available)
    groups = cache_groups(model, engine, options)
    load = load_of(engine, options)
    whole_tuples = engine.compressed is not None and engine.compressed.whole_tuples
    stages = stage_layers(len(model.layers), options.pipeline)
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
    model: ModelConfig, engine: Engine, options: ServingOptions, available: tuple[int, ...]
) -> tuple[BlockPool, ...]:
    """Without pages a block is a byte: as many sequences fit as the bytes of each allow."""
    pools = []
    for span, memory in zip(stage_layers(len(model.layers), options.pipeline), available, strict=True):
        needed = logical_cache(model, engine, options.caches, options.length, span).total_bytes
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


def plan_cache(model: ModelConfig, engine: Engine, options: ServingOptions, available: int) -> BlockPool:
    """The pool of one rank of a model without pipeline parallelism, for `available` bytes."""
    return plan_stages(model, engine, replace(options, pipeline=1), (available,))[0]
