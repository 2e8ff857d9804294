"""What a KV budget decides that an engine has to be told."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.core.errors import InputError
from memplan.core.units import GIB, format_bytes
from memplan.deployment.cases import Case
from memplan.export.settings import PlannedFact
from memplan.kv import KvBudget
from memplan.kv.budget_parts import BudgetPart
from memplan.kv.collective_buffers import HCCL_BUFFER_MB
from memplan.kv.settings import resolve
from memplan.models.cache_parts import CacheContent

_GIVEN = "given"


def serving_facts(case: Case, budget: KvBudget, memories: Mapping[str, int] | None = None) -> dict[str, PlannedFact]:
    """
    The facts of `budget` of `case`; `memories` are bytes of KV outside a die by name, `host` or `pool`.

    Raises `InputError` for a budget into which no sequence fits.
    """
    if not budget.fits:
        raise InputError(
            "{} does not fit: {} are missing for one sequence of {:,} tokens",
            budget.model,
            format_bytes(budget.missing_bytes),
            budget.context,
            remedy="plan with more dies, another precision or a shorter context",
        )
    facts = {**_layout(case), **_schedule(case, budget), **_memory(case, budget)}
    return facts | _beside(case, budget, memories or {})


def _layout(case: Case) -> dict[str, PlannedFact]:
    layout, reason = case.layout, f"the layout that was planned ({case.layout})"
    counts = {
        "tensor_parallel": layout.tensor,
        "pipeline_parallel": layout.pipeline,
        "data_parallel": layout.data,
        "context_parallel": layout.context,
        "expert_parallel": layout.expert,
    }
    facts = {name: PlannedFact(count, reason, usual=count == 1) for name, count in counts.items()}
    facts["ranks"] = PlannedFact(case.engine.dies(layout), reason, usual=True)
    shared = case.model.experts is not None and layout.expert > 1
    # Where experts are shared among data-parallel ranks, those are parts of one group of ranks; else they are copies.
    copies = 1 if shared else layout.data
    facts["replicas"] = PlannedFact(copies, reason, usual=True)
    facts["attention_data_parallel"] = PlannedFact(layout.data // copies, reason, usual=True)
    facts["attention_ranks"] = PlannedFact(layout.tensor * layout.data // copies, reason, usual=True)
    if shared:
        facts["expert_shards"] = PlannedFact(layout.expert_shards, reason, usual=True)
    else:
        del facts["expert_parallel"]
    facts["chip_family"] = PlannedFact(case.chip.family, "the chip that was planned for", usual=True)
    facts["ascend"] = PlannedFact(case.chip.family.startswith("Ascend"), "the chip that was planned for", usual=True)
    if layout.stage_layers:
        layers = ",".join("" if count is None else str(count) for count in layout.stage_layers)
        facts["stage_layers"] = PlannedFact(layers, reason)
    return facts


def _schedule(case: Case, budget: KvBudget) -> dict[str, PlannedFact]:
    asked, started = case.options, case.started()
    settings = resolve(case.model, case.engine, started.options, case.layout).options
    tokens = settings.batched_tokens or case.engine.batched_tokens
    longest = min(budget.context - 1, tokens)
    facts = {
        "context": PlannedFact(budget.context, "the longest sequence that was planned for"),
        "input_tokens": PlannedFact(longest, "a prompt no longer than what activations were planned for", usual=True),
        "sequences": PlannedFact(
            asked.requests or started.memory.step_sequences,
            _GIVEN if asked.requests else "what samplers and buffers were planned for: the engine's default",
        ),
        "prefix_caching": PlannedFact(settings.prefix_caching, _why(asked.prefix_caching)),
    }
    if case.engine.paged or asked.batched_tokens is not None:
        # Engines of token pools choose their tokens by the card's size, as the budget does.
        facts["batched_tokens"] = PlannedFact(tokens, "what activations and windows were planned for")
    if settings.asynchronous is not None and case.engine.paged:
        facts["asynchronous"] = PlannedFact(settings.asynchronous, _why(asked.asynchronous))
    mixers = [layer.mixer for layer in case.model.layers if layer.mixer]
    stateful = any(part.content is CacheContent.RECURRENT for mixer in mixers for part in mixer.caches())
    if asked.caches.block_size is not None or not stateful:
        facts["block_size"] = PlannedFact(settings.caches.block_size, "the page that was planned; it decides what fits")
    if asked.caches.kv not in (None, "auto"):
        facts["kv_type"] = PlannedFact(asked.caches.kv, _GIVEN)
    if asked.caches.index_c8:
        facts["index_c8"] = PlannedFact(True, _GIVEN)
    if asked.caches.speculative_tokens:
        drafted = asked.caches.speculative_tokens
        facts["draft_tokens"] = PlannedFact(drafted, "drafted by the model's own layers, given")
        facts["drafted_and_one"] = PlannedFact(drafted + 1, "so many are checked at once", usual=True)
    if asked.requests:
        facts["asked_sequences"] = PlannedFact(asked.requests, _GIVEN, usual=True)
    return facts


def _why(asked: bool | None) -> str:
    return "what was planned, the engine's own default" if asked is None else _GIVEN


def _memory(case: Case, budget: KvBudget) -> dict[str, PlannedFact]:
    memory = case.memory
    facts = {
        "hccl_buffer_mb": PlannedFact(
            memory.hccl_buffer_mb, "the buffers of HCCL in the budget", usual=memory.hccl_buffer_mb == HCCL_BUFFER_MB
        )
    }
    if memory.redundant_experts:
        facts["redundant_experts"] = PlannedFact(memory.redundant_experts, _GIVEN)
    if case.options.blocks is not None:
        facts["blocks"] = PlannedFact(case.options.blocks, _GIVEN)
    unknown = [item.name for item in budget.items if item.nbytes is None]
    share = case.engine.utilization if memory.utilization is None else memory.utilization
    if memory.cache is not None:
        facts["cache_bytes"] = PlannedFact(memory.cache, _GIVEN)
    elif budget.token_pools is not None:
        # The engine comes to its own share by a formula; only one that was given has to be told.
        if memory.utilization is not None:
            facts["utilization"] = PlannedFact(memory.utilization, _GIVEN)
    elif unknown:
        reason = f"the engine measures what memplan does not know ({', '.join(unknown)}) and keeps to this share"
        facts["utilization"] = PlannedFact(share, reason)
    else:
        reason = f"what is left of the budget on pipeline stage {budget.stage}; every line of it is known"
        facts["cache_bytes"] = PlannedFact(budget.available_bytes, reason)
    kept = next((item for item in budget.items if item.part is BudgetPart.CARD), None)
    if memory.hbm is not None and kept is not None:
        facts["card_bytes"] = PlannedFact(memory.hbm, "size of the card, given", usual=True)
    facts["quantization"] = PlannedFact(
        memory.precision, "how weights were planned", usual=memory.precision == "published"
    )
    return facts


def _beside(case: Case, budget: KvBudget, memories: Mapping[str, int]) -> dict[str, PlannedFact]:
    """Memory outside the dies, as consumers count it."""
    facts: dict[str, PlannedFact] = {}
    if "pool" in memories:
        facts["pool_bytes"] = PlannedFact(memories["pool"], "what each die gives to the pool, given")
    if "host" not in memories:
        return facts
    host, layout = memories["host"], case.layout
    facts["host_bytes"] = PlannedFact(host, "host memory of each die, given", usual=True)
    facts["host_gb"] = PlannedFact(host // GIB, "host memory of each die, given, in whole GiB", usual=True)
    blocks = host // budget.pool.allocated_per_block
    facts["host_blocks"] = PlannedFact(
        blocks, f"blocks in {format_bytes(host)} of host memory a die, given", usual=True
    )
    ranks = layout.tensor * layout.context
    reason = f"{format_bytes(host)} of host memory a die, given, of {ranks} ranks together"
    facts["host_stage_bytes"] = PlannedFact(host * ranks, reason, usual=True)
    return facts


def serving_figures(budget: KvBudget) -> dict[str, int]:
    """What the engine must come to."""
    return {
        "blocks": budget.pool.num_blocks,
        "cache_bytes": budget.available_bytes,
        "tokens": budget.tokens,
        "sequences": budget.sequences,
    }
