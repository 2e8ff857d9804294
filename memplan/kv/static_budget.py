"""The KV budget of an engine that keeps a static share of the card for weights and caches, and the rest as slack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.core.sentence import Sentence, Text
from memplan.core.units import MIB, format_bytes, round_up
from memplan.hardware import Chip
from memplan.kv.activations import activation_peak
from memplan.kv.budget_parts import BudgetItem, BudgetPart, KvBudget, Memory, card_items, check_share
from memplan.kv.collective_buffers import communication
from memplan.kv.engine import Engine
from memplan.kv.logical import logical_cache
from memplan.kv.pool import BlockPool, Refusal
from memplan.kv.served_weights import ServedWeights, held_weights, weight_notes
from memplan.kv.settings import Choice, EngineSettings, ServingOptions, resolve
from memplan.kv.settings.serving_options import GIVEN
from memplan.kv.tokens import StaticMemory, TokenPools, attention_ranks, sees, start_up, static_share, token_pools
from memplan.models import ModelConfig
from memplan.models.parallel import Layout, stage_spans
from memplan.models.precision import precision
from memplan.models.weight_shapes import WeightGroup


def static_budget(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    options: ServingOptions,
    layout: Layout,
    memory: Memory,
    served: ServedWeights,
) -> KvBudget:
    """
    Itemise the memory of one die under an engine with `token_pools`, by the stage with the least room.

    Raises `InputError` where the engine would refuse the model.
    """
    rules = engine.token_pools
    if rules is None:
        raise ValueError(f"{engine.name} keeps no static share")
    card, driver = card_items(chip, memory)
    found = (card.nbytes or 0) - (driver.nbytes or 0)
    usual = options.batched_tokens or start_up(rules, found).prefill_tokens
    settings = resolve(model, engine, replace(options, batched_tokens=usual), layout)
    options = settings.options
    share, why = memory.utilization, GIVEN
    if share is None:
        share = static_share(model, rules, layout, found, usual, options.requests)
        why = Sentence("what {} leaves for activations, graphs and buffers by its formula", (engine.name,))
    check_share(share)
    scheme = precision(served.precision, model)
    stages = stage_spans(len(model.layers), layout)
    extra, mtp = memory.redundant_experts, options.caches.mtp
    weights = [
        _of_all_ranks(held_weights(model, engine, layout, scheme, span, tokens=usual, mtp=mtp, redundant=extra), layout)
        for span in stages
    ]
    pictures = rules.vision_cache if sees(model, rules) else 0
    static = [StaticMemory(found, sum(held.values()), share, pictures, memory.cache) for held in weights]
    pools, rooms = token_pools(model, engine, options, layout, static)
    tight = min(range(len(stages)), key=lambda stage: (rooms[stage], stage))
    room, held = rooms[tight], weights[tight]
    states = 0 if pools.states is None else (max(0, pools.states) + 1) * pools.state_bytes
    slack = found - sum(held.values()) - pictures * MIB - states - room
    items = [card, driver]
    items.append(BudgetItem(BudgetPart.OUTSIDE, "slack", slack, Sentence("1 - {} of what is left", (f"{share:.4g}",))))
    items += [
        BudgetItem(BudgetPart.WEIGHTS, f"weights: {group}", size, scheme.source, str(group))
        for group, size in sorted(held.items())
    ]
    if pictures:
        items.append(BudgetItem(BudgetPart.WORKSPACE, "kept for pictures", pictures * MIB, engine.source))
    if pools.states is not None:
        reason = Sentence("{} [slot|slots] of {} B", (f"{pools.states + 1:,}", f"{pools.state_bytes:,}"))
        items.append(BudgetItem(BudgetPart.STATES, "recurrent states", states, reason))
    items.append(BudgetItem(BudgetPart.CACHE, "KV cache", max(0, room), Sentence("what is left")))
    choices = (
        *settings.choices,
        Choice(Sentence("static share"), f"{share:.4g}", why),
        Choice(Sentence("tokens of one prefill"), f"{usual:,}", _why_prefill(options, usual)),
        Choice(Sentence("requests at once"), f"{pools.requests:,}", Sentence("the most that pools and tables hold")),
    )
    settings = replace(settings, choices=choices)
    notes = weight_notes(model, layout, served, stages[tight])
    notes += _slack_notes(model, chip, engine, layout, memory, served, options, slack, pools)
    return _report(model, chip, engine, settings, layout, tight, tuple(items), room, pools, notes)


def _of_all_ranks(held: Mapping[str, int], layout: Layout) -> Mapping[str, int]:
    """
    `held`, of which dense layers and the head are divided by all ranks where attention is in data parallelism
    (sglang 0.5.23 models/deepseek_v2.py `mlp_parallel_group`, layers/vocab_parallel_embedding.py).
    """
    wide = (WeightGroup.DENSE_FFN, WeightGroup.LM_HEAD)
    ranks = attention_ranks(layout)
    return {group: -(-size // ranks) if group in wide else size for group, size in held.items()}


def _why_prefill(options: ServingOptions, usual: int) -> Text:
    return GIVEN if options.batched_tokens != usual else Sentence("by the size of the card")


def _slack_notes(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    layout: Layout,
    memory: Memory,
    served: ServedWeights,
    options: ServingOptions,
    slack: int,
    pools: TokenPools,
) -> list[Text]:
    """What must find room in the slack: estimates, which the engine does not look at."""
    activations = memory.activations
    if activations is None:
        tokens = options.batched_tokens or 0
        activations = activation_peak(
            model, layout, served.precision, tokens, memory.step_sequences, engine.profile, eager=memory.eager
        )
    buffers = communication(model, layout, chip, tokens=None, buffer_mb=memory.hccl_buffer_mb).total_bytes
    table = pools.table_bytes(options.length, options.caches.speculative_tokens)
    parts = (format_bytes(slack), format_bytes(activations), format_bytes(buffers), format_bytes(table))
    text = "the slack of {} must hold activations of {}, HCCL buffers of {}, the table of requests of {}, and graphs"
    notes: list[Text] = [Sentence(text, parts)]
    if activations + buffers + table + (memory.graph or 0) > slack:
        notes.append(Sentence("that is more than the slack: expect to run out of memory; lower the static share"))
    return notes


def _report(
    model: ModelConfig,
    chip: Chip,
    engine: Engine,
    settings: EngineSettings,
    layout: Layout,
    stage: int,
    items: tuple[BudgetItem, ...],
    room: int,
    pools: TokenPools,
    notes: list[Text],
) -> KvBudget:
    options = settings.options
    length, page = options.length, pools.page
    span = stage_spans(len(model.layers), layout)[stage]
    logical = logical_cache(model, engine, options.caches, length, span, layout)
    windows = [part.window for layer in model.layers if layer.mixer for part in layer.mixer.caches() if part.window]
    sequences = pools.held_at_once(length, max(windows, default=None), options.batched_tokens or 0)
    per_request = round_up(length, page) // page
    held = int(round_up(length, page) * pools.token_bytes)
    needed = held + pools.fixed_bytes
    fits = not pools.refusal and sequences >= 1
    refusal = Refusal(needed, max(0, room), pools.tokens, pools.refusal) if pools.refusal else None
    block = round(page * pools.token_bytes)
    shown = BlockPool(
        groups=(),
        available_bytes=max(0, room),
        num_blocks=pools.tokens // page,
        bytes_per_block=block,
        planned_per_block=block,
        allocated_per_block=block,
        blocks_per_request=per_request,
        counted_per_request=per_request,
        sequences=sequences,
        length=length,
        refusal=refusal,
    )
    if refusal is not None:
        notes = [*notes, refusal.message]
    return KvBudget(
        model=model.name,
        chip=chip.name,
        engine=engine.name,
        layout=layout,
        dies=engine.dies(layout),
        stage=stage,
        context=length,
        items=items,
        available_bytes=max(0, room),
        pool=shown,
        fixed_bytes_per_request=pools.state_bytes,
        bytes_per_token=pools.token_bytes,
        logical_fixed_bytes=logical.window_bytes + logical.state_bytes,
        logical_bytes_per_token=logical.length_bytes / length,
        waste_bytes=max(0, held + pools.state_bytes - logical.total_bytes),
        tokens=sequences * length,
        sequences=sequences,
        prefix_granularity=page,
        fits=fits,
        missing_bytes=0 if fits else max(1, needed - room),
        refusal=refusal,
        notes=tuple(notes),
        choices=settings.choices,
        token_pools=pools,
    )
