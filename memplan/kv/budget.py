"""The KV budget of a served model: from the card's memory down to pools, blocks, tokens and sequences."""

from __future__ import annotations

import math
from dataclasses import replace

from memplan.core.sentence import Sentence, Text, joined
from memplan.core.units import format_bytes
from memplan.hardware import Chip
from memplan.kv.activations import activation_peak
from memplan.kv.budget_parts import (
    BudgetItem,
    BudgetPart,
    KvBudget,
    Memory,
    as_started,
    card_items,
    check_share,
)
from memplan.kv.collective_buffers import communication
from memplan.kv.engine import Engine, RuntimeRules
from memplan.kv.logical import logical_cache
from memplan.kv.pool import BlockPool, longest_whole
from memplan.kv.served_weights import ServedWeights, held_weights, served_weights, weight_notes
from memplan.kv.settings import EngineSettings, ServingOptions, resolve
from memplan.kv.settings.serving_options import GIVEN
from memplan.kv.stage_pools import settings_load, settings_pools
from memplan.kv.static_budget import static_budget
from memplan.models import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout, stage_spans
from memplan.models.precision import precision


def _stage_items(
    model: ModelConfig, chip: Chip, engine: Engine, layout: Layout, options: ServingOptions, memory: Memory, span: range
) -> tuple[BudgetItem, ...]:
    card, driver = card_items(chip, memory)
    usable = (card.nbytes or 0) - (driver.nbytes or 0)
    share = check_share(engine.utilization if memory.utilization is None else memory.utilization)
    scheme = precision(memory.precision, model)
    extra = memory.redundant_experts
    tokens = engine.step_tokens(model, options.batched_tokens)
    held = held_weights(model, engine, layout, scheme, span, tokens=tokens, mtp=options.caches.mtp, redundant=extra)
    activations = memory.activations
    if activations is None:
        activations = activation_peak(
            model, layout, memory.precision, tokens, memory.step_sequences, engine.profile, eager=memory.eager
        )
    graphs = 0 if memory.eager and memory.graph is None else memory.graph
    dispatched = None
    if engine.dispatch_tokens is not None:
        dispatched = min(-(-memory.step_sequences // layout.tensor), engine.dispatch_tokens)
    return (
        card,
        driver,
        BudgetItem(
            BudgetPart.OUTSIDE,
            "outside the engine's share",
            usable - int(usable * share),
            Sentence("{} of what is left ({})", (str(share), engine.name)),
        ),
        *(
            BudgetItem(BudgetPart.WEIGHTS, f"weights: {group}", size, scheme.source, str(group))
            for group, size in sorted(held.items())
        ),
        BudgetItem(
            BudgetPart.ACTIVATIONS,
            "activations",
            activations,
            GIVEN
            if memory.activations is not None
            else Sentence("peak of the op graph of a prefill of {} [token|tokens]", (f"{tokens:,}",)),
        ),
        _runtime(model, chip, engine, layout, memory, usable, dispatched),
        *_used(engine, memory),
        BudgetItem(
            BudgetPart.GRAPHS,
            "graphs",
            graphs,
            _why_graphs(memory),
        ),
        BudgetItem(
            BudgetPart.WORKSPACE,
            "workspace",
            memory.workspace,
            GIVEN if memory.workspace is not None else Sentence("unknown: the kernels' own"),
        ),
    )


def _why_graphs(memory: Memory) -> Text:
    if memory.graph is not None:
        return GIVEN
    return Sentence("none are captured") if memory.eager else Sentence("unknown: measure it on the first start")


def _runtime(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    layout: Layout,
    memory: Memory,
    usable: int,
    dispatched: int | None,
) -> BudgetItem:
    """What is taken outside the framework: buffers of collectives, or all that was measured of the engine's runtime."""
    rules = engine.profile.runtime
    name = "HCCL buffers" if rules is None else "runtime and NCCL"
    if memory.collectives is not None:
        return BudgetItem(BudgetPart.COLLECTIVES, name, memory.collectives, GIVEN)
    if rules is not None:
        taken = rules.taken(layout.ranks, usable)
        return BudgetItem(BudgetPart.COLLECTIVES, name, taken, _why_runtime(rules, layout, taken))
    buffers = communication(
        model, layout, chip, tokens=dispatched, buffer_mb=memory.hccl_buffer_mb, data_mb=engine.profile.data_buffer_mb
    )
    return BudgetItem(BudgetPart.COLLECTIVES, name, buffers.total_bytes, buffers.source)


def _why_runtime(rules: RuntimeRules, layout: Layout, taken: int | None) -> Text:
    if layout.ranks == 1:
        return Sentence("as workers measured it")
    least, most = map(format_bytes, rules.seen)
    if taken is None:
        return Sentence("unknown on this card and its link: workers logged {} to {}", (least, most))
    return Sentence("measured on {}; on other links workers logged {} to {}", (rules.on, least, most))


def _used(engine: Engine, memory: Memory) -> tuple[BudgetItem, ...]:
    """What was in use on the device before the start, where the engine takes it off once more."""
    if not engine.counts_used or not memory.used:
        return ()
    why = Sentence("taken off once more by {}", (engine.name,))
    return (BudgetItem(BudgetPart.OUTSIDE, "in use before the start", memory.used, why),)


def _kernels(engine: Engine, nbytes: int) -> BudgetItem:
    """What an engine keeps from the cache of the memory it finds."""
    share = Sentence("{} of what is left ({})", (str(engine.workspace_share), engine.name))
    return BudgetItem(BudgetPart.WORKSPACE, "kept for kernels", nbytes, share)


def _available(items: tuple[BudgetItem, ...]) -> int:
    first, *rest = (item.nbytes or 0 for item in items)
    return first - sum(rest)


def budget(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    options: ServingOptions,
    layout: Layout | None = None,
    memory: Memory | None = None,
) -> KvBudget:
    """
    Itemise the memory of one die of `chip` and plan what is left as the KV cache of `engine`.

    Raises `InputError` where the engine would refuse the model, and for figures that are missing.
    """
    layout = layout or ONE_RANK
    memory = memory or Memory()
    served = served_weights(model, chip, memory.precision)
    memory = replace(memory, precision=served.precision)
    options, memory = as_started(model, chip, engine, options, memory)
    if engine.token_pools is not None:
        return static_budget(model, chip, engine, options, layout, memory, served)
    stages = stage_spans(len(model.layers), layout)
    settings = resolve(model, engine, options, layout)
    options = settings.options
    items = [_stage_items(model, chip, engine, layout, options, memory, span) for span in stages]
    rooms = [_available(stage) for stage in items]
    if engine.workspace_share:
        shares = [round(max(0, room) * engine.workspace_share) for room in rooms]
        items = [(*stage, _kernels(engine, share)) for stage, share in zip(items, shares, strict=True)]
        rooms = [_available(stage) for stage in items]
    profiled = memory.cache is None
    if memory.cache is not None:
        rooms = [memory.cache for _ in stages]
    pools = settings_pools(model, engine, settings, tuple(max(0, room) for room in rooms), layout, profiled=profiled)
    tightest = min(range(len(stages)), key=lambda stage: (rooms[stage] // pools[stage].planned_per_block, stage))
    left = GIVEN if memory.cache is not None else Sentence("what is left")
    kept = BudgetItem(BudgetPart.CACHE, "KV cache", max(0, rooms[tightest]), left)
    lines = (*items[tightest], kept)
    return _report(model, chip, engine, settings, layout, tightest, lines, rooms[tightest], pools, served)


def _report(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    settings: EngineSettings,
    layout: Layout,
    stage: int,
    items: tuple[BudgetItem, ...],
    room: int,
    pools: tuple[BlockPool, ...],
    served: ServedWeights,
) -> KvBudget:
    pool, options = pools[stage], settings.options
    if options.fits_length:
        options = replace(options, length=pool.length)
        settings = replace(settings, options=options)
    load = settings_load(settings, layout)
    growing = [group for group in pool.groups if group.kind.grows]
    spans = [group.block_size * group.specs[0].entry_tokens for group in growing]
    span = stage_spans(len(model.layers), layout)[stage]
    logical = logical_cache(model, engine, options.caches, options.length, span, layout)
    fixed = logical.window_bytes + logical.state_bytes
    per_token = logical.length_bytes / options.length
    if engine.paged:
        fixed = pool.planned_per_block * sum(group.blocks(load) for group in pool.groups if not group.kind.grows)
        per_token = sum(pool.planned_per_block / tokens for tokens in spans) / layout.context
    held = pool.blocks_per_request * pool.planned_per_block
    # One block is the engine's null block.
    needed = held + (pool.planned_per_block if engine.paged else 0)
    refusal = next((item.refusal for item in pools if item.refusal is not None), None)
    starts = refusal is None and room > 0
    fits = starts and (pool.sequences >= 1 or options.fits_length)
    missing = 0 if fits else max(1, needed - room)
    if refusal is not None and refusal.needed_bytes:
        missing = max(missing, refusal.needed_bytes - refusal.available_bytes)
    unknown = [item.name for item in items if item.nbytes is None]
    notes = weight_notes(model, layout, served, span)
    if pool.available_bytes < room and not engine.workspace_share:
        notes.append(
            Sentence(
                "{} of the {} left are used: buffers are kept for each layer, so those of all groups must fit ({})",
                (format_bytes(pool.available_bytes), format_bytes(room), engine.name),
            )
        )
    if unknown:
        notes.append(
            Sentence("not known and taken as 0: {}", (joined((Sentence(name) for name in unknown), "{}, {}"),))
        )
    if refusal is not None:
        notes.append(refusal.message)
    if fits and not pool.sequences:
        text = (
            "the engine shortens the context to {} tokens without counting its null block: sequences longer than {} "
            "need more blocks than there are"
        )
        notes.append(Sentence(text, (f"{options.length:,}", f"{longest_whole(pool, load):,}")))
    return KvBudget(
        model=model.name,
        chip=chip.name,
        engine=engine.name,
        layout=layout,
        dies=engine.dies(layout),
        stage=stage,
        context=options.length,
        items=items,
        available_bytes=max(0, room),
        pool=pool,
        fixed_bytes_per_request=fixed,
        bytes_per_token=per_token,
        logical_fixed_bytes=logical.window_bytes + logical.state_bytes,
        logical_bytes_per_token=logical.length_bytes / options.length,
        waste_bytes=held - logical.total_bytes,
        tokens=pool.sequences * options.length,
        sequences=pool.sequences,
        prefix_granularity=math.lcm(*spans) * layout.context,
        fits=fits,
        missing_bytes=missing,
        refusal=refusal,
        notes=tuple(notes),
        choices=settings.choices,
    )
