"""Questions about serving: the largest batch for a context, the longest context for a batch, host memory as a tier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from memplan.hardware import Chip, link
from memplan.kv.budget import KvBudget, Memory, budget
from memplan.kv.engine import Engine
from memplan.kv.planner import ServingOptions
from memplan.models import ModelConfig
from memplan.models.parallel import Layout


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to serve: a model on a chip with an engine, its options, layout and memory."""

    model: ModelConfig
    chip: Chip
    engine: Engine
    options: ServingOptions
    layout: Layout
    memory: Memory

    def budget(self) -> KvBudget:
        """The budget of the case as it stands."""
        return budget(self.model, self.chip, self.engine, self.options, self.layout, self.memory)

    def with_context(self, length: int) -> Case:
        """The same case at another context."""
        return replace(self, options=replace(self.options, length=length))


def largest_batch(case: Case) -> int:
    """Sequences of the case's context that one rank holds at once; 0 if none fits."""
    result = case.budget()
    return result.sequences if result.fits else 0


def longest_context(case: Case, batch: int, *, most: int | None = None) -> int:
    """The longest context, up to `most` or the model's own, at which `batch` sequences fit on one rank; 0 if none."""
    limit = most or case.model.max_positions

    def fits(length: int) -> bool:
        result = case.with_context(length).budget()
        return result.fits and result.sequences >= batch

    return _largest(fits, limit)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    if not fits(1):
        return 0
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True)
class Effect:
    """What one option does: the value tried, and the budget it leads to."""

    option: str
    value: str
    result: KvBudget


def effects(
    case: Case, *, block_sizes: tuple[int, ...] = (), batched_tokens: tuple[int, ...] = (), kv: tuple[str, ...] = ()
) -> tuple[Effect, ...]:
    """The budgets that other block sizes, other `max_num_batched_tokens` and other cache types lead to."""
    found = []
    for size in block_sizes:
        caches = replace(case.options.caches, block_size=size)
        found.append(
            Effect("block size", str(size), replace(case, options=replace(case.options, caches=caches)).budget())
        )
    for tokens in batched_tokens:
        tried = replace(case, options=replace(case.options, batched_tokens=tokens))
        found.append(Effect("max_num_batched_tokens", str(tokens), tried.budget()))
    for name in kv:
        caches = replace(case.options.caches, kv=name)
        found.append(Effect("KV type", name, replace(case, options=replace(case.options, caches=caches)).budget()))
    return tuple(found)


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
    sequence = result.pool.blocks_per_request * result.pool.allocated_per_block
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
