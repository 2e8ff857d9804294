"""
Layers that share a block table, as vLLM forms them.

All groups draw pages from one pool. `plain` groups hold layers with one page size, one page of the pool serving one
block of one layer of every group. `summed` groups hold layers with pages of several sizes, whose pages come and go
together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from memplan.core.errors import InputError
from memplan.core.units import round_up
from memplan.kv.grouping.packed_groups import least_padding, packed_buckets
from memplan.kv.grouping.slot_groups import slot_groups
from memplan.kv.specs import CacheKind, CacheSpec, Load


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """
    Specs with one block table.

    `members` are those of the pipeline stage looked at, `specs` those of the whole model: block tables are formed for
    the whole model, memory is spent on the members.
    """

    specs: tuple[CacheSpec, ...]
    members: tuple[CacheSpec, ...]
    summed: bool

    @property
    def kind(self) -> CacheKind:
        """Kind of all specs of the group."""
        return self.specs[0].kind

    @property
    def block_size(self) -> int:
        """Tokens (or entries) of a block."""
        return self.specs[0].block_size

    @property
    def page_bytes(self) -> int:
        """Bytes of one block of one layer, or of all members where the group is summed."""
        if self.summed:
            return sum(spec.page_bytes for spec in self.members or self.specs)
        return self.specs[0].page_bytes

    @property
    def payload_bytes(self) -> int:
        """What of one block of all members is content."""
        return sum(spec.payload_bytes for spec in self.members)

    @property
    def padding(self) -> float:
        """The share of the members' pages that is no content."""
        pages = sum(spec.page_bytes for spec in self.members)
        return 1 - self.payload_bytes / pages if pages else 0.0

    @property
    def layer_tuples(self) -> int:
        """How often the commonest page size occurs among the members."""
        counts = Counter(spec.page_bytes for spec in self.members or self.specs)
        return counts.most_common(1)[0][1]

    def blocks(self, load: Load) -> int:
        """Blocks one request can come to hold."""
        return max(spec.blocks(load) for spec in self.members or self.specs)

    def on_stage(self, layers: range) -> CacheGroup:
        """The group as seen by a pipeline stage that holds `layers`."""
        return replace(self, members=tuple(spec for spec in self.specs if spec.layer in layers))


def _group(specs: Iterable[CacheSpec], *, summed: bool = False) -> CacheGroup:
    kept = tuple(specs)
    return CacheGroup(kept, kept, summed)


@dataclass(frozen=True, slots=True)
class GroupRules:
    """
    How layers are grouped.

    `hybrid` off keeps windows and chunks as if they were full attention, `by_ratio` gives compressed caches of each
    ratio a group of their own, `slots` deals them to slots, `side_by_side` packs pages of several sizes into blocks,
    `pads_pages` pads pages that do not divide the largest, `drafts_together` groups attention beside states with
    that of a draft.
    """

    hybrid: bool = True
    by_ratio: bool = False
    slots: bool = False
    side_by_side: bool = False
    pads_pages: bool = False
    drafts_together: bool = False


def form_groups(specs: Sequence[CacheSpec], rules: GroupRules) -> tuple[CacheGroup, ...]:
    """
    The groups of `specs`, given in the order of the layers.

    Raises `InputError` where the engine would refuse the model.
    """
    kept = tuple(specs) if rules.hybrid else _all_full(specs, rules)
    if not kept:
        return ()
    if len({spec.identity for spec in kept}) == 1:
        return (_group(kept),)
    if _one_type(kept):
        return (_group(kept, summed=True),)
    if rules.side_by_side and len({spec.page_bytes for spec in kept}) > 1:
        return tuple(_group(members, summed=True) for members in packed_buckets(kept, _one_type))
    if rules.slots and any(spec.kind is CacheKind.RING for spec in kept):
        return tuple(_group(members, summed=True) for members in slot_groups(kept))
    if any(spec.kind is CacheKind.SLIDING_LATENT for spec in kept):
        return _packed_groups(kept, rules.by_ratio)
    even = _one_page_size(kept, pads=rules.pads_pages)
    return (_with_drafts(even) if rules.drafts_together else None) or _plain_groups(even)


def _one_type(specs: Sequence[CacheSpec]) -> bool:
    """Whether all specs need the same number of blocks for the same tokens."""
    first = specs[0]
    if len({spec.block_size for spec in specs}) > 1:
        return False
    if first.kind.grows:
        return all(spec.kind.grows for spec in specs)
    if first.kind is CacheKind.STATE and len({spec.page_bytes for spec in specs}) > 1:
        return False
    return all((spec.kind, spec.window, spec.chunk) == (first.kind, first.window, first.chunk) for spec in specs)


def _all_full(specs: Sequence[CacheSpec], rules: GroupRules) -> tuple[CacheSpec, ...]:
    """Windows and chunks kept for every token, in blocks as those of full attention."""
    full = next((spec for spec in specs if spec.kind.grows), None)
    if full is None or len({spec.identity for spec in specs}) <= 1 or _one_type(specs):
        return tuple(specs)
    kinds = {spec.kind for spec in specs}
    windows = {spec.window or spec.chunk for spec in specs if not spec.kind.grows}
    # Packed caches may have several windows.
    packed = CacheKind.SLIDING_LATENT in kinds
    if packed and (rules.by_ratio or rules.side_by_side):
        raise InputError(
            "this engine fails on this model without the hybrid KV cache manager: it can't keep its windows as full "
            "attention",
            remedy="leave the hybrid manager on",
        )
    if CacheKind.STATE in kinds or (len(windows) > 1 and not packed):
        raise InputError(
            "this model can't be served without the hybrid KV cache manager: its caches don't become one type",
            remedy="leave the hybrid manager on",
        )
    return tuple(spec if spec.kind.grows else _kept_whole(spec, full) for spec in specs)


def _kept_whole(spec: CacheSpec, full: CacheSpec) -> CacheSpec:
    if spec.kind is not CacheKind.SLIDING_LATENT:
        return replace(spec, kind=full.kind, window=None, chunk=None)
    payload = spec.payload_bytes // spec.block_size * full.block_size
    return replace(
        spec,
        kind=full.kind,
        block_size=full.block_size,
        payload_bytes=payload,
        page_bytes=round_up(payload, spec.alignment),
        window=None,
    )


def _one_page_size(specs: Sequence[CacheSpec], *, pads: bool) -> tuple[CacheSpec, ...]:
    """All specs with the largest page: smaller ones hold more tokens in a block, or are padded where it `pads`."""
    largest = max(spec.page_bytes for spec in specs)
    unified = []
    for spec in specs:
        times, rest = divmod(largest, spec.page_bytes)
        padded = spec.kind is CacheKind.STATE or (rest and spec.kind is not CacheKind.LATENT)
        if pads and padded and spec.page_bytes < largest:
            unified.append(replace(spec, page_bytes=largest))
            continue
        if rest or (times > 1 and spec.kind is CacheKind.STATE):
            raise InputError(
                "the engine can't serve this model: a page of {} ({} B) does not divide the largest one ({} B)",
                spec.name,
                spec.page_bytes,
                largest,
            )
        unified.append(
            spec
            if times == 1
            else replace(
                spec,
                block_size=spec.block_size * times,
                page_bytes=largest,
                payload_bytes=spec.payload_bytes * times,
            )
        )
    return tuple(unified)


def _plain_groups(specs: Sequence[CacheSpec]) -> tuple[CacheGroup, ...]:
    """
    Groups of one size: that of the least frequent kind, or of the most frequent one where that pads less.

    Layers are dealt out in turn, so that every pipeline stage gets its share of each group.
    """
    alike: dict[tuple[object, ...], list[CacheSpec]] = {}
    for spec in specs:
        alike.setdefault(spec.identity, []).append(spec)
    counts = [len(members) for members in alike.values()]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups = []
    for members in alike.values():
        share = -(-len(members) // size)
        groups += [_group(members[start::share]) for start in range(share)]
    return tuple(groups)


def _with_drafts(specs: Sequence[CacheSpec]) -> tuple[CacheGroup, ...] | None:
    """
    All attention in one group, states in as few as have no more layers; `None` where blocks or states are unlike.

    vllm-ascend 0.30.0rc2 patch/platform/patch_kv_cache_utils.py _get_kimi_k3_dspark_mixed_kv_cache_groups.
    """
    attention = [spec for spec in specs if spec.kind is CacheKind.FULL]
    states = [spec for spec in specs if spec.kind is CacheKind.STATE]
    if not attention or not states or len(attention) + len(states) < len(specs):
        return None
    if len({spec.block_size for spec in attention}) > 1 or len({spec.identity for spec in states}) > 1:
        return None
    share = -(-len(states) // len(attention))
    kept = (attention, *(states[start::share] for start in range(share)))
    return tuple(map(_group, kept))


def _packed_groups(specs: Sequence[CacheSpec], by_ratio: bool) -> tuple[CacheGroup, ...]:
    """
    Groups of DeepSeek-V4: compressed caches first, then windows and compressor states, all cut to tuples of layers of
    one count and padded to the compressed caches' page sizes.
    """
    compressed: dict[object, list[CacheSpec]] = {}
    windows: dict[object, list[CacheSpec]] = {}
    for spec in specs:
        if spec.kind is CacheKind.SLIDING_LATENT:
            windows.setdefault(spec.block_size if by_ratio else (spec.block_size, spec.window), []).append(spec)
        else:
            compressed.setdefault(spec.entry_tokens if by_ratio else None, []).append(spec)
    if not compressed or (by_ratio and len(compressed) < 2):
        raise InputError("the engine can't serve this model: it needs layers of both compression ratios")
    # The group of ratio 4 sets the page sizes of all others.
    ordered = [compressed[key] for key in sorted(compressed, key=lambda key: (key != 4, str(key)))]
    whole = [_group(members, summed=True) for members in (*ordered, *windows.values())]
    tuples = least_padding([group.layer_tuples for group in whole], whole[0].layer_tuples)
    sizes = sorted({spec.page_bytes for spec in ordered[0]})
    split = []
    for group in whole[len(ordered) :]:
        split += _split_windows(group.specs, sizes, tuples)
    return (*whole[: len(ordered)], *split)


def _split_windows(specs: Sequence[CacheSpec], sizes: Sequence[int], tuples: int) -> list[CacheGroup]:
    by_size: dict[int, list[CacheSpec]] = {}
    for spec in specs:
        page = next((size for size in sizes if size >= spec.page_bytes), None)
        if page is None:
            raise InputError(
                "the engine can't serve this model: a page of {} ({} B) is larger than those of the compressed caches",
                spec.name,
                spec.page_bytes,
            )
        by_size.setdefault(page, []).append(replace(spec, page_bytes=page))
    lengths = {len(members) for members in by_size.values()}
    if len(lengths) != 1:
        raise InputError("the engine can't serve this model: windows of several page sizes differ in number")
    share = math.ceil(lengths.pop() / tuples)
    rows = list(zip(*by_size.values(), strict=True))
    return [_group((spec for row in rows[start::share] for spec in row), summed=True) for start in range(share)]
