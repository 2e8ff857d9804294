"""
Layers whose pages lie side by side in one block, grouped as vLLM does from 0.30 on.

Blocks are strided by the widest group, so pages of several sizes need not be made equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memplan.kv.specs import CacheKind, CacheSpec


def least_padding(counts: Sequence[int], least: int) -> int:
    """The size from `least` up that pads the `counts` to its multiples with the fewest additions, the largest one."""
    sizes = range(max(1, least), max(counts) + 1) or range(max(1, least), max(1, least) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Specs that need the same number of blocks for the same tokens, with those of each page size."""

    specs: tuple[CacheSpec, ...]

    @property
    def by_page(self) -> dict[int, list[CacheSpec]]:
        found: dict[int, list[CacheSpec]] = {}
        for spec in self.specs:
            found.setdefault(spec.page_bytes, []).append(spec)
        return found

    @property
    def balanced(self) -> bool:
        """Whether there are as many pages of every size."""
        return len({len(specs) for specs in self.by_page.values()}) == 1

    @property
    def repeats(self) -> int:
        """How often the commonest page size occurs."""
        return max(Counter(spec.page_bytes for spec in self.specs).values())

    def is_state(self, *, repeating: bool) -> bool:
        """Whether the bucket may be split down to one page a group."""
        kind = self.specs[0].kind
        if kind in (CacheKind.STATE, CacheKind.RING):
            return True
        return not repeating and kind in (CacheKind.SLIDING, CacheKind.SLIDING_LATENT)

    def widest(self, groups: int) -> int:
        """Bytes of the pages of the largest of so many groups."""
        return sum(-(-len(specs) // groups) * page for page, specs in self.by_page.items())


def packed_buckets(
    specs: Sequence[CacheSpec], one_type: Callable[[Sequence[CacheSpec]], bool]
) -> list[tuple[CacheSpec, ...]]:
    """
    The members of each group, in the order of the layers; `one_type` tells whether specs need the same blocks.

    Buckets with as many pages of each size repeat a pattern of layers and are split to groups of as many repeats;
    states and rings are split to fit the block that the others need already (vllm 0.33.0
    v1/core/kv_cache_planning.py `_get_packed_kv_cache_groups`).
    """
    collected: list[list[CacheSpec]] = []
    for spec in specs:
        for members in collected:
            if one_type([*members[:1], spec]):
                members.append(spec)
                break
        else:
            collected.append([spec])
    buckets = [_Bucket(tuple(members)) for members in collected]
    least = max((bucket.repeats for bucket in buckets if bucket.balanced and len(bucket.by_page) > 1), default=0)
    repeats = least_padding([bucket.repeats for bucket in buckets if bucket.balanced], least) if least else None

    def shares(bucket: _Bucket) -> int:
        return -(-bucket.repeats // repeats) if bucket.balanced and repeats is not None else 1

    def states(bucket: _Bucket) -> bool:
        return bucket.is_state(repeating=repeats is not None)

    anchor = max(bucket.widest(len(bucket.specs) if states(bucket) else shares(bucket)) for bucket in buckets)
    groups: list[tuple[CacheSpec, ...]] = []
    for bucket in buckets:
        count = shares(bucket)
        if states(bucket):
            fitting = max(anchor // bucket.specs[0].page_bytes, 1)
            count = max(count, -(-len(bucket.specs) // fitting))
        if count == 1:
            groups.append(bucket.specs)
            continue
        rows = list(zip(*bucket.by_page.values(), strict=False))
        groups += [tuple(spec for row in rows[start::count] for spec in row) for start in range(count)]
    return groups
