"""From one engine to another for the same model, chip and options: which rule changes how many bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.deployment.cases import Case
from memplan.kv.budget_parts import KvBudget
from memplan.kv.engine import Engine

_Exchange = tuple[Sentence, tuple[str, ...]]

_PLANNER: tuple[_Exchange, ...] = (
    (Sentence("bytes of a block"), ("block_bytes",)),
    (Sentence("groups of layers"), ("pads_pages",)),
    (Sentence("null block in what a request may take"), ("null_block_checked",)),
    (Sentence("buffers for each layer"), ("buffers_by_layer", "shared_buffers", "shared_types")),
    (Sentence("count of concurrency"), ("concurrency",)),
)
"""What of a planner's rules is exchanged at a time."""

_PARTS: tuple[_Exchange, ...] = (
    (
        Sentence("share of the memory"),
        ("utilization", "batched_tokens", "step_defaults", "dispatch_tokens", "workspace_share"),
    ),
    (Sentence("block size"), ("default_block_size", "forced_block", "compressed_block", "block_sizes")),
    (
        Sentence("kernels and cache layout"),
        (
            "backends",
            "named_kernels",
            "kv_bytes",
            "kv_scale_bytes",
            "default_kv",
            "refused_kv",
            "kv_as_model",
            "unplanned_kv",
            "checkpoint_kv",
            "latent",
            "expanded",
            "compressed",
            "hybrid",
            "paged",
        ),
    ),
    (Sentence("recurrent states"), ("states",)),
    (Sentence("scheduling ahead"), ("scheduling",)),
    (
        Sentence("what runs at all"),
        (
            "drafting",
            "unpiped",
            "unnamed_unpiped",
            "unserved",
            "lengths",
            "checks_heads",
            "context_unchecked",
            "context_headed",
            "plain_experts",
        ),
    ),
    (Sentence("memory beside the weights"), ("held", "counts_used")),
)
"""The same of an engine's other parts, in the order in which its settings follow from each other."""


@dataclass(frozen=True, slots=True)
class EngineChange:
    """
    One rule exchanged for the other engine's: the budget with it, the one `before`, and the `settings` that it changed,
    each with its values and why.
    """

    rule: Sentence
    before: KvBudget
    result: KvBudget
    settings: tuple[tuple[Sentence, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class EngineComparison:
    """
    The budgets of two engines, `here` and `there`, and the changes that lead from one to the other.

    The changes are made one after another, so that the differences they make add up to the whole one.
    """

    here: KvBudget
    there: KvBudget
    changes: tuple[EngineChange, ...]


def engine_comparison(case: Case, other: Engine) -> EngineComparison:
    """
    What changes where `other` takes the place of the case's engine.

    A rule that can't be exchanged alone is exchanged together with the next. Raises `InputError` where one of the two
    refuses the case.
    """
    if case.engine.token_pools is not None or other.token_pools is not None:
        raise InputError(
            "{} and {} are not compared rule by rule: one deals out blocks, one tokens",
            case.engine.name,
            other.name,
            remedy="compare two engines with blocks, or look at both budgets",
        )
    here = case.budget()
    there = replace(case, engine=other).budget()
    changes: list[EngineChange] = []
    before, held = here, list[Sentence]()
    for rule, engine in _steps(case.engine, other):
        try:
            result = replace(case, engine=engine).budget()
        except InputError:
            held.append(rule)
            continue
        if _figures(result) != _figures(before) or _settings(result) != _settings(before):
            for earlier in reversed(held):
                rule = Sentence("{}, {}", (earlier, rule))
            changes.append(EngineChange(rule, before, result, _changed(before, result)))
        before, held = result, []
    return EngineComparison(here, there, tuple(changes))


def _steps(here: Engine, there: Engine) -> Iterator[tuple[Sentence, Engine]]:
    """`here` with ever more of `there`, the last one all of it."""
    engine = here
    for rule, names in _PLANNER:
        planner = replace(engine.planner, **{name: getattr(there.planner, name) for name in names})
        engine = replace(engine, planner=planner)
        yield rule, engine
    for rule, names in _PARTS:
        engine = replace(engine, **{name: getattr(there, name) for name in names})
        yield rule, engine
    yield Sentence("all else"), there


def _figures(result: KvBudget) -> tuple[object, ...]:
    pool = result.pool
    return (
        result.available_bytes,
        pool.available_bytes,
        pool.planned_per_block,
        pool.num_blocks,
        pool.blocks_per_request,
        pool.max_concurrency,
        pool.refusal,
        tuple((group.kind, group.block_size, group.page_bytes, len(group.specs)) for group in pool.groups),
        result.sequences,
    )


def _settings(result: KvBudget) -> Mapping[str, tuple[Sentence, str, str]]:
    return {str(item.setting): (item.setting, str(item.value), str(item.reason)) for item in result.choices}


def _changed(before: KvBudget, after: KvBudget) -> tuple[tuple[Sentence, str, str, str], ...]:
    old, new = _settings(before), _settings(after)
    found = []
    for key, (setting, value, reason) in new.items():
        was = old[key][1] if key in old else ""
        if was != value:
            found.append((setting, was, value, reason))
    return tuple(found)
