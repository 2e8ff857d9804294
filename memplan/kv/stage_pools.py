"""From a model, an engine and its options to the pool of blocks, on every stage of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.core.errors import InputError
from memplan.kv.engine import Engine
from memplan.kv.grouping import CacheGroup, GroupRules, form_groups
from memplan.kv.kept_entries import engine_of
from memplan.kv.layers import cache_specs
from memplan.kv.logical import logical_cache
from memplan.kv.pool import BlockPool, PoolRules, Refusal, buffered_memory, plan_pool
from memplan.kv.runnable import check_draft_names
from memplan.kv.settings import EngineSettings, ServingOptions, resolve
from memplan.kv.specs import CacheKind, Load
from memplan.models import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout, stage_spans


def load_of(model: ModelConfig, engine: Engine, options: ServingOptions, layout: Layout = ONE_RANK) -> Load:
    """What the engine must be ready to hold for one request."""
    return settings_load(resolve(model, engine, options, layout), layout)


def settings_load(settings: EngineSettings, layout: Layout) -> Load:
    """What must be held for one request under `settings`."""
    options = settings.options
    drafts = options.caches.speculative_tokens
    return Load(options.length, options.in_flight_tokens or 0, layout.context, settings.state_blocks, drafts)


def cache_groups(
    model: ModelConfig, engine: Engine, settings: EngineSettings, layout: Layout = ONE_RANK
) -> tuple[CacheGroup, ...]:
    """The groups of block tables of the whole model."""
    options = settings.options
    specs = cache_specs(model, engine, options.caches, options.length, layout)
    check_draft_names(model, engine, specs, layout)
    rules = _group_rules(model, engine, settings)
    groups = form_groups(specs, rules)
    # Windows beside compressed caches are of the same class of specs, which asks for one rank.
    kinds = CacheKind.SLIDING, CacheKind.SLIDING_LATENT
    if layout.context > 1 and any(spec.kind in kinds for group in groups for spec in group.specs):
        raise InputError("{} does not spread sliding windows over context-parallel ranks", engine.name)
    return groups


def _buffered(
    model: ModelConfig,
    engine: Engine,
    settings: EngineSettings,
    spans: Sequence[range],
    available: tuple[int, ...],
    layout: Layout,
) -> tuple[int, ...]:
    """What each stage says it has: its worker groups the layers it holds as if they were the model."""
    options, rules = settings.options, _group_rules(model, engine, settings)
    specs = cache_specs(model, engine, options.caches, options.length, layout)
    held = ([spec for spec in specs if spec.layer in span] for span in spans)
    return tuple(
        buffered_memory(form_groups(stage, rules), memory, engine.planner.shared_buffers)
        for stage, memory in zip(held, available, strict=True)
    )


def _group_rules(model: ModelConfig, engine: Engine, settings: EngineSettings) -> GroupRules:
    kept = next(iter(engine_of(model, engine).compressed), None)
    return GroupRules(
        settings.options.hybrid,
        by_ratio=kept is not None and kept.by_ratio,
        slots=kept is not None and kept.slots,
        side_by_side=settings.block_outermost,
        pads_pages=engine.planner.pads_pages,
        drafts_together=engine.planner.drafts_beside_states
        and model.vision is not None
        and model.draft_method in ("eagle", "eagle3"),
    )


def plan_stages(
    model: ModelConfig,
    engine: Engine,
    options: ServingOptions,
    available: tuple[int, ...],
    layout: Layout = ONE_RANK,
    *,
    profiled: bool = False,
) -> tuple[BlockPool, ...]:
    """
    The pool of every pipeline stage for the `available` bytes of each, all cut to the number of blocks of the
    smallest.

    `profiled` says that the bytes are what a worker finds free, of which some engines use a part; otherwise they are
    what the cache is told to take.
    """
    return settings_pools(model, engine, resolve(model, engine, options, layout), available, layout, profiled=profiled)


def settings_pools(
    model: ModelConfig,
    engine: Engine,
    settings: EngineSettings,
    available: tuple[int, ...],
    layout: Layout,
    *,
    profiled: bool,
) -> tuple[BlockPool, ...]:
    """The pools of `plan_stages` for settings with nothing left open."""
    options = settings.options
    if not engine.paged:
        return _unpaged(model, engine, options, available, layout)
    groups = cache_groups(model, engine, settings, layout)
    load = settings_load(settings, layout)
    compressed = engine_of(model, engine).compressed
    rules = PoolRules(
        engine.planner,
        whole_tuples=bool(compressed) and compressed[0].whole_tuples,
        side_by_side=settings.block_outermost,
        blocks=options.blocks,
        fits_length=options.fits_length,
    )
    stages = stage_spans(len(model.layers), layout)
    last = stages[-1]
    # The layers of multi-token prediction stand behind the last layer, on the last stage.
    spans = (*stages[:-1], range(last.start, last.stop + len(model.mtp_layers)))
    if len(available) != len(spans):
        raise InputError(
            "{} pipeline stages need as many figures of available memory, not {}", len(spans), len(available)
        )
    if profiled and engine.planner.buffers_by_layer and model.model_type not in engine.planner.shared_types:
        available = _buffered(model, engine, settings, spans, available, layout)
    staged = [[group.on_stage(span) for group in groups] for span in spans]
    _check_stages(engine, staged, load, available, rules)
    if settings.own_layouts:
        _check_layouts(engine, staged)
    pools = [plan_pool(stage, load, memory, rules) for stage, memory in zip(staged, available, strict=True)]
    if options.fits_length and len(pools) > 1:
        # All stages serve the length that the tightest of them holds.
        refusal = next((pool.refusal for pool in pools if pool.refusal is not None), None)
        load = replace(load, length=load.length if refusal else min(pool.length for pool in pools))
        rules = replace(rules, fits_length=False)
        pools = [plan_pool(stage, load, memory, rules) for stage, memory in zip(staged, available, strict=True)]
        pools = [replace(pool, refusal=refusal or pool.refusal) for pool in pools]
    least = min(pool.num_blocks for pool in pools)
    return tuple(
        replace(
            pool,
            num_blocks=least,
            sequences=max(0, least - 1) // pool.blocks_per_request,
        )
        for pool in pools
    )


def _check_stages(
    engine: Engine,
    staged: Sequence[Sequence[CacheGroup]],
    load: Load,
    available: Sequence[int],
    rules: PoolRules,
) -> None:
    """Refuse a stage without caches, as the engine does once the others have memory enough."""
    held = [any(group.members for group in stage) for stage in staged]
    if all(held):
        return
    for stage, memory, keeps in zip(staged, available, held, strict=True):
        refusal = plan_pool(stage, load, memory, rules).refusal if keeps else None
        if refusal is not None:
            raise InputError(refusal.message)
    raise InputError(
        "pipeline stage {} of {} holds no layer that keeps a cache: {} fails",
        held.index(False),
        len(staged),
        engine.name,
        remedy="use fewer stages, or deal the layers out otherwise",
    )


def _check_layouts(engine: Engine, staged: Sequence[Sequence[CacheGroup]]) -> None:
    """
    Refuse a stage of states alone beside others that attend: its worker offers other orders of a cache than theirs.

    vllm 0.33.0 v1/attention/backends/utils.py resolve_kv_cache_layout: "Workers disagree".
    """
    attends = [any(spec.kind is not CacheKind.STATE for group in stage for spec in group.members) for stage in staged]
    if any(attends) and not all(attends):
        raise InputError(
            "pipeline stage {} of {} holds no attention: {} fails, for its workers disagree on how a cache is laid out",
            attends.index(False),
            len(staged),
            engine.name,
            remedy="use fewer stages, or deal the layers out otherwise",
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
                counted_per_request=needed,
                sequences=memory // needed,
                length=options.length,
                refusal=None if needed <= memory else Refusal(needed, memory, 0, message),
            )
        )
    return tuple(pools)


def plan_cache(
    model: ModelConfig, engine: Engine, options: ServingOptions, available: int, layout: Layout = ONE_RANK
) -> BlockPool:
    """The pool of one rank of a model without pipeline parallelism, for `available` bytes."""
    return plan_stages(model, engine, options, (available,), layout.one_stage)[0]
