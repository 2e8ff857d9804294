"""The pool of blocks: how many fit, what one request needs, how many requests run at once, as vLLM plans it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.core.bisection import largest_fitting
from memplan.core.errors import InputError
from memplan.core.units import GIB, round_up
from memplan.kv.engine import PlannerRules
from memplan.kv.grouping import CacheGroup
from memplan.kv.specs import CacheKind, Load


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the engine would not start: what one longest request needs, and the longest one that would fit."""

    needed_bytes: int
    available_bytes: int
    estimated_length: int
    message: str


@dataclass(frozen=True, slots=True)
class BlockPool:
    """
    A pool planned for `available_bytes`.

    `bytes_per_block` is what the engine's admission check takes a block for, `planned_per_block` what it divides its
    memory by, `allocated_per_block` what is allocated for one. `counted_per_request` is how many blocks of a request
    the engine counts for its figure of concurrency; `sequences` how many longest requests, of `length` tokens, find all
    their blocks at the same time, one block being the engine's null block. `refusal` is set where the engine would not
    start.
    """

    groups: tuple[CacheGroup, ...]
    available_bytes: int
    num_blocks: int
    bytes_per_block: int
    planned_per_block: int
    allocated_per_block: int
    blocks_per_request: int
    counted_per_request: int
    sequences: int
    length: int
    refusal: Refusal | None

    @property
    def max_concurrency(self) -> float:
        """The engine's own figure: its blocks over those it counts for one request."""
        return self.num_blocks / self.counted_per_request

    @property
    def allocated_bytes(self) -> int:
        """Bytes the pool takes of those available."""
        return self.num_blocks * self.allocated_per_block


def _packed(groups: Sequence[CacheGroup]) -> bool:
    return len(groups) > 1 and all(group.summed for group in groups)


def _group_size(groups: Sequence[CacheGroup]) -> int:
    return max(len(group.members) for group in groups)


def bytes_per_block(groups: Sequence[CacheGroup]) -> int:
    """Bytes of one block over all layers that share the pool."""
    if len(groups) == 1 and groups[0].summed:
        return groups[0].page_bytes
    if not _packed(groups):
        return groups[0].page_bytes * _group_size(groups)
    slots: dict[int, int] = {}
    for group in groups:
        for page, count in Counter(spec.page_bytes for spec in group.members).items():
            slots[page] = max(slots.get(page, 0), count)
    return sum(page * count for page, count in slots.items())


def widest_group(groups: Sequence[CacheGroup], *, side_by_side: bool) -> int:
    """
    Bytes of the pages of the largest group, which the others share (vllm 0.33.0 v1/core/kv_cache_planning.py
    `_get_kv_cache_bytes_per_block`).

    With layers `side_by_side` every block begins where all their kernels can read it.
    """
    widest = max(sum(spec.page_bytes for spec in group.members) for group in groups)
    if not side_by_side:
        return widest
    return round_up(widest, math.lcm(*(spec.stride for group in groups for spec in group.members)))


def _longest_tuple(groups: Sequence[CacheGroup]) -> int:
    """Most caches of one page size in any group, those of multi-token prediction left out."""
    longest = 0
    for group in groups:
        counts = Counter(spec.page_bytes for spec in group.members if not spec.speculative)
        longest = max(longest, max(counts.values(), default=0))
    return longest


def _speculative(groups: Sequence[CacheGroup]) -> list[int]:
    """Page sizes of the caches of multi-token prediction."""
    return [spec.page_bytes for group in groups for spec in group.members if spec.speculative]


def planned_per_block(groups: Sequence[CacheGroup], *, whole_tuples: bool) -> int:
    """
    Bytes by which the engine divides its memory into blocks.

    With `whole_tuples` a packed pool counts every page size of its first group for every tuple of layers, used or not,
    and one more tuple for every cache of multi-token prediction.
    """
    if not (whole_tuples and _packed(groups)):
        return bytes_per_block(groups)
    tuples = _longest_tuple(groups) + len(_speculative(groups))
    return tuples * sum({spec.page_bytes for spec in groups[0].specs})


def allocated_per_block(groups: Sequence[CacheGroup], *, whole_tuples: bool) -> int:
    """Bytes allocated for one block: as planned, but a cache of multi-token prediction takes its own page alone."""
    if not (whole_tuples and _packed(groups)):
        return bytes_per_block(groups)
    tuples = _longest_tuple(groups)
    return tuples * sum({spec.page_bytes for spec in groups[0].specs}) + sum(_speculative(groups))


def needed_bytes(groups: Sequence[CacheGroup], load: Load, per_block: int | None = None) -> int:
    """
    Bytes one request under `load` can come to need, as the engine's admission check adds them up.

    With `per_block` every block of any group takes as much; without it pages are added up as vLLM 0.23 does.
    """
    if per_block is not None:
        return per_block * sum(group.blocks(load) for group in groups)
    if len(groups) == 1 and groups[0].summed:
        return sum(spec.blocks(load) * spec.page_bytes for spec in groups[0].members)
    blocks = sum(group.blocks(load) for group in groups)
    if _packed(groups):
        tuples = max(group.layer_tuples for group in groups)
        return tuples * blocks * sum({spec.page_bytes for spec in groups[0].members})
    return _group_size(groups) * groups[0].page_bytes * blocks


def estimated_length(groups: Sequence[CacheGroup], load: Load, available: int, per_block: int | None = None) -> int:
    """The longest sequence up to `load.length` whose needed bytes fit `available`; 0 if none does."""
    return largest_fitting(
        lambda length: needed_bytes(groups, replace(load, length=length), per_block) <= available, load.length
    )


def longest_whole(pool: BlockPool, load: Load) -> int:
    """The longest sequence up to `load.length` whose blocks are in `pool` at once, beside the null block; 0 if none."""
    return largest_fitting(
        lambda length: sum(group.blocks(replace(load, length=length)) for group in pool.groups) < pool.num_blocks,
        load.length,
    )


_NOTHING_FITS = (
    "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token. Try increasing "
    "`gpu_memory_utilization`."
)


def _gib(count: int) -> str:
    """As the engine's own message writes it."""
    return f"{round(count / GIB, 2)}"


def _check(groups: Sequence[CacheGroup], load: Load, available: int, per_block: int | None) -> Refusal | None:
    if available <= 0:
        return Refusal(0, available, 0, "No available memory for the cache blocks.")
    needed = needed_bytes(groups, load, per_block)
    if needed <= available:
        return None
    longest = estimated_length(groups, load, available, per_block)
    estimate = f" Based on the available memory, the estimated maximum model length is {longest}." if longest else ""
    message = (
        f"To serve at least one request with the model's max seq len ({load.length}), {_gib(needed)} GiB KV cache is "
        f"needed, which is larger than the available KV cache memory ({_gib(available)} GiB).{estimate}"
    )
    return Refusal(needed, available, longest, message)


def _counted(groups: Sequence[CacheGroup], load: Load, rule: str) -> int:
    """Blocks of one request; by the rule `bytes` every group's bytes are told in blocks of the first group."""
    if rule == "groups":
        return sum(group.blocks(load) for group in groups)
    needed = sum(group.blocks(load) * group.page_bytes for group in groups)
    return -(-needed // groups[0].page_bytes)


@dataclass(frozen=True, slots=True)
class PoolRules:
    """
    How a pool is planned: the engine's `planner` rules, `whole_tuples` and layers `side_by_side` as its layout has
    them, and how many `blocks` where the number is overridden. `fits_length` plans for the longest sequence that fits,
    and refuses where none does.
    """

    planner: PlannerRules
    whole_tuples: bool = False
    side_by_side: bool = False
    blocks: int | None = None
    fits_length: bool = False


def plan_pool(groups: Sequence[CacheGroup], load: Load, available: int, rules: PoolRules) -> BlockPool:
    """
    The pool of one worker for `available` bytes.

    The null block is part of `num_blocks`. Raises `InputError` for a model without any cache.
    """
    if not groups:
        raise InputError("this model keeps no KV cache")
    widest = None
    if rules.planner.block_bytes == "widest" and not (rules.whole_tuples and _packed(groups)):
        widest = widest_group(groups, side_by_side=rules.side_by_side)
    checked = bytes_per_block(groups) if widest is None else widest
    planned = planned_per_block(groups, whole_tuples=rules.whole_tuples) if widest is None else widest
    allocated = allocated_per_block(groups, whole_tuples=rules.whole_tuples) if widest is None else widest
    if rules.blocks is not None:
        available = rules.blocks * (checked if widest is None else widest)
    number = max(0, available // planned) if rules.blocks is None else rules.blocks
    free = available - (planned if rules.planner.null_block_checked else 0)
    refusal = None
    if rules.fits_length:
        longest = estimated_length(groups, load, free, widest)
        if longest:
            load = replace(load, length=longest)
        else:
            refusal = Refusal(0, free, 0, _NOTHING_FITS)
    refusal = refusal or _check(groups, load, free, widest)
    per_request = sum(group.blocks(load) for group in groups)
    return BlockPool(
        groups=tuple(groups),
        available_bytes=available,
        num_blocks=number,
        bytes_per_block=checked,
        planned_per_block=planned,
        allocated_per_block=allocated,
        blocks_per_request=per_request,
        counted_per_request=_counted(groups, load, rules.planner.concurrency),
        sequences=max(0, number - 1) // per_request,
        length=load.length,
        refusal=refusal,
    )


def buffered_memory(groups: Sequence[CacheGroup], available: int, shared: str) -> int:
    """
    Bytes that an engine with buffers for each layer says it has of `available`, so that those of all groups fit.

    Not for compressed caches, nor where groups share buffers: those of attention beside any recurrent states
    (`hybrids`; vllm-ascend 0.30.0rc2 worker/worker.py `_scale_kv_cache_memory_for_multi_group`), or beside states that
    are alike in groups of one size (`equal_states`; _310p/kv_cache_sharing.py).
    """
    members = [spec for group in groups for spec in group.members]
    if any(spec.kind is CacheKind.SLIDING_LATENT for spec in members) or _share_buffers(groups, shared):
        return available
    pages = [sum(spec.page_bytes for spec in group.members) for group in groups]
    if not pages or sum(pages) <= max(pages):
        return available
    # In floats, as the engine computes it.
    return int(available * (max(pages) / sum(pages)))


def _share_buffers(groups: Sequence[CacheGroup], shared: str) -> bool:
    """Whether groups of attention and of states lie in the same buffers."""
    members = [spec for group in groups for spec in group.members]
    states = [spec for spec in members if spec.kind is CacheKind.STATE]
    if shared == "hybrids" or not states:
        return bool(states)
    alike = len({spec.identity for spec in states}) == 1 and len({spec.page_bytes for spec in members}) == 1
    beside = [group for group in groups if group.kind is not CacheKind.STATE]
    sizes = {len(group.members) for group in groups if group.kind is CacheKind.STATE}
    return alike and len(beside) == 1 and len(sizes) == 1
