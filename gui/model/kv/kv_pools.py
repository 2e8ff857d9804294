"""The pool of KV blocks as a picture: what a block of each group holds, what a sequence takes, how many fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memplan.kv import KvBudget
from memplan.kv.grouping import CacheGroup
from memplan.kv.specs import CacheKind, CacheSpec, Load

UNPAGED = ("grows with the sequence", "windows and states")
"""What a sequence holds under an engine without pages."""


@dataclass(frozen=True, slots=True)
class Parts:
    """
    Bytes by what is in them; they add up to whole blocks.

    `unfilled` is room in pages that are taken but not written: of the last block, and what windows hold ready for
    tokens under way. `padding` makes pages equal. `absent` is the room of caches that a group has fewer of than others.
    """

    content: int
    unfilled: int
    padding: int
    absent: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.content + self.unfilled + self.padding + self.absent

    @property
    def waste(self) -> int:
        """What holds no content."""
        return self.total - self.content

    def times(self, count: int) -> Parts:
        """The same `count` times."""
        return Parts(self.content * count, self.unfilled * count, self.padding * count, self.absent * count)

    def __add__(self, other: Parts) -> Parts:
        """The parts of both."""
        return Parts(
            self.content + other.content,
            self.unfilled + other.unfilled,
            self.padding + other.padding,
            self.absent + other.absent,
        )


NO_POOL = Parts(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class BlockShare:
    """
    Groups of KV caches that are alike.

    `groups` of them have `caches` each, with pages of `pages` bytes for `tokens` tokens. One sequence holds `blocks`
    blocks of each; `block` is what is in one block when it is full, `sequence` what is in all blocks of one sequence,
    of all `groups` together. `last` is how many tokens are in its last block, `None` where blocks are not filled one
    after the other.
    """

    kind: CacheKind
    parts: tuple[str, ...]
    groups: int
    caches: int
    pages: tuple[int, ...]
    tokens: int
    blocks: int
    block: Parts
    sequence: Parts
    last: int | None

    @property
    def filled(self) -> float:
        """How full the last block is, or all blocks where none is the last."""
        if self.last is not None:
            return self.last / self.tokens
        room = self.sequence.content + self.sequence.unfilled
        return self.sequence.content / room if room else 0.0


@dataclass(frozen=True, slots=True)
class PoolPicture:
    """
    A pool of `blocks` blocks of `block_bytes`, one of them the engine's null block, and what `batch` sequences take.

    Without pages a block is a byte and `shares` is empty; `unpaged` then tells what grows from what does not.
    """

    blocks: int
    block_bytes: int
    null_blocks: int
    blocks_per_sequence: int
    batch: int
    fit: int
    shares: tuple[BlockShare, ...]
    unpaged: tuple[int, int]

    @property
    def needed(self) -> int:
        """Blocks that the sequences wanted take, with the null block."""
        return self.null_blocks + self.batch * self.blocks_per_sequence

    @property
    def missing(self) -> int:
        """Blocks too few for the sequences wanted."""
        return max(0, self.needed - self.blocks)

    @property
    def free(self) -> int:
        """Blocks that the sequences wanted leave."""
        return max(0, self.blocks - self.needed)

    @property
    def sequence(self) -> Parts:
        """What is in all blocks of one sequence."""
        if not self.shares:
            return Parts(sum(self.unpaged), 0, 0, 0)
        return sum((share.sequence for share in self.shares), NO_POOL)


def content_bytes(spec: CacheSpec, load: Load) -> int:
    """What one request under `load` has written into the pages of `spec`."""
    if spec.kind is CacheKind.STATE:
        return spec.payload_bytes
    if spec.kind.grows:
        rows = -(-load.length // load.context_parallel) // spec.entry_tokens
    else:
        rows = min(load.length, spec.window or spec.chunk or load.length)
    return spec.payload_bytes * rows // spec.block_size


def _parts(group: CacheGroup, load: Load, block_bytes: int) -> tuple[Parts, Parts]:
    """What is in one full block of the group, and in all blocks of one sequence."""
    pages = sum(spec.page_bytes for spec in group.members)
    payload = group.payload_bytes
    block = Parts(payload, 0, pages - payload, block_bytes - pages)
    whole = block.times(group.blocks(load))
    content = min(sum(content_bytes(spec, load) for spec in group.members), whole.content)
    return block, Parts(content, whole.content - content, whole.padding, whole.absent)


def shares(groups: Sequence[CacheGroup], load: Load, block_bytes: int) -> tuple[BlockShare, ...]:
    """The groups of a pool of blocks of `block_bytes`, those alike drawn together, in the engine's order."""
    found: dict[tuple[object, ...], BlockShare] = {}
    for group in groups:
        block, sequence = _parts(group, load, block_bytes)
        tokens, blocks = group.block_size * group.specs[0].entry_tokens, group.blocks(load)
        share = BlockShare(
            kind=group.kind,
            parts=tuple(sorted({spec.part for spec in group.specs})),
            groups=1,
            caches=len(group.members),
            pages=tuple(sorted({spec.page_bytes for spec in group.members or group.specs})),
            tokens=tokens,
            blocks=blocks,
            block=block,
            sequence=sequence,
            last=-(-load.length // load.context_parallel) - (blocks - 1) * tokens if group.kind.grows else None,
        )
        key = (share.kind, share.parts, share.caches, share.pages, share.tokens, share.blocks, share.block)
        known = found.get(key)
        if known is not None:
            share = replace(share, groups=known.groups + 1, sequence=known.sequence + sequence)
        found[key] = share
    return tuple(found.values())


def pool_picture(result: KvBudget, load: Load, batch: int, *, paged: bool) -> PoolPicture:
    """The pool of `result` under `load`, the load it was planned for, with `batch` sequences in it."""
    pool = result.pool
    fixed = result.logical_fixed_bytes
    return PoolPicture(
        blocks=pool.num_blocks,
        block_bytes=pool.planned_per_block,
        null_blocks=1 if paged else 0,
        blocks_per_sequence=pool.blocks_per_request,
        batch=batch,
        fit=result.sequences,
        shares=shares(pool.groups, load, pool.planned_per_block),
        unpaged=(0, 0) if paged else (pool.blocks_per_request - fixed, fixed),
    )
