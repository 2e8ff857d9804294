"""Questions about serving: the largest batch for a context, the longest context for a batch, host memory as a tier."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.core.bisection import largest_fitting
from memplan.core.errors import InputError
from memplan.engines import CAPTURED
from memplan.hardware import Chip, link
from memplan.kv.budget import budget
from memplan.kv.budget_parts import KvBudget, Memory, as_started
from memplan.kv.engine import Engine
from memplan.kv.kept_entries import CacheOptions, block_sizes
from memplan.kv.served_weights import served_weights
from memplan.kv.settings import ServingOptions, cache_types
from memplan.models import ModelConfig
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving import step_time
from memplan.serving.constants import hidden_host_notes, host_of
from memplan.serving.steptime import routing_notes


@dataclass(frozen=True, slots=True)
class Case:
    """
    One thing to serve: a model on a chip with an engine, its options, layout and memory.

    With `even_routing` somebody balances its experts, and steps have the host of `timed_by`, by default that of the
    engine: its times go by them, not its memory.
    """

    model: ModelConfig
    chip: Chip
    engine: Engine
    options: ServingOptions
    layout: Layout
    memory: Memory
    even_routing: bool = False
    timed_by: str | None = None

    @property
    def served_precision(self) -> str:
        """What the chip runs of the weights: what every time of the case is of."""
        return served_weights(self.model, self.chip, self.memory.precision).precision

    @property
    def host(self) -> str:
        """Whose host its steps have, as `memplan step` names engines; raises `InputError` for one that is not known."""
        return host_of(self.engine.name, self.timed_by, eager=self.memory.eager)

    def budget(self) -> KvBudget:
        """The budget of the case as it stands."""
        return budget(self.model, self.chip, self.engine, self.options, self.layout, self.memory)

    def started(self) -> Case:
        """The same case with the tokens and sequences of a step that a server starts with on the card."""
        options, memory = as_started(self.model, self.chip, self.engine, self.options, self.memory)
        return replace(self, options=options, memory=memory)

    def with_cache(self, kv: str | None) -> Case:
        """The same case with caches of another type, as the engine calls it; `None` as it chooses."""
        return replace(self, options=replace(self.options, caches=replace(self.options.caches, kv=kv)))

    def with_context(self, length: int) -> Case:
        """The same case at another context."""
        return replace(self, options=replace(self.options, length=length))


def longest_context(case: Case, batch: int, *, most: int | None = None) -> int:
    """The longest context, up to `most` or the model's own, at which `batch` sequences fit on one rank; 0 if none."""
    limit = most or case.model.max_positions

    def fits(length: int) -> bool:
        result = case.with_context(length).budget()
        return result.fits and result.sequences >= batch

    return largest_fitting(fits, limit)


@dataclass(frozen=True, slots=True)
class Effect:
    """What one option does: the value tried, and the budget it leads to or why the engine refuses it."""

    option: str
    value: str
    result: KvBudget | None
    refused: str = ""


def effect_of(option: str, value: str, case: Case) -> Effect:
    """What `case` leads to, which has `value` for `option`."""
    try:
        return Effect(option, value, case.budget())
    except InputError as error:
        return Effect(option, value, None, str(error))


def effects(
    case: Case,
    *,
    block_sizes: tuple[int, ...] = (),
    batched_tokens: tuple[int, ...] = (),
    kv: tuple[str, ...] = (),
) -> tuple[Effect, ...]:
    """The budgets that other block sizes, other `max_num_batched_tokens` and other cache types lead to."""

    def with_caches(caches: CacheOptions) -> Case:
        return replace(case, options=replace(case.options, caches=caches))

    caches = case.options.caches
    found = [effect_of("block size", str(size), with_caches(replace(caches, block_size=size))) for size in block_sizes]
    for tokens in batched_tokens:
        tried = replace(case, options=replace(case.options, batched_tokens=tokens))
        found.append(effect_of("max_num_batched_tokens", str(tokens), tried))
    found += [effect_of("KV type", name, with_caches(replace(caches, kv=name))) for name in kv]
    return tuple(found)


_USUAL_BLOCKS = (16, 32, 64, 128, 256)
_USUAL_BATCHES = (2048, 4096, 8192, 16384)


def usual_effects(case: Case) -> tuple[Effect, ...]:
    """The effects of the block sizes, batches and cache types that are usual for the engine and the model."""
    sizes = block_sizes(case.model, case.engine) or _USUAL_BLOCKS
    types = cache_types(case.model, case.engine)
    return effects(case, block_sizes=sizes, batched_tokens=_USUAL_BATCHES, kv=types)


@dataclass(frozen=True, slots=True)
class MemoryTier:
    """
    KV cache kept outside the die, in host or pooled memory.

    `tokens` is how many tokens `nbytes` hold, `sequence_bytes` what one sequence of the context takes, `restore_ns`
    how long bringing it back over `link` takes, `None` where the link's rate is not known; `rests_on` is the source of
    that rate.
    """

    nbytes: int
    tokens: int
    sequence_bytes: int
    link: str
    restore_ns: int | None
    rests_on: str


def memory_tier(case: Case, nbytes: int, link_name: str = "h2d") -> MemoryTier:
    """
    What `nbytes` of memory outside a die add to it, stored as the engine's pages are.

    `link_name` is the link they come back over: `h2d` for host memory, `ub` or `ub_host` for memory of a pool.
    """
    result = case.budget()
    inward = link(case.chip, link_name)
    sequence = result.pool.blocks_per_request * result.pool.planned_per_block
    restore = None
    if inward.bytes_per_second:
        restore = (inward.latency_ns or 0) + round(sequence / inward.bytes_per_second * 1e9)
    per_token = result.bytes_per_token
    return MemoryTier(
        nbytes=nbytes,
        tokens=int(nbytes / per_token) if per_token else 0,
        sequence_bytes=sequence,
        link=inward.name,
        restore_ns=restore,
        rests_on=inward.source,
    )


def recompute_ns(case: Case) -> int:
    """Time to prefill one sequence of the context on each data-parallel rank, in place of bringing its cache back."""
    step = ServedStep(
        Phase.PREFILL, case.layout.data, case.options.length,
        precision=case.served_precision, even_routing=case.even_routing,
    )  # fmt: skip
    return step_time(case.model, case.layout, step, case.chip, engine=case.host).duration_ns


def time_notes(case: Case) -> tuple[str, ...]:
    """What to say of times of `case`: whose host they have, and how experts are taken to be chosen."""
    shown = () if case.host == CAPTURED else (f"times have the host of {case.host}: --host names another engine",)
    return (
        *shown,
        *hidden_host_notes(case.host, "--host"),
        *routing_notes(case.model, case.layout, even=case.even_routing),
    )
